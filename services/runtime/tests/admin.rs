//! The admin endpoint over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;

use prometheus::{IntCounter, Registry};
use serde_json::json;
use stocktide_runtime::admin::{self, Health};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Status, headers and body of a GET.
async fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn live_ready_and_metrics_are_served_until_shutdown() {
    let (registry, health, shutdown) = (Registry::new(), Health::new(), CancellationToken::new());
    let counter = IntCounter::new("stocktide_things_total", "Things.").unwrap();
    registry.register(Box::new(counter.clone())).unwrap();
    counter.inc();
    let address = admin::serve("127.0.0.1:0", registry, health.clone(), shutdown.clone()).await.unwrap();

    assert_eq!(get(address, "/live").await.0, 200);
    let (status, head, body) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(
        body.contains("# HELP stocktide_things_total Things.\n")
            && body.contains("stocktide_things_total 1\n")
    );
    assert_eq!(get(address, "/elsewhere").await.0, 404);

    shutdown.cancel();
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn a_process_is_ready_only_while_all_its_parts_are() {
    let health = Health::new();
    let address =
        admin::serve("127.0.0.1:0", Registry::new(), health.clone(), CancellationToken::new()).await.unwrap();
    let ready = async || {
        let (status, _, body) = get(address, "/ready").await;
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    health.note("jobs", Some("something is left to others".to_owned()));
    let noted = json!({"ready": true, "failing": {}, "notes": {"jobs": "something is left to others"}});
    assert_eq!(ready().await, (200, noted));
    health.note("jobs", None);
    // What has yet to begin keeps a process from being ready until it says that it has; once.
    health.expect("positions", "not read yet");
    assert_eq!(ready().await, (503, json!({"ready": false, "failing": {"positions": "not read yet"}})));
    health.set("positions", Ok(()));
    health.expect("positions", "not read yet");
    health.set("kafka", Ok(()));
    health.set("database", Err("away".to_owned()));
    assert_eq!(ready().await, (503, json!({"ready": false, "failing": {"database": "away"}})));
    health.set("database", Ok(()));
    assert_eq!(ready().await, (200, json!({"ready": true, "failing": {}})));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error =
        admin::serve(&address, Registry::new(), Health::new(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("admin.listen: cannot listen on {address}"));
}
