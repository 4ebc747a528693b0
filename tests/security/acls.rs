//! What the brokers allow: nothing but what `topics acls` lists, to whoever shows a password or a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::command::{run, stocktide};
use crate::world::World;

#[test]
fn what_each_service_needs_is_printed_for_kafkas_own_tool_and_as_json() {
    let text = run(&mut stocktide(&["topics", "acls"])).done().stdout;
    let line = "kafka-acls.sh --bootstrap-server \"$BROKERS\" --add --allow-principal User:stocktide-processor \
                --operation Write --transactional-id stocktide- --resource-pattern-type prefixed";
    assert!(text.lines().any(|printed| printed == line), "{text}");
    let own = ["topics", "acls", "--service", "api", "--principal", "api=User:CN=api", "--json"];
    let rows = run(&mut stocktide(&own)).done().documents();
    assert_eq!(
        rows[1],
        json!({ "service": "api", "principal": "User:CN=api", "kind": "topic", "names": ["inventory_updates"],
                "prefixed": false, "operations": ["Read"] })
    );
    let wrong = run(&mut stocktide(&["topics", "acls", "--principal", "shop=User:x"]));
    assert_eq!(wrong.code, 2);
    assert!(wrong.complaint().starts_with("--principal shop=User:x: allowed: "), "{wrong:?}");
}

/// A token that the brokers of the tests believe: they take unsigned ones.
fn token(subject: &str, seconds: i64) -> String {
    let now = stocktide_runtime::clock::now().timestamp();
    let claims = json!({ "sub": subject, "iat": now, "exp": now + seconds });
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_file_lets_its_subject_in_and_an_old_one_nobody() {
    let world = World::start(2060).await;
    world.make_topics().await;
    world.give_acls();
    let file = world.file("token");
    let with_token = |user: &str, args: &[&str]| {
        let mut command = world.command(user, args);
        command
            .env_remove("STOCKTIDE_KAFKA_SASL_USERNAME")
            .env_remove("STOCKTIDE_KAFKA_SASL_PASSWORD_FILE")
            .env("STOCKTIDE_KAFKA_SASL_MECHANISM", "OAUTHBEARER")
            .env("STOCKTIDE_KAFKA_OAUTH_TOKEN_FILE", &file);
        command
    };
    std::fs::write(&file, token("stocktide-jobs", 3_600)).unwrap();
    // A consumer, and an admin client: nobody polls the latter.
    let topics = run(&mut with_token("jobs", &["topics", "list", "--json"])).done().documents();
    assert!(topics.iter().any(|line| line["topic"] == "dlq"), "{topics:?}");
    std::fs::write(&file, token("stocktide-owner", 3_600)).unwrap();
    run(&mut with_token("owner", &["migrate"])).done();
    std::fs::write(&file, token("stocktide-jobs", 3_600)).unwrap();
    let verified = run(&mut with_token("jobs", &["verify"]));
    assert_eq!(verified.code, 0, "{verified:?}");
    // The processor joins its group, and begins transactions.
    std::fs::write(&file, token("stocktide-processor", 3_600)).unwrap();
    run(&mut with_token("processor", &["processor", "--until-caught-up"])).done();

    let refusals =
        [(token("stocktide-jobs", -60), "oken"), ("hush".to_owned(), "no JWT with sub and exp in it")];
    for (text, reason) in refusals {
        std::fs::write(&file, &text).unwrap();
        let refused = run(&mut with_token("jobs", &["topics", "list"]));
        println!("{}", refused.complaint());
        assert!(refused.code == 1 && refused.complaint().contains(reason), "{refused:?}");
        assert!(!refused.stderr.contains(&text), "{refused:?}");
    }
}
