//! An open loop: events are sent on schedule whatever happens, and each is timed until its change of stock can be read.

use std::collections::{HashMap, HashSet};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use stocktide_runtime::kafka::INVENTORY_UPDATES;

use crate::meter::percentile;
use crate::world::{World, send};

/// How long events are sent before the timing begins: the broker is a JVM, which compiles itself while it warms up.
const WARM_UP: Duration = Duration::from_secs(30);

/// The percentiles that are told.
const TOLD: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Measures and prints the percentiles for each rate, beside the floor's.
pub async fn measure(rates: &[u64], seconds: u64) -> anyhow::Result<Value> {
    let mut columns = Vec::new();
    for rate in rates {
        let world = World::start(&[]).await?;
        // Where nothing else has run the floor has a cold broker, so it comes last.
        let mut processor =
            world.product(&["processor"])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let measured = run(&world, *rate, Duration::from_secs(seconds));
        let ended = processor.try_wait()?;
        crate::start::end(processor)?;
        ensure!(ended.is_none(), "the processor has ended by itself: {ended:?}");
        let Readings { times, silent } = measured?;
        none_is_missing(&world, &silent).await?;
        columns.push((format!("{rate}/s"), times));
        if columns.len() == rates.len() {
            columns.push(("the floor".to_owned(), floor(&world).await?));
        }
        crate::backlog::work_off(&world, 1).await?;
        world.verify()?;
        world.stop().await?;
    }
    println!(
        "\nmilliseconds from sending to reading, {seconds} s each; the floor: one small commit and one Kafka transaction"
    );
    print!("{:>6}", "");
    columns.iter().for_each(|(name, _)| print!(" {name:>10}"));
    println!();
    columns.iter_mut().for_each(|(_, times)| times.sort_unstable());
    for (name, share) in TOLD {
        print!("{name:>6}");
        columns.iter().for_each(|(_, times)| print!(" {:>10.1}", percentile(times, share)));
        println!();
    }
    if let Some((_, floor)) = columns.last() {
        for share in [0.5, 0.99] {
            print!("{:>6}", format!("p{:.0}/", share * 100.0));
            columns.iter().for_each(|(_, times)| {
                print!(" {:>9.1}×", percentile(times, share) / percentile(floor, share));
            });
            println!("  over the floor's");
        }
    }
    let told = columns.iter().map(|(name, times)| {
        let figures = TOLD.map(|(told, share)| (told.to_owned(), json!(percentile(times, share))));
        json!({ "what": name, "readings": times.len(), "ms": serde_json::Map::from_iter(figures) })
    });
    Ok(told.collect())
}

/// What was read.
struct Readings {
    times: Vec<Duration>,
    /// The events of which nothing was read.
    silent: Vec<String>,
}

/// Of an event that has moved stock a change must have been read: the slowest ones would be missing otherwise.
async fn none_is_missing(world: &World, silent: &[String]) -> anyhow::Result<()> {
    let mut database = PgConnection::connect(&world.stack.database_url()).await?;
    let sql = "SELECT count(DISTINCT event_id) FROM stock_movements WHERE event_id::text = ANY($1)";
    let missing: i64 = sqlx::query_scalar(sql).bind(silent).fetch_one(&mut database).await?;
    database.close().await?;
    ensure!(missing == 0, "of {missing} events no change was read within {} s", SILENCE.as_secs());
    Ok(())
}

/// After so long without a change nothing more is expected.
const SILENCE: Duration = Duration::from_secs(10);

/// Where the floor's records go.
const FLOOR_TOPIC: &str = "latency-floor";

/// How often the floor is measured, after as many times to warm up.
const FLOOR_TIMES: usize = 1_000;

/// One small commit, then one Kafka transaction with one record until it can be read: what no product can do without.
async fn floor(world: &World) -> anyhow::Result<Vec<Duration>> {
    let mut database = PgConnection::connect(&world.stack.database_url()).await?;
    sqlx::raw_sql("CREATE TABLE floor_commits (n int)").execute(&mut database).await?;
    world.create_topic(FLOOR_TOPIC, 1).await?;
    let reader = reader(world, FLOOR_TOPIC, Offset::Beginning)?;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("transactional.id", "latency-floor");
    client.set("linger.ms", "0").set("retry.backoff.ms", "2").set("retry.backoff.max.ms", "2");
    let producer: BaseProducer = client.create()?;
    producer.init_transactions(Duration::from_secs(30))?;
    let mut times = Vec::new();
    for n in 0..2 * FLOOR_TIMES {
        let begun = Instant::now();
        sqlx::query("INSERT INTO floor_commits VALUES (1)").execute(&mut database).await?;
        producer.begin_transaction()?;
        let value = n.to_string();
        let record = BaseRecord::<str, str>::to(FLOOR_TOPIC).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
        // A commit flushes, and in steps of a tenth of a second.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        producer.commit_transaction(Duration::from_secs(30))?;
        loop {
            let message = reader
                .poll(Duration::from_secs(30))
                .with_context(|| format!("the floor's record {n} of {} does not come", 2 * FLOOR_TIMES))??;
            if message.payload() == Some(value.as_bytes()) {
                break;
            }
        }
        if n >= FLOOR_TIMES {
            times.push(begun.elapsed());
        }
    }
    database.close().await?;
    Ok(times)
}

fn run(world: &World, rate: u64, lasting: Duration) -> anyhow::Result<Readings> {
    let (due, sent) = mpsc::channel::<(String, Instant)>();
    let reader = reader(world, INVENTORY_UPDATES, Offset::Beginning)?;
    let collector = std::thread::spawn(move || collect(&reader, &sent));
    let producer = world.producer(1)?;
    let begun = Instant::now();
    let mut known = HashSet::new();
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
        // An event that comes again has been timed, or was before the timing began.
        if let Some(id) = event.as_ref().and_then(|e| e["event_id"].as_str())
            && known.insert(id.to_owned())
            && when - begun > WARM_UP
        {
            due.send((id.to_owned(), when))?;
        }
    }
    producer.flush(Duration::from_secs(30))?;
    drop(due);
    collector.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
}

fn reader(world: &World, topic: &str, from: Offset) -> anyhow::Result<BaseConsumer> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", "latency");
    client.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "500");
    // Nobody goes on here; and a poll that sees to a commit of offsets ends without a record.
    client.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create()?;
    let asked = Instant::now();
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let told = metadata.topics().first().map_or(&[][..], MetadataTopic::partitions);
        let mut partitions = TopicPartitionList::new();
        for partition in told {
            partitions.add_partition_offset(topic, partition.id(), from)?;
        }
        // A topic that has just been created is told of without partitions until the broker has heard of it.
        if !told.is_empty() {
            consumer.assign(&partitions)?;
            return Ok(consumer);
        }
        ensure!(asked.elapsed() < Duration::from_secs(30), "{topic} has no partitions");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads changes of stock until nothing more comes; the first of each event counts.
fn collect(reader: &BaseConsumer, sent: &mpsc::Receiver<(String, Instant)>) -> anyhow::Result<Readings> {
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
            None if ended && last.elapsed() > SILENCE => {
                return Ok(Readings { times, silent: due.into_keys().collect() });
            }
            None => {}
        }
    }
}
