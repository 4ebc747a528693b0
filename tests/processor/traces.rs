//! Traces: what a collector receives, and what a record carries on.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::command::{run, stocktide};
use crate::support::World;
use crate::support::records::{Record, of, order};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that speaks OTLP over HTTP: its address, and the spans that it receives, each with its service's name.
fn collector() -> (String, Receiver<(String, Span)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let head: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            assert!(head[0].starts_with("POST /v1/traces "), "{head:?}");
            let length = head
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap()];
            reader.read_exact(&mut body).unwrap();
            for resource in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
                let attributes = resource.resource.unwrap().attributes;
                let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
                let name = format!("{:?}", name.value.unwrap());
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    let _ = sender.send((name.clone(), span));
                }
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            Write::write_all(reader.get_mut(), answer.as_bytes()).unwrap();
        }
    });
    (address, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_s_trace_goes_on_in_what_becomes_of_it_and_its_batch_is_linked_to_it() {
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    let records = [
        Record::event("online_orders", &of(order(), "apple", 3))
            .header("traceparent", Some(TRACEPARENT.as_bytes()))
            .header("tracestate", Some(b"shop=1"))
            .header("other", Some(b"stays behind")),
        Record::event("online_orders", &of(order(), "bread", 1)).header("traceparent", Some(&[b'0'; 600])),
    ];
    let mut sender = world.sender();
    for (name, record) in ["traced", "not traced"].into_iter().zip(records) {
        sender.send(name, vec![record]).await;
    }
    drop(sender);

    let (endpoint, received) = collector();
    let mut command = stocktide(&["processor", "--until-caught-up"]);
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers())
        .env("STOCKTIDE_ADMIN_LISTEN", "127.0.0.1:0")
        .env("STOCKTIDE_TRACES_ENDPOINT", endpoint);
    let outcome = run(&mut command).done();
    assert!(!outcome.stderr.contains("process{"), "spans are no part of log lines: {}", outcome.stderr);

    for update in world.read("inventory_updates") {
        let apples = update.json()["product_id"] == "apple";
        assert_eq!(update.header("traceparent").as_deref(), apples.then_some(TRACEPARENT));
        assert_eq!(update.header("tracestate").as_deref(), apples.then_some("shop=1"));
        assert_eq!(update.header("other"), None);
    }
    assert_eq!(world.read("inventory_updates").len(), 2);

    let spans: Vec<(String, Span)> =
        std::iter::from_fn(|| received.recv_timeout(Duration::ZERO).ok()).collect();
    assert!(spans.iter().all(|(service, _)| service.contains("stocktide-processor")), "{spans:?}");
    let spans: Vec<Span> = spans.into_iter().map(|(_, span)| span).collect();
    let links = |span: &Span| span.links.iter().map(|link| hex(&link.trace_id)).collect::<Vec<_>>();
    let batch =
        spans.iter().find(|span| span.name == "process" && links(span) == [TRACE]).expect("the linked batch");
    assert!(batch.parent_span_id.is_empty() && hex(&batch.trace_id) != TRACE, "a trace of its own");
    for name in ["apply", "publish"] {
        let below = spans.iter().any(|span| {
            span.name == name && span.parent_span_id == batch.span_id && span.trace_id == batch.trace_id
        });
        assert!(below, "{name} is a part of the batch: {spans:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_stops_nothing_and_is_told_of() {
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    world.send_json("online_orders", "a", of(order(), "apple", 3)).await;
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = stocktide(&["processor", "--until-caught-up"]);
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers())
        .env("STOCKTIDE_ADMIN_LISTEN", "127.0.0.1:0")
        .env("STOCKTIDE_TRACES_ENDPOINT", format!("http://{nobody}"));
    let outcome = run(&mut command).done();
    assert_eq!(world.stock().await["apple@online"].0, 97);
    assert!(outcome.stderr.contains("telemetry data will be lost"), "{}", outcome.stderr);
}
