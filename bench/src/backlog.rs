//! A backlog: the product takes it in, then bare PostgreSQL takes in the rows that the product wrote, on as many connections as
//! there were processors, in pairs on one stack, each with a database and topics of its own.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::floor;
use crate::kafka_floor;
use crate::meter::{self, LOOK, Used, spread};
use crate::scrape;
use crate::world::World;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Events in the backlog.
    pub events: u64,
    /// How often both are measured.
    pub pairs: u32,
    /// Events per transaction of the floor; the product's largest batch.
    pub batch: usize,
    /// Processors, and connections of the floor.
    pub processors: usize,
}

/// Events that are worked off before the first reading.
pub const WARM_UP: u64 = 200_000;

/// What the product did with a backlog.
#[derive(Debug, Clone, Copy)]
pub struct Worked {
    /// Records of the backlog.
    pub consumed: f64,
    /// From the first record received to the last one published; of several, from the first one's start to the last one's end.
    pub seconds: f64,
    /// CPU seconds and the largest memory of one, of the processors.
    pub product: Used,
    /// CPU seconds of PostgreSQL and of the broker.
    pub servers: [f64; 2],
    /// Bytes of write-ahead log.
    pub wal_bytes: f64,
    /// Waits for the database's answer.
    pub round_trips: f64,
}

impl Worked {
    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.consumed / self.seconds
    }

    /// Its figures by event.
    pub fn json(&self) -> Value {
        let micros = |seconds: f64| seconds * 1e6 / self.consumed;
        json!({
            "events_per_s": self.rate(), "consumed": self.consumed, "seconds": self.seconds,
            "cpu_us_per_event": { "processor": micros(self.product.cpu), "postgres": micros(self.servers[0]),
                                  "kafka": micros(self.servers[1]) },
            "peak_rss_mib": self.product.peak_mib, "wal_bytes_per_event": self.wal_bytes / self.consumed,
            "round_trips_per_1000_events": self.round_trips * 1_000.0 / self.consumed,
        })
    }
}

/// Measures in pairs and prints each, then the spread of the ratios.
pub async fn measure(wish: Wish) -> anyhow::Result<Value> {
    let Wish { events, pairs, batch, processors } = wish;
    println!(
        "\nbacklog of {events} events, {processors} processor(s) / connection(s), at most {batch} a transaction"
    );
    println!(
        "{:>4} {:>13} {:>13} {:>6}  {:>9} {:>11} {:>9} {:>9} {:>7} {:>8} {:>8} {:>9}",
        "pair",
        "product ev/s",
        "floor ev/s",
        "ratio",
        "own µs/ev",
        "bare client",
        "PG µs/ev",
        "floor's",
        "Kafka",
        "RSS MiB",
        "WAL B/ev",
        "trips/1k"
    );
    let (mut ratios, mut rows) = (Vec::new(), Vec::new());
    let mut world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", &batch.to_string())]).await?;
    // The broker is a JVM, which compiles itself meanwhile.
    world.send_backlog(WARM_UP, 0)?;
    work_off(&world, processors).await?;
    for pair in 1..=pairs {
        world.renew().await?;
        world.send_backlog(events, u64::from(pair))?;
        world.checkpoint().await?;
        let worked = work_off(&world, processors).await?;
        ensure!(worked.consumed as u64 == events, "{} of {events} events were worked off", worked.consumed);
        let bare = floor::measure(&world, batch, processors).await?;
        let floor = worked.consumed / bare.seconds;
        let ratio = worked.rate() / floor;
        // Beside the first pair alone: it takes its time, and the pairs are many.
        let kafka = if pair == 1 { Some(kafka_floor::measure(&world, batch).await?) } else { None };
        let row = worked.json();
        let cpu = |part: &str| row["cpu_us_per_event"][part].as_f64().unwrap_or(f64::NAN);
        println!(
            "{pair:>4} {:>13.0} {floor:>13.0} {ratio:>6.3}  {:>9.2} {:>11} {:>9.2} {:>9.2} {:>7.2} {:>8.0} {:>8.0} {:>9.2}",
            worked.rate(),
            cpu("processor"),
            kafka.map_or_else(String::new, |kafka| format!("{:.2}", kafka.client_micros())),
            cpu("postgres"),
            bare.cpu * 1e6 / worked.consumed,
            cpu("kafka"),
            worked.product.peak_mib,
            worked.wal_bytes / worked.consumed,
            worked.round_trips * 1_000.0 / worked.consumed
        );
        rows.push(json!({ "pair": pair, "product": row, "floor_events_per_s": floor,
                          "floor_postgres_us_per_event": bare.cpu * 1e6 / worked.consumed, "ratio": ratio, "kafka_floor": kafka.map(|kafka| kafka.json()) }));
        ratios.push(ratio);
        world.verify()?;
    }
    world.stop().await?;
    let [least, median, most] = spread(ratios)?;
    println!("median ratio {median:.3} (from {least:.3} to {most:.3}); verify was green after each");
    println!(
        "bare client: the CPU, per event, of Kafka clients alone that read the same input and write the same outputs"
    );
    Ok(json!({ "events": events, "processors": processors, "batch": batch, "pairs": rows,
               "ratio": { "median": median, "least": least, "most": most } }))
}

/// Has processors work off what waits.
pub async fn work_off(world: &World, processors: usize) -> anyhow::Result<Worked> {
    let pool = PgPool::connect(&world.database_url).await?;
    let lsn = async || -> anyhow::Result<f64> {
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
        Ok(sqlx::query_scalar(sql).fetch_one(&pool).await?)
    };
    let servers = world.servers();
    let (cpu, wal) = (meter::cpu(&servers)?, lsn().await?);
    let mut running: Vec<Processor> =
        (0..processors).map(|_| Processor::start(world)).collect::<anyhow::Result<_>>()?;
    let (mut open, begun) = (running.len(), Instant::now());
    while open > 0 {
        std::thread::sleep(LOOK);
        open = 0;
        for processor in &mut running {
            open += usize::from(processor.look()?);
        }
    }
    let wall = begun.elapsed().as_secs_f64();
    let mut worked = Worked {
        consumed: 0.0,
        seconds: 0.0,
        product: Used::default(),
        servers: [0.0; 2],
        wal_bytes: lsn().await? - wal,
        round_trips: 0.0,
    };
    for processor in running {
        let Ended { summary, used, round_trips } = processor.end()?;
        worked.consumed += summary["consumed"].as_f64().context("no `consumed` in the summary")?;
        worked.seconds = worked.seconds.max(summary["seconds"].as_f64().context("no `seconds`")?);
        worked.product.cpu += used.cpu;
        worked.product.peak_mib = worked.product.peak_mib.max(used.peak_mib);
        worked.round_trips += round_trips;
    }
    if processors > 1 {
        // Each tells of its own time alone; so they are charged with starting and ending, too.
        worked.seconds = wall;
    }
    for (at, after) in meter::cpu(&servers)?.into_iter().enumerate() {
        worked.servers[at] = after - cpu[at];
    }
    pool.close().await;
    Ok(worked)
}

/// A processor that ends when it has caught up.
struct Processor {
    child: Child,
    admin: String,
    used: Used,
    round_trips: f64,
    looked: Instant,
    log: std::thread::JoinHandle<String>,
}

struct Ended {
    summary: Value,
    used: Used,
    round_trips: f64,
}

/// How often its metrics are asked for; what it does after the last time is not among its round trips.
const ASK: Duration = Duration::from_millis(200);

impl Processor {
    fn start(world: &World) -> anyhow::Result<Processor> {
        let mut command = world.product(&["processor", "--until-caught-up", "--json"])?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("no log")?);
        let admin = scrape::admin_address(&mut log)?;
        // The pipe must not fill up.
        let log = std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = log.read_to_string(&mut rest);
            rest
        });
        Ok(Processor { child, admin, used: Used::default(), round_trips: 0.0, looked: Instant::now(), log })
    }

    /// Whether it still runs.
    fn look(&mut self) -> anyhow::Result<bool> {
        self.used.look(self.child.id());
        if self.looked.elapsed() > ASK {
            self.looked = Instant::now();
            let trips = scrape::metric(&self.admin, "stocktide_processor_database_round_trips_total");
            self.round_trips = trips.unwrap_or(self.round_trips);
        }
        Ok(self.child.try_wait()?.is_none())
    }

    fn end(mut self) -> anyhow::Result<Ended> {
        let status = self.child.wait()?;
        let log = self.log.join().unwrap_or_default();
        ensure!(status.success(), "the processor: {log}");
        let mut summary = String::new();
        BufReader::new(self.child.stdout.take().context("no output")?).read_line(&mut summary)?;
        let summary = serde_json::from_str(&summary).context("the processor's summary")?;
        Ok(Ended { summary, used: self.used, round_trips: self.round_trips })
    }
}
