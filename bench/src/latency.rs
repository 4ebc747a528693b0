//! An open loop: events are sent on schedule whatever happens, and each is timed until its change of stock can be read.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::json;

use crate::world::{World, send};

/// How long events are sent before the timing begins: the broker is a JVM, which compiles itself while it warms up.
const WARM_UP: Duration = Duration::from_secs(30);

/// Measures and prints the percentiles.
pub async fn measure(rate: u64, seconds: u64) -> anyhow::Result<()> {
    let world = World::start(&[]).await?;
    let mut processor = world.product(&["processor"])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let measured = run(&world, rate, Duration::from_secs(seconds));
    processor.kill()?;
    processor.wait()?;
    let mut times = measured?;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    println!("{rate} events/s for {seconds} s: {} changes of stock read", times.len());
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        println!("{name:>6} {:>9.1} ms", at(share));
    }
    eprintln!(
        "{}",
        json!({"rate": rate, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0)})
    );
    world.stop().await
}

fn run(world: &World, rate: u64, lasting: Duration) -> anyhow::Result<Vec<Duration>> {
    let (due, sent) = mpsc::channel::<(String, Instant)>();
    let reader = reader(world)?;
    let collector = std::thread::spawn(move || collect(&reader, &sent));
    let producer = world.producer(1)?;
    let begun = Instant::now();
    for (at, record) in World::simulate(None, 7)?.enumerate() {
        // The time that counts is the one at which it is due, so that a late sender hides nothing.
        let when = begun + Duration::from_secs_f64(at as f64 / rate as f64);
        if when - begun > WARM_UP + lasting {
            break;
        }
        while let Some(left) = when.checked_duration_since(Instant::now()) {
            // The client's own wait counts in whole milliseconds, and would spin for the rest.
            std::thread::sleep(left);
            producer.poll(Duration::ZERO);
        }
        send(&producer, &record)?;
        let event: Option<serde_json::Value> =
            record.value.as_deref().and_then(|v| serde_json::from_slice(v).ok());
        if let Some(id) = event.as_ref().and_then(|e| e["event_id"].as_str())
            && when - begun > WARM_UP
        {
            due.send((id.to_owned(), when))?;
        }
    }
    producer.flush(Duration::from_secs(30))?;
    drop(due);
    collector.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
}

fn reader(world: &World) -> anyhow::Result<BaseConsumer> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", "latency");
    client.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "500");
    let consumer: BaseConsumer = client.create()?;
    let topic = stocktide_runtime::kafka::INVENTORY_UPDATES;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().first().context("no such topic")?.partitions() {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// Reads changes of stock until nothing more comes; the first of each event counts.
fn collect(reader: &BaseConsumer, sent: &mpsc::Receiver<(String, Instant)>) -> anyhow::Result<Vec<Duration>> {
    let (mut due, mut early): (HashMap<String, Instant>, HashMap<String, Instant>) = Default::default();
    let mut times = Vec::new();
    let mut last = Instant::now();
    loop {
        let ended = loop {
            match sent.try_recv() {
                Ok((id, when)) => match early.remove(&id) {
                    Some(read) => times.push(read.saturating_duration_since(when)),
                    None => drop(due.insert(id, when)),
                },
                Err(mpsc::TryRecvError::Empty) => break false,
                Err(mpsc::TryRecvError::Disconnected) => break true,
            }
        };
        match reader.poll(Duration::from_millis(1)) {
            Some(message) => {
                let (message, now) = (message?, Instant::now());
                last = now;
                let update: serde_json::Value =
                    serde_json::from_slice(message.payload().unwrap_or_default())?;
                let id = update["event_id"].as_str().context("an update without event_id")?;
                match due.remove(id) {
                    Some(when) => times.push(now.saturating_duration_since(when)),
                    None => drop(early.entry(id.to_owned()).or_insert(now)),
                }
            }
            // Events that change no stock (a status, a duplicate, a reject) never come.
            None if ended && last.elapsed() > Duration::from_secs(3) => return Ok(times),
            None => {}
        }
    }
}
