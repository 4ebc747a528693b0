//! `stocktide import online-retail FILE`: a real data set as events.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::NaiveDate;
use serde_json::json;
use stocktide_producers::feed::{Pace, feed};
use stocktide_producers::online_retail::{CURRENCY, OnlineRetail};
use stocktide_producers::progress::Progress;
use stocktide_producers::sink::{Delivered, Sink};
use stocktide_runtime::kafka::{INPUT_TOPICS, PAYMENTS};
use stocktide_runtime::{Config, shutdown};
use stocktide_store::catalogue::{self, LoadReport};
use tokio_util::sync::CancellationToken;

use super::{Usage, connect, say};

/// How long the last answers may take.
const DEADLINE: Duration = Duration::from_secs(70);

/// Import a real data set: its catalogue, then its events.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide import online-retail demo/online-retail-2010-12.csv.xz
  stocktide import online-retail online-retail.csv --from 2011-11-01 --to 2011-11-30 --speed 86400")]
pub struct ImportArgs {
    #[command(subcommand)]
    source: ImportSource,
}

#[derive(Debug, clap::Subcommand)]
enum ImportSource {
    /// The UCI Online Retail data set (doi 10.24432/C5BW33), as CSV, plain or .xz.
    #[command(after_help = "Examples:
  stocktide import online-retail demo/online-retail-2010-12.csv.xz
  stocktide import online-retail online-retail.csv --from 2011-11-01 --to 2011-11-30 --speed 86400

The catalogue derived from the file is loaded first, opening stock included. Invoices without a customer are relabelled as
sales of a store, and deliveries are simulated: the retailer had no stores, and its file has no deliveries. The same file
and range give the same event_ids, so what is imported twice is applied once.")]
    OnlineRetail(OnlineRetailArgs),
}

#[derive(Debug, clap::Args)]
struct OnlineRetailArgs {
    /// The file.
    file: PathBuf,
    /// The first day, in London's time.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// The last day; it is included.
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// So many times as fast as it happened (86400: a day a second), or max.
    #[arg(long, value_name = "N|max", default_value = "max")]
    speed: Speed,
    /// Also send a payment of each online order's total to the topic payments. They are derived: the file has none.
    #[arg(long)]
    payments: bool,
    /// One JSON object a line, one for each topic, and one for what was skipped.
    #[arg(long)]
    json: bool,
}

/// `--speed`.
#[derive(Debug, Clone, Copy)]
struct Speed(Pace);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed(Pace::Max));
        }
        match text.parse::<f64>() {
            Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Speed(Pace::Replay(speed))),
            _ => Err("allowed: max, or a number above 0".to_owned()),
        }
    }
}

/// Runs it.
///
/// # Errors
/// When the file is not of the format, or the database or Kafka is away. Refused records are exit code 1.
pub async fn run(args: ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let ImportSource::OnlineRetail(args) = args.source;
    if args.from.zip(args.to).is_some_and(|(from, to)| from > to) {
        return Err(Usage("--from lies after --to; both days are included".to_owned()).into());
    }
    if config.business.currency != CURRENCY {
        bail!("the file's prices are in {CURRENCY}, but business.currency is {}", config.business.currency);
    }
    config.kafka_brokers()?;
    let pool = connect(config).await?;
    let (path, from, to) = (args.file.clone(), args.from, args.to);
    let file = tokio::task::spawn_blocking(move || OnlineRetail::open(&path, from, to)).await??;
    let loaded = catalogue::load(&pool, &file.catalogue()).await?;
    pool.close().await;
    tell_catalogue(&loaded, args.json)?;

    let (payments, pace, config) = (args.payments, args.speed.0, config.clone());
    let cancelled = shutdown::on_signal();
    let stopped = cancelled.clone();
    // The producer's calls block.
    let work = tokio::task::spawn_blocking(move || {
        let delivered = send(&file, payments, pace, &config, &cancelled)?;
        anyhow::Ok((file, delivered))
    });
    let (file, delivered) = work.await?.context("the import")?;
    tell(&file, &delivered, args.json)?;
    if stopped.is_cancelled() {
        eprintln!("stopped before the end; import again to send the rest: what was sent is then a duplicate");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if delivered.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn send(
    file: &OnlineRetail,
    payments: bool,
    pace: Pace,
    config: &Config,
    cancelled: &CancellationToken,
) -> anyhow::Result<Delivered> {
    let topics: Vec<&str> = INPUT_TOPICS.into_iter().chain(payments.then_some(PAYMENTS)).collect();
    let sink = Sink::connect(config, &topics)?;
    let mut progress = Progress::new("events", Some(file.len(payments)));
    feed(file.events(payments), pace, &sink, cancelled, |_| progress.tick())?;
    Ok(sink.finish(DEADLINE))
}

fn tell_catalogue(loaded: &LoadReport, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(say(json!({ "catalogue": loaded }))?);
    }
    let rows = |tally: catalogue::Tally| tally.new + tally.changed + tally.unchanged + tally.left;
    say(format!(
        "catalogue: {} products, {} locations, {} opening stocks{}",
        rows(loaded.products),
        rows(loaded.locations),
        rows(loaded.stock),
        if loaded.stock.left > 0 {
            format!(" ({} left as they are: those rows have had movements)", loaded.stock.left)
        } else {
            String::new()
        }
    ))?;
    Ok(())
}

fn tell(file: &OnlineRetail, delivered: &Delivered, json: bool) -> anyhow::Result<()> {
    if !json {
        say(delivered.to_string().trim_end())?;
        for (reason, rows) in file.skipped() {
            say(format!("skipped: {rows} rows: {}", reason.describe()))?;
        }
        return Ok(());
    }
    super::produce::tell_topics(delivered)?;
    let skipped: serde_json::Map<_, _> =
        file.skipped().iter().map(|(reason, rows)| (reason.code().to_owned(), json!(rows))).collect();
    Ok(say(json!({ "skipped_rows": skipped }))?)
}
