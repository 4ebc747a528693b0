//! What does not let us in, or should not be let in by us, is one line that names it.

use std::process::Command;

use crate::command::{Outcome, run, stocktide};
use crate::world::{MARK, World, password};

const EVENT: &str = r#"{"event_id": "01941f29-7c00-7aaa-8aaa-000000000001", "order_id": "o-1",
    "order_timestamp": "2026-11-01T10:00:00Z", "items": [{"product_id": "kit-001", "quantity": 1, "price_per_unit": "1.00"}]}"#;

/// The one line, without a secret in it.
fn line(command: &mut Command) -> String {
    let outcome: Outcome = run(command);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(!outcome.stderr.contains(MARK) && !outcome.stdout.contains(MARK), "{outcome:?}");
    outcome.complaint().to_owned()
}

fn holds(line: &str, parts: &[&str]) {
    println!("{line}\n");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_keeps_us_out_is_named_in_one_line() {
    let world = World::start(2060).await;
    let event = world.file("event.json");
    std::fs::write(&event, EVENT).unwrap();
    // Brokers ------------------------------------------------------------------------------------------------------------
    let send = |user: &str| world.command(user, &["send", "online_orders", event.to_str().unwrap()]);
    let port = world.stack.secure_brokers().replace("localhost:", "");
    let wrong_ca = line(send("producer").env("STOCKTIDE_KAFKA_CA_FILE", world.file("other-ca.pem")));
    holds(&wrong_ca, &["Kafka at localhost:", "is signed by nobody in", "other-ca.pem"]);
    let wrong_host = line(send("producer").env("STOCKTIDE_KAFKA_BROKERS", format!("127.0.0.1:{port}")));
    holds(&wrong_host, &["the certificate of 127.0.0.1:", "is for another host", "localhost"]);
    let wrong_password = line(
        send("producer")
            .env_remove("STOCKTIDE_KAFKA_SASL_PASSWORD_FILE")
            .env("STOCKTIDE_KAFKA_PROPERTIES_SASL_PASSWORD", format!("{MARK}-wrong")),
    );
    holds(&wrong_password, &["the brokers refuse the user \"stocktide-producer\"", "wrong name or password"]);
    let no_tls = line(send("producer").env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers()));
    holds(&no_tls, &["does not speak TLS"]);
    let no_file = line(send("producer").env("STOCKTIDE_KAFKA_CA_FILE", "/nowhere.pem"));
    holds(&no_file, &["/nowhere.pem"]);
    // A service does not wait for what does not pass by itself.
    let processor =
        line(world.command("processor", &["processor"]).env("STOCKTIDE_KAFKA_SASL_USERNAME", "nobody"));
    holds(&processor, &["the brokers refuse the user \"nobody\""]);

    // PostgreSQL ---------------------------------------------------------------------------------------------------------
    let facts = |url: String| {
        let mut command = stocktide(&["facts", "o-1"]);
        command.env("STOCKTIDE_DATABASE_URL", url);
        command
    };
    let url = world.url("owner", "ca.pem");
    let wrong_ca = line(&mut facts(world.url("owner", "other-ca.pem")));
    holds(&wrong_ca, &["PostgreSQL at postgres://stocktide-owner:***@localhost:", "is signed by nobody in"]);
    let wrong_host = line(&mut facts(url.replace("@localhost:", "@127.0.0.1:")));
    holds(&wrong_host, &["is for another host", "localhost"]);
    let wrong_password = line(&mut facts(url.replace(&password("owner"), &format!("{MARK}-wrong"))));
    holds(&wrong_password, &["password authentication failed for user \"stocktide-owner\""]);
    let in_clear = line(&mut facts(
        url.replace("sslmode=verify-full", "sslmode=disable").split("&sslroot").next().unwrap().to_owned(),
    ));
    holds(&in_clear, &["no pg_hba.conf entry for host", "no encryption"]);
    let stranger = line(&mut facts(world.url("stranger", "ca.pem")));
    holds(&stranger, &["permission denied for database", "stocktide"]);
    let mut processor = world.command("producer", &["processor"]);
    let processor = line(
        processor
            .env_remove("STOCKTIDE_DATABASE_URL_FILE")
            .env("STOCKTIDE_DATABASE_URL", world.url("processor", "other-ca.pem")),
    );
    holds(&processor, &["PostgreSQL at postgres://stocktide-processor:***@", "is signed by nobody in"]);

    // The processor's own client, too.
    for (url, part) in [
        (world.url("processor", "other-ca.pem"), "UnknownIssuer"),
        (url.replace("@localhost:", "@127.0.0.1:"), "not valid for name"),
        (url.replace(&password("owner"), "wrong"), "password authentication failed"),
    ] {
        let error = connect(url).await;
        holds(&error, &[part]);
        assert!(!error.contains(MARK) && !error.contains('\n'), "{error}");
    }

    // ACLs ---------------------------------------------------------------------------------------------------------------
    world.migrate_database().await;
    let migrate = line(&mut world.command("stranger", &["migrate"]));
    holds(&migrate, &["permission denied for database"]);
    let migrate = line(&mut world.command("owner", &["migrate"]));
    holds(&migrate, &["cannot create topic online_orders", "authorization failed"]);
    world.make_topics().await;
    let send = line(&mut send("producer"));
    holds(&send, &["topic online_orders does not exist", "or we lack a right on it"]);
    let processor = line(world.command("processor", &["processor"]).env("STOCKTIDE_LOG_FILTER", "off"));
    holds(&processor, &["we lack"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_named_in_one_line() {
    let world = World::start(2024).await;
    let mut tail = world.command("producer", &["topics", "list"]);
    holds(
        &line(&mut tail),
        &["Kafka at localhost:", "the certificate of localhost:", "has expired (2024-01-01"],
    );
    let mut facts = stocktide(&["facts", "o-1"]);
    facts.env("STOCKTIDE_DATABASE_URL", world.url("owner", "ca.pem"));
    holds(&line(&mut facts), &["PostgreSQL at", "has expired (2024-01-01"]);
    let error = connect(world.url("processor", "ca.pem")).await;
    holds(&error, &["certificate expired"]);
}

/// What tokio-postgres says.
async fn connect(url: String) -> String {
    let options = stocktide_store::WriterOptions {
        url,
        timezone: chrono_tz::UTC,
        reject_uncovered: false,
        lock_timeout: std::time::Duration::from_secs(1),
        payments_wait: std::time::Duration::ZERO,
    };
    stocktide_store::Writer::connect(options).await.err().expect("it is kept out").to_string()
}
