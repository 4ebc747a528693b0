//! `stocktide produce SOURCE`: the simulator.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgPool;
use stocktide_producers::feed::{Pace, feed};
use stocktide_producers::metrics::Metrics;
use stocktide_producers::progress::Progress;
use stocktide_producers::record::Record;
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::faults::Faulty;
use stocktide_producers::sim::payments::{ByTheClock, PaidOrders};
use stocktide_producers::sim::timeline::{Spread, Timeline, start_for};
use stocktide_producers::sim::{Ids, Options, Simulator, SourceMix};
use stocktide_producers::sink::{Delivered, Sink};
use stocktide_runtime::admin::{self, Health};
use stocktide_runtime::kafka::{INPUT_TOPICS, PAYMENTS};
use stocktide_runtime::{Config, clock, shutdown};
use stocktide_store::catalogue;
use tokio_util::sync::CancellationToken;

use super::{Usage, connect, say};

/// How long the last answers may take.
const DEADLINE: Duration = Duration::from_secs(70);
/// Events a second where neither --rate nor --count says anything.
const DEFAULT_RATE: f64 = 10.0;

/// Simulate the sources: online orders, store sales, supplier restocks, payments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide produce all --catalogue synthetic --count 1000000
  stocktide produce online-orders --rate 50 --duplicates 2 --malformed 0.2
  stocktide produce all --seed 7 --start 2026-03-01T00:00:00Z --count 10000    the same bytes each time
  stocktide produce payments --seed 7 --start 2026-03-01T00:00:00Z --count 900
                                                     of the orders that online-orders makes of the same seed and start
  stocktide produce --preset orders-and-payments --catalogue synthetic --count 450 --speed 20
                                                     five minutes of it in fifteen seconds

With --rate and without --start, events happen as they are sent. Else they follow a day's rhythm on a simulated clock that
starts at --start, or so that the last event happens now. Ctrl-C ends it: what is under way is still delivered.")]
pub struct ProduceArgs {
    /// online-orders, store-sales, supplier-restocks, all (of these three) or payments.
    #[arg(required_unless_present = "preset", conflicts_with = "preset")]
    source: Option<What>,
    /// A mix with payments: orders-and-payments (orders 1 to 80 over and over, one every 2 s; payments of orders 1 to 500, one
    /// every second, most of which never find their order) or paid-orders (orders, each with what is paid for it).
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<Preset>,
    /// With --preset orders-and-payments: so many times faster than its clock, or max. [default: 1]
    #[arg(long, value_name = "N|max", requires = "preset", conflicts_with = "rate")]
    speed: Option<Rate>,
    /// Records a second, on an exact schedule that does not wait for the broker, or max. [default: max with --count, else 10]
    #[arg(long, value_name = "N|max")]
    rate: Option<Rate>,
    /// Records in all, duplicates and broken ones included; without it, until Ctrl-C.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Of all chance; without it one is made up, and told.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Records that are sent again, in percent of all: some soon, some late.
    #[arg(long, value_name = "PCT", default_value = "0")]
    duplicates: Percent,
    /// Broken records, in percent of all.
    #[arg(long, value_name = "PCT", default_value = "0")]
    malformed: Percent,
    /// Sales and deliveries that happened minutes to days before they are sent, in percent of them.
    #[arg(long, value_name = "PCT", default_value = "0")]
    late: Percent,
    /// Shipped, delivered, cancelled and returned, in percent of the online orders' events.
    #[arg(long, value_name = "PCT", default_value = "20")]
    follow_ups: Percent,
    /// When the first event happens; needs --count.
    #[arg(long, value_name = "TIME", requires = "count")]
    start: Option<DateTime<Utc>>,
    /// Events a day on the simulated clock.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = above_zero)]
    per_day: f64,
    /// How fast popularity falls with the rank, by Zipf's law.
    #[arg(long, value_name = "EXPONENT", default_value = "0.8", value_parser = exponent)]
    zipf: f64,
    /// Customers of online orders.
    #[arg(long, value_name = "N", default_value = "50000", value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Lines of an order at most.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=3))]
    max_lines: u8,
    /// The version of the event_ids: v7 is by time, v4 at random.
    #[arg(long, value_name = "v7|v4", default_value = "v7", value_parser = ids)]
    ids: Ids,
    /// What is sold: what the database holds, or a synthetic catalogue, which is loaded into it first.
    #[arg(long, value_enum, default_value = "loaded")]
    catalogue: Which,
    /// Products of the synthetic catalogue.
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    products: u32,
    /// Locations of the synthetic catalogue: one online, the others stores.
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    locations: u32,
    /// One JSON object a line, one for each topic.
    #[arg(long)]
    json: bool,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// What moves stock.
    Mix(SourceMix),
    /// Payments of simulated orders.
    Payments,
}

impl FromStr for What {
    type Err = String;

    fn from_str(name: &str) -> Result<What, String> {
        if name == "payments" {
            return Ok(What::Payments);
        }
        name.parse().map(What::Mix).map_err(|error: String| format!("{error}, payments"))
    }
}

/// `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Preset {
    /// By the clock.
    OrdersAndPayments,
    /// Orders, each with what is paid for it.
    PaidOrders,
}

/// `--catalogue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// What the database holds.
    Loaded,
    /// Made up.
    Synthetic,
}

/// `--rate`.
#[derive(Debug, Clone, Copy)]
struct Rate(Option<f64>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate(None));
        }
        above_zero(text)
            .map(|rate| Rate(Some(rate)))
            .map_err(|_| "allowed: max, or a number above 0".to_owned())
    }
}

/// A share, given in percent, kept in millionths.
#[derive(Debug, Clone, Copy)]
struct Percent(u32);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Percent, String> {
        let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
        let percent = percent.ok_or("allowed: a number from 0 to 100")?;
        Ok(Percent((percent * 10_000.0).round() as u32))
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "allowed: a number above 0".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=5.0).contains(number));
    number.ok_or_else(|| "allowed: a number from 0 to 5".to_owned())
}

fn ids(text: &str) -> Result<Ids, String> {
    match text {
        "v7" => Ok(Ids::V7),
        "v4" => Ok(Ids::V4),
        _ => Err("allowed: v7, v4".to_owned()),
    }
}

/// Runs it.
///
/// # Errors
/// When there is no catalogue, or the database or Kafka is away. Refused records are exit code 1.
pub async fn run(args: ProduceArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let pace = args.pace();
    let options = args.options(pace, config)?;
    config.kafka_brokers()?;
    let pool = connect(config).await?;
    let catalogue = match args.catalogue {
        Which::Loaded => loaded(&pool).await?,
        Which::Synthetic => synthetic(&pool, &args, config).await?,
    };
    pool.close().await;
    eprintln!("{}", repeat_with(&options));
    let records = args.records(catalogue, options)?;

    let (count, config) = (args.count, config.clone());
    let cancelled = shutdown::on_signal();
    let stopped = cancelled.clone();
    // Without an end it is a service like any other, and can be watched as one.
    let metrics = if count.is_none() { Some(served(&config, &cancelled).await?) } else { None };
    // The producer's calls block.
    let work = move || send(records, pace, count, &config, metrics, &cancelled);
    let work = tokio::task::spawn_blocking(work).await?;
    let delivered = work.context("the simulation")?;
    if args.json {
        tell_topics(&delivered)?;
    } else {
        say(delivered.to_string().trim_end())?;
    }
    // Without a count, Ctrl-C is how it is meant to end.
    let is_whole = !stopped.is_cancelled() || count.is_none();
    Ok(if delivered.is_complete() && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Metrics, on the admin endpoint.
async fn served(config: &Config, stop: &CancellationToken) -> anyhow::Result<Metrics> {
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry)?;
    admin::serve(&config.admin.listen, registry, Health::new(), stop.clone()).await?;
    Ok(metrics)
}

/// One JSON object a line, one for each topic.
///
/// # Errors
/// When stdout is gone.
pub fn tell_topics(delivered: &Delivered) -> anyhow::Result<()> {
    for (topic, tally) in &delivered.topics {
        let mut line = json!({ "topic": topic });
        if let (Some(line), serde_json::Value::Object(tally)) =
            (line.as_object_mut(), serde_json::to_value(tally)?)
        {
            line.extend(tally);
        }
        say(line)?;
    }
    Ok(())
}

impl ProduceArgs {
    /// The stream of records.
    fn records(
        &self,
        catalogue: SimCatalogue,
        options: Options,
    ) -> anyhow::Result<Box<dyn Iterator<Item = Record> + Send>> {
        let (seed, count) = (options.seed, options.count);
        // These make faults of a sound stream; the simulator has its own.
        let (duplicates, malformed) = (options.duplicates_ppm, options.malformed_ppm);
        let sound = Options { duplicates_ppm: 0, malformed_ppm: 0, ..options.clone() };
        let limit = usize::try_from(count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        Ok(match (self.preset, self.source) {
            (Some(Preset::OrdersAndPayments), _) => {
                let records = ByTheClock::new(catalogue, seed, options.start)?;
                Box::new(Faulty::new(records, seed, duplicates, malformed).take(limit))
            }
            (Some(Preset::PaidOrders), _) => {
                let records = PaidOrders::new(catalogue, sound, true)?;
                Box::new(Faulty::new(records, seed, duplicates, malformed).take(limit))
            }
            (None, Some(What::Payments)) => {
                let records = PaidOrders::new(catalogue, sound, false)?;
                Box::new(Faulty::new(records, seed, duplicates, malformed).take(limit))
            }
            (None, _) => Box::new(Simulator::new(catalogue, options)?),
        })
    }

    /// Whether records come by a clock of their own.
    fn by_the_clock(&self) -> bool {
        self.preset == Some(Preset::OrdersAndPayments)
    }

    fn pace(&self) -> Pace {
        if self.by_the_clock() && self.rate.is_none() {
            return match self.speed {
                Some(Rate(Some(speed))) => Pace::Replay(speed),
                Some(Rate(None)) => Pace::Max,
                None => Pace::Replay(1.0),
            };
        }
        match self.rate {
            Some(Rate(Some(rate))) => Pace::Rate(rate),
            Some(Rate(None)) => Pace::Max,
            None if self.count.is_some() => Pace::Max,
            None => Pace::Rate(DEFAULT_RATE),
        }
    }

    fn mix(&self) -> SourceMix {
        match self.source {
            Some(What::Mix(mix)) => mix,
            Some(What::Payments) | None => SourceMix::OnlineOrders,
        }
    }

    fn options(&self, pace: Pace, config: &Config) -> anyhow::Result<Options> {
        let now = clock::now();
        if self.speed.is_some() && !self.by_the_clock() {
            return Err(Usage("--speed goes with --preset orders-and-payments".to_owned()).into());
        }
        let (start, spread) = match (self.start, pace, self.count) {
            // The last event happens now; without a count the first one does.
            (None, _, Some(count)) if self.by_the_clock() => {
                let seconds = i64::try_from(ByTheClock::seconds(count)).unwrap_or(i64::MAX);
                let start = TimeDelta::try_seconds(seconds).and_then(|length| now.checked_sub_signed(length));
                (start.unwrap_or(now), Spread::Daily(self.per_day))
            }
            (None, Pace::Replay(speed), None) if speed <= 1.0 => (now, Spread::Daily(self.per_day)),
            (None, Pace::Replay(_), None) => {
                return Err(Usage("--speed above 1 needs --count".to_owned()).into());
            }

            (Some(start), _, _) => (start, Spread::Daily(self.per_day)),
            (None, Pace::Rate(rate), _) => (now, Spread::Steady(rate)),
            (None, _, Some(count)) => {
                let spread = Spread::Daily(self.per_day);
                (start_for(now, count, spread), spread)
            }
            (None, _, None) => return Err(Usage("--rate max needs --count".to_owned()).into()),
        };
        let last = match self.count {
            Some(count) if self.by_the_clock() => {
                let seconds = i64::try_from(ByTheClock::seconds(count)).unwrap_or(i64::MAX);
                let length = TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX);
                start.checked_add_signed(length).unwrap_or(DateTime::<Utc>::MAX_UTC)
            }
            Some(count) => Timeline::new(start, spread).at(count),
            None => start,
        };
        if self.start.is_some() && last > now {
            let told = format!("--start {start}: the last event would happen at {last}, after now ({now})");
            return Err(Usage(told).into());
        }
        Ok(Options {
            count: self.count,
            spread,
            duplicates_ppm: self.duplicates.0,
            malformed_ppm: self.malformed.0,
            late_ppm: self.late.0,
            follow_ups_ppm: self.follow_ups.0,
            zipf_exponent: self.zipf,
            users: self.users,
            max_lines: usize::from(self.max_lines),
            ids: self.ids,
            currency: config.business.currency.clone(),
            ..Options::new(self.mix(), self.seed.unwrap_or_else(new_seed), start)
        })
    }
}

/// Small enough to be typed again.
fn new_seed() -> u64 {
    uuid::Uuid::new_v4().as_u128() as u64 % 1_000_000_000
}

fn repeat_with(options: &Options) -> String {
    let start = options.start.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    format!("seed {}, first event at {start}", options.seed)
}

/// The database's catalogue, by way of its files' form.
async fn loaded(pool: &PgPool) -> anyhow::Result<SimCatalogue> {
    let directory = tempfile::tempdir().context("a temporary directory")?;
    catalogue::export(pool, directory.path()).await?;
    let read = catalogue::read_dir(directory.path());
    let files = read.map_err(|refusals| {
        let first = refusals.first().map(ToString::to_string).unwrap_or_default();
        anyhow::anyhow!("the database's catalogue does not read back: {first}")
    })?;
    Ok(SimCatalogue::from_files(&files))
}

async fn synthetic(pool: &PgPool, args: &ProduceArgs, config: &Config) -> anyhow::Result<SimCatalogue> {
    let size = Size { products: args.products as usize, locations: args.locations as usize };
    let made = SimCatalogue::synthetic(size);
    let report = catalogue::load(pool, &made.files(&config.business.currency)).await?;
    eprintln!("synthetic catalogue of {size}: {} products are new", report.products.new);
    Ok(made)
}

fn send(
    records: Box<dyn Iterator<Item = Record> + Send>,
    pace: Pace,
    count: Option<u64>,
    config: &Config,
    metrics: Option<Metrics>,
    cancelled: &CancellationToken,
) -> anyhow::Result<Delivered> {
    let topics: Vec<&str> = INPUT_TOPICS.into_iter().chain([PAYMENTS]).collect();
    let sink = Sink::connect_counted(config, &topics, metrics)?;
    let mut progress = Progress::new("records", count);
    feed(records, pace, &sink, cancelled, |_| progress.tick())?;
    Ok(sink.finish(DEADLINE))
}
