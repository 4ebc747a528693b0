//! The narrative against a server that speaks chat completions, and against some that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use stocktide_domain::Money;
use stocktide_domain::masked::MaskedReject;
use stocktide_domain::report::{
    DataQuality, Fates, LateEvents, Outliers, OversoldStock, RejectCount, Rejects, ValueMismatches,
};
use stocktide_reports::narrative::{ANSWER_BYTES, About, Narrative, NarrativeOptions, TEXT_CHARS, narrate};
use stocktide_reports::{Storage, StorageOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn quality() -> DataQuality {
    let (topic, reason) = ("online_orders".to_owned(), "unknown_product".to_owned());
    DataQuality {
        fates: vec![Fates {
            topic: topic.clone(),
            consumed: 120,
            applied: 110,
            duplicates: 3,
            rejected: 7,
            parked: 0,
        }],
        rejects: Rejects {
            records: 7,
            by_reason: vec![RejectCount { topic, reason, records: 7 }],
            reason_aged_out: 0,
        },
        outliers: Outliers {
            window_days: 28,
            window_lines: 4_100,
            median_quantity: Some(3),
            spread_factor: None,
            largest_usual: Some(400),
            found: 1,
            rows: vec![],
        },
        value_mismatches: ValueMismatches { orders: 0, difference: Money::default(), rows: vec![] },
        late_events: LateEvents { grace_seconds: 3_600, events: 0, by_source: vec![] },
        oversold: OversoldStock { at_end: 0, during_day: 0, rows: vec![] },
    }
}

fn about() -> About {
    About { date: "2011-12-09".parse().unwrap(), revision: 2, figures_sha256: "ab12".to_owned() }
}

fn options(url: &str) -> NarrativeOptions {
    NarrativeOptions {
        url: url.to_owned(),
        model: "small-1".to_owned(),
        key: Some("sk-hush".to_owned()),
        timeout: Duration::from_secs(20),
    }
}

async fn asked(options: &NarrativeOptions) -> Narrative {
    let raw = br#"{"type": "placed", "order_id": "536365", "user_id": "Ann Smith", "items": [{"quantity": 80995}]}"#;
    let masked = MaskedReject::of("online_orders", "unknown_product", Some(raw), Some(raw.len() as u64));
    let rejects = vec![masked; 50];
    narrate(options, &about(), &quality(), &rejects).await
}

fn missing(narrative: Narrative) -> String {
    assert_eq!(narrative.file(), None);
    let Narrative::Missing { reason } = narrative else { panic!("{narrative:?}") };
    assert!(!reason.contains("hush") && !reason.contains('\n'), "{reason}");
    reason
}

/// A server with one answer to everything; returns the URL up to `/v1`.
async fn serve(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(routing::any(move |request: Request| {
        let answer = answer.clone();
        async move { answer(request) }
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/v1")
}

/// A server without HTTP: it reads what comes, writes some bytes, and keeps the connection.
async fn serve_bytes(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut vec![0; 64 * 1024]).await;
            let _ = connection.write_all(bytes).await;
            kept.push(connection);
        }
    });
    format!("http://{address}/v1")
}

/// As OpenAI's reference shows an answer.
fn completion(content: &str) -> Response {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_741_569_952, "model": "small-1",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": { "role": "assistant", "content": content, "refusal": null, "annotations": [] },
        }],
        "usage": { "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29 },
    });
    Json(body).into_response()
}

#[tokio::test]
async fn the_answer_is_kept_as_the_models_own_words() {
    let url = serve(|_| completion("Seven orders name products that are unknown.")).await;
    // A slash at the end of the URL does no harm.
    let narrative = asked(&options(&format!("{url}/"))).await;
    let Narrative::Written { model, text, .. } = &narrative else { panic!("{narrative:?}") };
    assert_eq!((model.as_str(), text.as_str()), ("small-1", "Seven orders name products that are unknown."));
    let file = String::from_utf8(narrative.file().unwrap()).unwrap();
    assert!(
        file.starts_with(
            "Remarks of a language model (small-1) on the data quality of 2011-12-09, revision 2.\n"
        ),
        "{file}"
    );
    let end = "\nFigures: SHA-256 ab12.\n\nSeven orders name products that are unknown.\n";
    assert!(file.ends_with(end), "{file}");
    // They are about no other revision, and about no other figures.
    assert!(about().is_of(&file));
    assert!(!About { revision: 1, ..about() }.is_of(&file));
    assert!(!About { figures_sha256: "cd34".to_owned(), ..about() }.is_of(&file));
    assert!(!about().is_of(""));
    assert_eq!(
        serde_json::to_value(&narrative).unwrap(),
        json!({ "state": "written", "model": "small-1", "date": "2011-12-09", "revision": 2,
            "figures_sha256": "ab12", "text": text })
    );
}

#[tokio::test]
async fn the_endpoint_is_told_counts_and_masked_rejects_and_no_more() {
    type Seen = Option<(String, HeaderMap, Value)>;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let told = Arc::clone(&seen);
    let app = Router::new().fallback(routing::post(move |headers: HeaderMap, request: Request| async move {
        let path = request.uri().path().to_owned();
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        *told.lock().unwrap() = Some((path, headers, serde_json::from_slice(&body).unwrap()));
        completion("ok")
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert!(matches!(asked(&options(&url)).await, Narrative::Written { .. }));

    let (path, headers, body) = seen.lock().unwrap().take().unwrap();
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(headers["authorization"], "Bearer sk-hush");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!((&body["model"], &body["stream"]), (&json!("small-1"), &json!(false)));
    let [system, user] = &body["messages"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((&system["role"], &user["role"]), (&json!("system"), &json!("user")));
    let facts: Value = serde_json::from_str(user["content"].as_str().unwrap()).unwrap();
    assert_eq!(facts["rejected_records"]["by_reason"][0]["records"], 7);
    let sample = facts["some_rejected_records_masked"].as_array().unwrap();
    assert_eq!(sample.len(), 20, "of 50");
    assert_eq!(
        sample[0]["shape"],
        r#"{items: [{quantity: 80995}], order_id: text(6), type: "placed", user_id: text(9)}"#
    );
    assert!(!body.to_string().contains("Ann") && !body.to_string().contains("hush"), "{body}");
}

#[tokio::test]
async fn an_answer_that_would_be_markup_is_plain_text() {
    let url = serve(|_| completion("<img src=x onerror=alert(1)>\u{1b}]0;owned\u{7} & <b>fine</b>")).await;
    let narrative = asked(&options(&url)).await;
    let Narrative::Written { text, .. } = &narrative else { panic!("{narrative:?}") };
    assert_eq!(text, "‹img src=x onerror=alert(1)›]0;owned & ‹b›fine‹/b›");
    let file = String::from_utf8(narrative.file().unwrap()).unwrap();
    assert!(!file.contains(['<', '>', '\u{1b}']), "{file}");
}

#[tokio::test]
async fn a_long_answer_is_cut_and_a_huge_one_is_not_read() {
    let url = serve(|_| completion(&"word ".repeat(20_000))).await;
    let Narrative::Written { text, .. } = asked(&options(&url)).await else { panic!() };
    assert_eq!(text.chars().count(), TEXT_CHARS);

    // 64 KiB at a time, without end.
    let piece = || Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]);
    let endless = move |_| Body::from_stream(futures_util::stream::repeat_with(piece)).into_response();
    let url = serve(endless).await;
    assert_eq!(
        missing(asked(&options(&url)).await),
        format!("the answer is longer than {ANSWER_BYTES} bytes")
    );
}

#[tokio::test]
async fn a_hanging_endpoint_takes_no_longer_than_it_is_given() {
    let silent = serve_bytes(b"").await;
    let half = serve_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"choices\": [").await;
    let drop_by_drop = |_| {
        let drops = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(" "), ()))
        });
        Body::from_stream(drops.boxed()).into_response()
    };
    for url in [silent, half, serve(drop_by_drop).await] {
        let begun = Instant::now();
        let options = NarrativeOptions { timeout: Duration::from_millis(300), ..options(&url) };
        assert_eq!(missing(asked(&options).await), "no answer within 0.3 seconds");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    let page = serve(|_| "<html><body>Welcome to nginx!</body></html>".into_response()).await;
    let other =
        serve(|_| Json(json!({ "choices": [{ "message": { "content": 7 } }] })).into_response()).await;
    for url in [page, other] {
        assert_eq!(missing(asked(&options(&url)).await), "the answer is not a chat completion");
    }
    let broken = "the connection broke off, or what came over it is not HTTP";
    assert_eq!(missing(asked(&options(&serve_bytes(b"\0\xffSSH-2.0-OpenSSH_9.6\r\n").await)).await), broken);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = asked(&options(&format!("http://{nobody}/v1"))).await;
    assert_eq!(missing(gone), "the endpoint cannot be reached");
    assert!(missing(asked(&options("http://[::1/v1")).await).starts_with("the request cannot be built"));
}

#[tokio::test]
async fn a_refusal_is_told_by_its_status_and_nothing_that_was_sent_with_it() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR]
    {
        let url = serve(move |_| (status, "Incorrect API key provided: sk-hush").into_response()).await;
        let expected = format!("the endpoint answered with status {}", status.as_u16());
        assert_eq!(missing(asked(&options(&url)).await), expected);
    }
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirection() {
    let visited = Arc::new(Mutex::new(0));
    let count = Arc::clone(&visited);
    let elsewhere = serve(move |_| {
        *count.lock().unwrap() += 1;
        completion("ok")
    })
    .await;
    let to = format!("{elsewhere}/chat/completions");
    let url =
        serve(move |_| (StatusCode::TEMPORARY_REDIRECT, [("location", to.clone())]).into_response()).await;
    assert_eq!(missing(asked(&options(&url)).await), "the endpoint answered with status 307");
    assert_eq!(*visited.lock().unwrap(), 0);
}

#[tokio::test]
async fn the_remarks_are_kept_beside_the_report_and_go_with_the_revision_they_are_about() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::in_directory(directory.path(), &StorageOptions::of_process()).unwrap();
    let date = "2011-12-09".parse().unwrap();
    assert_eq!(storage.narrative(date).await.unwrap(), None);
    let written =
        Narrative::Written { model: "small-1".to_owned(), about: about(), text: "Fine.".to_owned() };
    storage.put_narrative(date, &written).await.unwrap();
    let path = directory.path().join("daily_report/date=2011-12-09/narrative.txt");
    assert_eq!(std::fs::read(&path).unwrap(), written.file().unwrap());
    assert!(storage.narrative(date).await.unwrap().unwrap().ends_with("\n\nFine.\n"));
    let missing = Narrative::Missing { reason: "no answer".to_owned() };
    for _ in 0..2 {
        storage.put_narrative(date, &missing).await.unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn the_options_do_not_show_the_key() {
    let options = options("http://ann:hush@127.0.0.1/v1");
    assert!(!format!("{options:?}").contains("hush"), "{options:?}");
}
