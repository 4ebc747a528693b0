//! The stream of stock changes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{PATIENCE, Served};
use crate::support::World;

/// A stream, and what has come of it.
struct Followed {
    response: Response,
    text: String,
    last_id: String,
}

impl Followed {
    async fn open(api: &Served, path: &str, last: Option<&str>) -> Followed {
        let headers: Vec<(&str, &str)> = last.map(|id| ("last-event-id", id)).into_iter().collect();
        // The reader for all streams may still be on its way to Kafka.
        let deadline = Instant::now() + PATIENCE;
        let response = loop {
            let response = api.open(Method::GET, path, &headers, Vec::new()).await;
            if response.status().as_u16() != 503 || Instant::now() > deadline {
                break response;
            }
        };
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Followed { response, text: String::new(), last_id: String::new() }
    }

    /// The next event's name and data.
    async fn next(&mut self) -> (String, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some((event, rest)) =
                self.text.split_once("\n\n").map(|(e, r)| (e.to_owned(), r.to_owned()))
            {
                self.text = rest;
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                        .map(str::to_owned)
                };
                if let Some(id) = field("id") {
                    self.last_id = id;
                }
                if let Some(data) = field("data") {
                    return (field("event").unwrap(), serde_json::from_str(&data).unwrap());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let chunk =
                tokio::time::timeout(left, self.response.chunk()).await.expect("an event in time").unwrap();
            self.text += std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap();
        }
    }

    async fn changes(&mut self, count: usize) -> Vec<Value> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let (event, data) = self.next().await;
            assert_eq!(event, "stock");
            changes.push(data);
        }
        changes
    }
}

async fn sell(world: &World, count: usize, product: &str) {
    for _ in 0..count {
        let id = Uuid::now_v7().to_string();
        let sale = json!({"event_id": Uuid::now_v7(), "sale_id": id, "store_id": "shop", "sold_at": "2025-03-01T10:00:00Z",
            "items": [{"product_id": product, "quantity": 1}]});
        world.send_json("store_sales", &id, sale).await;
    }
}

fn versions(changes: &[Value]) -> BTreeSet<i64> {
    changes.iter().map(|c| c["version"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_once_and_a_client_that_comes_back_misses_nothing() {
    let world =
        World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0"), ("STOCKTIDE_API_STREAMS", "3")]).await;
    world.stock_shelves().await;
    let processor = world.start_processor();
    let api = Served::ready(&world.config).await;
    api.until("/metrics", |answer| answer.status == 200).await;
    let mut all = opened(&api, "/stock/stream").await;
    let mut bread = Followed::open(&api, "/stock/stream?product=bread&location=shop", None).await;
    sell(&world, 3, "apple").await;
    sell(&world, 1, "bread").await;
    let first = all.changes(4).await;
    assert_eq!(
        versions(&first.iter().filter(|c| c["product_id"] == "apple").cloned().collect::<Vec<_>>()),
        (1..=3).collect()
    );
    assert_eq!(bread.changes(1).await[0]["product_id"], "bread");

    // It goes away and comes back: what was missed comes first, then what is new, each once.
    let last = all.last_id.clone();
    drop(all);
    sell(&world, 5, "apple").await;
    world.until_settled(9).await;
    let mut back = Followed::open(&api, "/stock/stream", Some(&last)).await;
    let missed = back.changes(5).await;
    assert_eq!(versions(&missed), (4..=8).collect());
    sell(&world, 2, "apple").await;
    assert_eq!(versions(&back.changes(2).await), (9..=10).collect());

    // From any place in between, too.
    let middle = Followed::open(&api, "/stock/stream?product=apple", Some(&last)).await;
    let mut middle = middle;
    middle.changes(2).await;
    let place = middle.last_id.clone();
    drop(middle);
    let mut again = Followed::open(&api, "/stock/stream", Some(&place)).await;
    assert_eq!(again.changes(5).await.len(), 5);

    // Three is all there is room for.
    let refused = api.get("/stock/stream").await;
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "2");
    drop(again);
    let strange = opened_from(&api, "/stock/stream", "999999999").await;
    let (event, data) = { strange }.next().await;
    assert_eq!((event.as_str(), data["reason"].as_str().unwrap()), ("reset", "the id is not of this topic"));
    // Streams have no end of their own, and must not hold up a shutdown.
    let begun = Instant::now();
    api.end().await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    processor.end().await;
}

/// Opened as soon as the reader has begun.
async fn opened(api: &Served, path: &str) -> Followed {
    let deadline = Instant::now() + PATIENCE;
    while api.open(Method::GET, path, &[], Vec::new()).await.status() != 200 {
        assert!(Instant::now() < deadline, "the stream does not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Followed::open(api, path, None).await
}

/// Opened as soon as there is room.
async fn opened_from(api: &Served, path: &str, last: &str) -> Followed {
    let deadline = Instant::now() + PATIENCE;
    while api.open(Method::GET, path, &[], Vec::new()).await.status() != 200 {
        assert!(Instant::now() < deadline, "there is no room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let response = api.open(Method::GET, path, &[("last-event-id", last)], Vec::new()).await;
        if response.status() == 200 {
            return Followed { response, text: String::new(), last_id: String::new() };
        }
        assert!(Instant::now() < until, "there is no room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_are_served_or_refused_and_readers_who_do_not_read_are_dropped() {
    let world =
        World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0"), ("STOCKTIDE_API_STREAMS", "600")]).await;
    world.stock_shelves().await;
    let api = Served::ready(&world.config).await;
    drop(opened(&api, "/stock/stream").await);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..1_000 {
        let response = api.open(Method::GET, "/stock/stream", &[], Vec::new()).await;
        match response.status().as_u16() {
            200 => open.push(Followed { response, text: String::new(), last_id: String::new() }),
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(
        (590..=600).contains(&open.len()) && open.len() + refused == 1_000,
        "{} open, {refused} refused",
        open.len()
    );
    // All others are served as before, and everyone who follows hears of a change.
    api.json("/stats/global").await;
    sell(&world, 1, "apple").await;
    world.process().await;
    for followed in &mut open {
        assert_eq!(followed.changes(1).await[0]["product_id"], "apple");
    }
    drop(open);
    api.until("/metrics", |answer| answer.text().contains("\nstocktide_api_streams 0\n")).await;
    api.end().await;
}
