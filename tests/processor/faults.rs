//! Kills at random moments: processors, the broker, PostgreSQL. Afterwards every promise must hold.
//!
//! The short form runs with the other tests. `make test-long` (STOCKTIDE_TEST_LONG=1) kills as often as the promises are
//! meant for. STOCKTIDE_TEST_SEED picks another run; the seed in use is printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::World;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::{Ids, Options, Simulator, SourceMix};
use stocktide_store::catalogue;
use stocktide_verify::VerifyOptions;

/// Short sessions and transactions, so that a killed processor's place is soon another's; small batches, so that a kill
/// finds something in hand.
const SETTINGS: [(&str, &str); 4] = [
    ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "2s"),
    ("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "250ms"),
    ("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s"),
    ("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "200"),
];

fn long() -> bool {
    std::env::var_os("STOCKTIDE_TEST_LONG").is_some()
}

fn seed() -> u64 {
    std::env::var("STOCKTIDE_TEST_SEED")
        .ok()
        .map_or(20_101_201, |seed| seed.parse().expect("STOCKTIDE_TEST_SEED"))
}

/// One episode at a time: their short sessions do not survive four stacks on two cores.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An installation with a backlog, and processors that are killed.
struct Episode {
    world: World,
    dice: ChaCha8Rng,
    processors: Vec<Child>,
    /// How many were started, and where their logs are.
    started: usize,
    logs: PathBuf,
    sent: i64,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Episode {
    /// `stream` sets apart the chance of one test from another's.
    async fn begin(name: &str, stream: u64, records: u64) -> Episode {
        let turn = ONE_AT_A_TIME.lock().await;
        let seed = seed();
        println!("{name}: STOCKTIDE_TEST_SEED={seed}, {records} records");
        let world = World::start(&SETTINGS).await;
        let shelves = SimCatalogue::synthetic(Size { products: 300, locations: 5 });
        catalogue::load(&world.database, &shelves.files("GBP")).await.unwrap();
        let start = "2025-06-01T08:00:00Z".parse().unwrap();
        let (duplicates_ppm, malformed_ppm, ids) = (20_000, 10_000, Ids::V4);
        let count = Some(records);
        let options = Options {
            count,
            duplicates_ppm,
            malformed_ppm,
            ids,
            ..Options::new(SourceMix::All, seed, start)
        };
        let sent = send_all(&world, Simulator::new(shelves, options).unwrap());
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(stream);
        let logs = world.stack.state_dir().to_owned();
        Episode { world, dice, processors: Vec::new(), started: 0, logs, sent, _turn: turn }
    }

    fn start_processor(&mut self) {
        let log = std::fs::File::create(self.log(self.started)).unwrap();
        self.started += 1;
        let child = Command::new(env!("CARGO_BIN_EXE_stocktide"))
            .arg("processor")
            .envs(SETTINGS)
            .env("STOCKTIDE_DATABASE_URL", self.world.stack.database_url())
            .env("STOCKTIDE_KAFKA_BROKERS", self.world.stack.kafka_brokers())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processors.push(child);
    }

    /// Waits until so many processors, counted over the whole episode, have begun to read.
    async fn wait_for_sessions(&self, processors: usize) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let begun = (0..processors).filter(|n| {
                let log = std::fs::read_to_string(self.log(*n)).unwrap_or_default();
                log.contains("positions are known")
            });
            if begun.count() == processors {
                return;
            }
            assert!(Instant::now() < deadline, "a processor does not begin to read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The log of the `n`th processor that was started.
    fn log(&self, n: usize) -> PathBuf {
        self.logs.join(format!("processor-{n}.log"))
    }

    fn kill_processor(&mut self, which: usize) {
        let mut child = self.processors.remove(which);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Records that have met their fate; none while the database is away.
    async fn settled(&self) -> Option<i64> {
        let sql = "SELECT coalesce(sum(applied + duplicates + rejected), 0)::bigint FROM partition_progress";
        sqlx::query_scalar(sql).fetch_one(&self.world.database).await.ok()
    }

    /// Waits until something has moved, and then for a random moment; false when all is done.
    async fn wait_for_a_moment(&mut self) -> bool {
        let (before, deadline) = (self.settled().await.unwrap_or(0), Instant::now() + Duration::from_mins(1));
        loop {
            let settled = self.settled().await.unwrap_or(before);
            if settled >= self.sent {
                return false;
            }
            if settled > before {
                break;
            }
            assert!(Instant::now() < deadline, "nothing moves: {settled} of {} are settled", self.sent);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let moment = self.dice.random_range(0..60);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        true
    }

    /// The faults are over: the rest is settled, and everything is held against the raw data.
    async fn end(mut self, faults: usize) {
        for child in &mut self.processors {
            // SIGTERM: it finishes what it has in hand.
            let pid = rustix::process::Pid::from_child(child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        for mut child in std::mem::take(&mut self.processors) {
            assert!(child.wait().unwrap().success(), "a processor that was asked to end did not end well");
        }
        self.world.process().await;
        assert_eq!(self.settled().await, Some(self.sent), "settled of sent");
        let report = stocktide_verify::run(&VerifyOptions::of(&self.world.config).unwrap()).await.unwrap();
        assert!(report.ok, "{faults} faults: {}", serde_json::to_string_pretty(&report).unwrap());
        self.check_versions();
        self.check_dead_letters().await;
        println!(
            "{faults} faults; {} records, each settled once; {} promises hold",
            self.sent,
            report.checks.len()
        );
    }

    /// Beside `verify`, so that it is not the only witness: versions of each stock row are 1, 2, 3 …, each once.
    fn check_versions(&self) {
        let mut versions: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
        for update in self.world.read("inventory_updates").iter().map(crate::support::Read::json) {
            let key = (update["product_id"].to_string(), update["location_id"].to_string());
            versions.entry(key).or_default().push(update["version"].as_i64().unwrap());
        }
        for (row, mut versions) in versions {
            versions.sort_unstable();
            assert!(
                versions.iter().copied().eq(1..=versions.len() as i64),
                "versions of {row:?}: {versions:?}"
            );
        }
    }

    /// Each rejected record is in `dlq` once.
    async fn check_dead_letters(&self) {
        let origin = |r: &crate::support::Read| {
            let of = |name: &str| r.header(&format!("__connect.errors.{name}")).unwrap();
            (of("topic"), of("partition").parse::<i32>().unwrap(), of("offset").parse::<i64>().unwrap())
        };
        let mut dead: Vec<(String, i32, i64)> = self.world.read("dlq").iter().map(origin).collect();
        dead.sort();
        let sql = "SELECT topic, partition, \"offset\" FROM events_log WHERE status = 'rejected' ORDER BY topic COLLATE \"C\", 2, 3";
        let rejected: Vec<(String, i32, i64)> =
            sqlx::query_as(sql).fetch_all(&self.world.database).await.unwrap();
        assert_eq!(dead, rejected);
    }
}

/// What the processors had to say, where a test fails.
impl Drop for Episode {
    fn drop(&mut self) {
        for child in &mut self.processors {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for n in self.started.saturating_sub(2)..self.started {
                let log = std::fs::read_to_string(self.log(n)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "the log of processor {n} ends with:\n{}",
                    lines[lines.len().saturating_sub(40)..].join("\n")
                );
            }
        }
    }
}

/// Sends a whole simulation; the number of records.
fn send_all(world: &World, records: Simulator) -> i64 {
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("enable.idempotence", "true");
    let producer: BaseProducer = client.set("linger.ms", "20").create().unwrap();
    let mut sent = 0;
    for record in records {
        let mut next = BaseRecord::to(record.topic).key(record.key.as_bytes());
        next.payload = record.value.as_deref();
        while let Err((error, back)) = producer.send(next) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            producer.poll(Duration::from_millis(20));
            next = back;
        }
        sent += 1;
    }
    producer.flush(Duration::from_mins(1)).unwrap();
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let kills = if long() { 50 } else { 5 };
    let mut episode = Episode::begin("processor killed", 1, kills as u64 * 3_000 + 10_000).await;
    let mut done = 0;
    while done < kills {
        episode.start_processor();
        assert!(episode.wait_for_a_moment().await, "the backlog was too small: {done} kills");
        episode.kill_processor(0);
        done += 1;
    }
    episode.end(done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processors_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let kills = if long() { 20 } else { 3 };
    let mut episode = Episode::begin("one of two processors killed", 2, kills as u64 * 12_000 + 20_000).await;
    episode.start_processor();
    episode.start_processor();
    let mut done = 0;
    while done < kills {
        episode.wait_for_sessions(done + 2).await;
        if !episode.wait_for_a_moment().await {
            break;
        }
        let which = episode.dice.random_range(0..2);
        episode.kill_processor(which);
        episode.start_processor();
        done += 1;
    }
    assert_eq!(done, kills, "the backlog was too small");
    episode.wait_for_sessions(done + 2).await;
    episode.end(done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let kills = if long() { 10 } else { 2 };
    let mut episode = Episode::begin("broker killed", 3, kills as u64 * 12_000 + 20_000).await;
    episode.start_processor();
    let mut done = 0;
    while done < kills && episode.wait_for_a_moment().await {
        episode.world.stack.kill_broker(1).await.unwrap();
        episode.world.stack.start_broker(1).await.unwrap();
        done += 1;
    }
    assert_eq!(done, kills, "the backlog was too small");
    assert!(episode.wait_for_a_moment().await, "the backlog was too small");
    episode.end(done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    let kills = if long() { 10 } else { 2 };
    let mut episode = Episode::begin("PostgreSQL killed", 4, kills as u64 * 12_000 + 20_000).await;
    episode.start_processor();
    let mut done = 0;
    while done < kills && episode.wait_for_a_moment().await {
        episode.world.stack.kill_postgres().await.unwrap();
        episode.world.stack.start_postgres().await.unwrap();
        done += 1;
    }
    assert_eq!(done, kills, "the backlog was too small");
    episode.end(done).await;
}
