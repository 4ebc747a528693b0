//! Bad input: each is refused by name, and nothing is harmed.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use stocktide_api::Api;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_runtime::ConfigError;
use stocktide_runtime::admin::Health;
use stocktide_store::migrate;

use crate::client::{Served, settings};

/// A database with the schema, and Kafka away.
async fn database() -> Stack {
    let stack = Stack::start(StackOptions { kafka: false, ..StackOptions::default() }).await.unwrap();
    migrate::run(&stack.database_url(), "GBP", "UTC").await.unwrap();
    stack
}

const NOBODY: &str = "127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_name() {
    let stack = database().await;
    let api =
        Served::start(&settings(&stack.database_url(), NOBODY, &[("STOCKTIDE_API_REQUEST_TIMEOUT", "5s")]))
            .await;
    parameters(&api).await;
    hostile_texts(&api).await;
    routes_and_methods(&api).await;
    tokio::join!(slow_and_broken_clients(&api), clients_who_do_not_read(&api));
    // Nothing of this was a mistake in the program.
    assert!(!api.get("/metrics").await.text().contains("status=\"500\""));
    api.end().await;
    stack.stop().await.unwrap();
}

async fn parameters(api: &Served) {
    for (path, name) in [
        ("/stats/top/0", "n"),
        ("/stats/top/-1", "n"),
        ("/stats/top/1000000000", "n"),
        ("/stats/top/ten", "n"),
        ("/stats/top/%31%30x", "n"),
        ("/stats/top/10?by=revenue", "by"),
        ("/stats/top/10?start=2025-01-01", "end"),
        ("/stats/top/10?end=2025-01-01", "start"),
        ("/stats/top/10?start=2025-02-01&end=2025-01-01", "end"),
        ("/stats/top/10?start=2025-01-01&end=2025-02-01", "end"),
        ("/stats/top/10?start=1900-01-01&end=2999-12-31", "end"),
        ("/stats/top/10?start=2025-02-30&end=2025-03-01", "start"),
        ("/stats/monthly", "start"),
        ("/stats/monthly?start=2024-01", "end"),
        ("/stats/monthly?start=2024-13&end=2025-01", "start"),
        ("/stats/monthly?start=2024-02&end=2024-01", "end"),
        ("/stats/monthly?start=1900-01&end=2999-12", "end"),
        ("/stats/monthly?start=2024-01&start=2024-02&end=2024-03", "start"),
        ("/stats/monthly?start=2024-01&end=2024-02&x=1", "x"),
        ("/stats/global?limit=1", "limit"),
        ("/stock?status=LOW", "status"),
        ("/stock?limit=0", "limit"),
        ("/stock?limit=501", "limit"),
        ("/stock?limit=99999999999999999999", "limit"),
        ("/stock?location=", "location"),
        ("/stock?location=%00", "location"),
        ("/stock?q=%ff", "q"),
        ("/stock?cursor=x", "cursor"),
        ("/stock?cursor=eyJhIjoxfQ", "cursor"),
        ("/products/a/stock?cursor=WyIyMDI1LTAxLTAxVDAwOjAwOjAwWiIsMV0", "cursor"),
        ("/orders/a?source=payments", "source"),
        ("/reports/2025-13-01", "date"),
        ("/reports/yesterday", "date"),
        ("/reports/2025-01-01?revision=0", "revision"),
        ("/dlq?reason=bad", "reason"),
        ("/dlq?topic=dlq", "topic"),
        ("/dlq/reasons?hours=0", "hours"),
        ("/jobs/runs?state=done", "state"),
        ("/users/%00/stats", "id"),
        ("/users//stats", "id"),
        ("/health?x=1", "x"),
    ] {
        let problem = api.get(path).await.problem(400);
        assert_eq!(problem["parameter"], name, "{path}: {problem}");
    }
    let long = "x".repeat(257);
    assert_eq!(api.get(&format!("/users/{long}/stats")).await.problem(400)["parameter"], "id");
    assert_eq!(api.get("/users/%ff/stats").await.problem(400)["detail"], "the path is not UTF-8 text");
    let headers = [("last-event-id", "1.x")];
    let problem = api.ask(Method::GET, "/stock/stream", &headers, Vec::new()).await.problem(400);
    assert_eq!(problem["parameter"], "Last-Event-ID");
    let card = api.get("/stock?status=4111111111111111").await.problem(400).to_string();
    assert!(card.contains("************1111") && !card.contains("4111"), "{card}");
}

/// Texts that mean something to SQL, HTML, shells, log files and terminals mean nothing here.
async fn hostile_texts(api: &Served) {
    for text in [
        "' OR '1'='1",
        "'; DROP TABLE orders; --",
        "\\'; SELECT pg_sleep(10); --",
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "$(reboot)`id`",
        "../../etc/passwd",
        "%' AND 1=1 --",
        "\u{1b}[31mred",
        "a\r\nX-Injected: 1",
        "\u{202e}evil",
        "😀",
        "%00",
    ] {
        let text = text.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02X}").unwrap();
            text
        });
        for path in [
            format!("/users/{text}/stats"),
            format!("/products/{text}/stock"),
            format!("/orders/{text}"),
            format!("/orders/{text}?source=store_sales"),
        ] {
            let answer = api.get(&path).await;
            answer.problem(404);
            assert!(answer.header("x-injected").is_empty());
        }
        for path in [
            format!("/stock?q={text}"),
            format!("/stock?location={text}"),
            format!("/products?category={text}"),
            format!("/products?q={text}"),
            format!("/jobs/runs?job={text}"),
        ] {
            assert_eq!(api.json(&path).await["items"].as_array().unwrap().len(), 0, "{path}");
        }
        for path in [
            "/stats/top/@",
            "/reports/@",
            "/stock?status=@",
            "/stock?cursor=@",
            "/dlq?reason=@",
            "/stock?@=1",
            "/stats/monthly?start=@&end=@",
        ] {
            api.get(&path.replace('@', &text)).await.problem(400);
        }
        api.send(&text, &[], "{}").await.problem(404);
    }
}

async fn routes_and_methods(api: &Served) {
    for path in ["/none", "/stats", "/stats/", "/users/a/b/stats", "/console/none.js", "/../etc/passwd", "//"]
    {
        api.get(path).await.problem(404);
    }
    for (method, path) in [
        (Method::POST, "/stats/global"),
        (Method::DELETE, "/stock"),
        (Method::PUT, "/orders/a"),
        (Method::OPTIONS, "/stock"),
        (Method::PATCH, "/"),
        (Method::GET, "/events/online_orders"),
        (Method::from_bytes(b"BREW").unwrap(), "/stock"),
    ] {
        let answer = api.ask(method.clone(), path, &[], Vec::new()).await;
        answer.problem(405);
        assert!(!answer.header("allow").is_empty(), "{method} {path}: {answer:?}");
    }
    // What another page in a browser could send without asking first is not taken.
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/xml"]
    {
        api.send("online_orders", &[("content-type", kind)], "{}").await.problem(415);
    }
    api.send("online_orders", &[("content-encoding", "gzip")], "{}").await.problem(415);
    // Kafka is away.
    let answer = api.send("online_orders", &[], "{}").await;
    assert_eq!((&answer.problem(503)["part"], answer.header("retry-after")), (&"kafka".into(), "2"));
    assert_eq!(api.get("/stock/stream").await.problem(503)["part"], "kafka");
    let foreign = api.ask(Method::GET, "/stock", &[("host", "evil.example")], Vec::new()).await;
    foreign.problem(403);
}

/// What the other side says until it hangs up, or until then.
fn hears(stream: &mut TcpStream, until: Duration) -> (String, bool) {
    let (deadline, mut heard) = (Instant::now() + until, Vec::new());
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) => return (String::from_utf8_lossy(&heard).into_owned(), true),
            Ok(n) => heard.extend_from_slice(&buffer[..n]),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(_) => return (String::from_utf8_lossy(&heard).into_owned(), true),
        }
    }
    (String::from_utf8_lossy(&heard).into_owned(), false)
}

/// They ask for far more than the kernel keeps for them, and take nothing of it: after a while they are sent away.
async fn clients_who_do_not_read(api: &Served) {
    let address = api.address;
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let greedy = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // The server stops reading, too, once nobody takes its answers.
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(asked.as_bytes());
        std::thread::sleep(Duration::from_secs(35));
        let (heard, is_closed) = hears(&mut stream, Duration::from_secs(30));
        (heard.matches("HTTP/1.1 200").count(), is_closed)
    };
    let greedy: Vec<_> = (0..20).map(|_| tokio::task::spawn_blocking(greedy.clone())).collect();
    assert_eq!(api.get("/stats/global").await.status, 200);
    for greedy in greedy {
        let (answers, is_closed) = greedy.await.unwrap();
        assert!(is_closed && (1..2_000).contains(&answers), "{answers} answers, closed: {is_closed}");
    }
}

async fn slow_and_broken_clients(api: &Served) {
    let address = api.address;
    let slow = tokio::task::spawn_blocking(move || {
        // A head that never ends, a body that never comes, and no HTTP at all; fifty of each.
        let heads = [
            "GET /stock HTTP/1.1\r\nHost: localhost\r\nX: ",
            "POST /events/none HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            "\u{16}\u{3}\u{1}",
        ];
        let mut open: Vec<(usize, TcpStream)> = Vec::new();
        for _ in 0..50 {
            for (kind, head) in heads.iter().enumerate() {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(head.as_bytes()).unwrap();
                open.push((kind, stream));
            }
        }
        open
    });
    let mut open = slow.await.unwrap();
    // Everybody else is served meanwhile.
    assert_eq!(api.get("/stats/global").await.status, 200);
    let closed = tokio::task::spawn_blocking(move || {
        let patience = Duration::from_secs(30);
        open.iter_mut().map(|(kind, stream)| (*kind, hears(stream, patience))).collect::<Vec<_>>()
    });
    for (kind, (heard, is_closed)) in closed.await.unwrap() {
        assert!(is_closed || heard.contains(" 404 "), "{kind}: {heard}");
    }
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET  HTTP/9.9\r\n\r\n",
        "NONSENSE\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(api.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let (heard, _) =
            tokio::task::spawn_blocking(move || hears(&mut stream, Duration::from_secs(1))).await.unwrap();
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 "), "{head}: {heard}");
    }
    let mut stream = TcpStream::connect(api.address).unwrap();
    stream.write_all(format!("GET /stock?q={} HTTP/1.1\r\n\r\n", "x".repeat(60_000)).as_bytes()).unwrap();
    // What comes beyond the limit need not be taken at all.
    let _ = stream.write_all("y".repeat(100_000).as_bytes());
    let hears = tokio::task::spawn_blocking(move || hears(&mut stream, Duration::from_secs(10)));
    let (heard, is_closed) = hears.await.unwrap();
    assert!(is_closed && !heard.contains(" 200 "), "{heard}");
}

#[tokio::test]
async fn it_is_not_open_to_others_without_a_token() {
    let bind = |more: &[(&str, &str)]| {
        let config = settings("postgres://nobody@127.0.0.1:9/none", NOBODY, more);
        async move { Api::bind(&config, prometheus::Registry::new(), Health::new()).await }
    };
    let refused = bind(&[("STOCKTIDE_API_LISTEN", "0.0.0.0:0")]).await.err().unwrap();
    assert!(refused.is::<ConfigError>() && refused.to_string().contains("api.token"), "{refused:#}");
    assert!(bind(&[("STOCKTIDE_API_LISTEN", "0.0.0.0:0"), ("STOCKTIDE_API_TOKEN", "s3cret")]).await.is_ok());
    assert!(
        bind(&[("STOCKTIDE_API_LISTEN", "0.0.0.0:0"), ("STOCKTIDE_API_OPEN_READS", "always")]).await.is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_lets_nobody_in() {
    let more = [("STOCKTIDE_API_TOKEN", "s3cret"), ("STOCKTIDE_API_OPEN_READS", "never")];
    let api = Served::start(&settings("postgres://nobody@127.0.0.1:9/none", NOBODY, &more)).await;
    for given in [
        "",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3crets",
        "bearer S3CRET",
        "Basic s3cret",
        "s3cret",
        "Bearer  s3cret",
    ] {
        let headers: &[(&str, &str)] = if given.is_empty() { &[] } else { &[("authorization", given)] };
        for (method, path) in
            [(Method::GET, "/status"), (Method::GET, "/none"), (Method::POST, "/events/online_orders")]
        {
            let answer = api.ask(method, path, headers, Vec::new()).await;
            answer.problem(401);
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"stocktide\"");
        }
    }
    let right = [("authorization", "Bearer s3cret")];
    assert_eq!(api.ask(Method::GET, "/status", &right, Vec::new()).await.status, 200);
    // What says nothing of the business is there for everybody.
    for path in ["/", "/docs", "/openapi.json"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    api.get("/health").await.problem(503);
    api.end().await;
}
