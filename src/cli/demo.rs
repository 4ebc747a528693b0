//! `stocktide demo`: the tour, from real sales to stock figures that are proved, on a private stack.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use indicatif::HumanCount;
use sqlx::PgPool;
use stocktide_devstack::{Stack, StackOptions, kafka_version, postgres_version};
use stocktide_runtime::config::{Flag, Sources};
use stocktide_runtime::kafka::{self, DLQ, INVENTORY_UPDATES};
use stocktide_runtime::{Config, ConfigError, Secret, shutdown};
use stocktide_store::{catalogue, facts, overview};
use stocktide_verify::VerifyOptions;
use tokio_util::sync::CancellationToken;

use self::narrator::Narrator;
use self::outcome::{Fates, Kept, Outcome, Sample};
use self::source::Source;
use super::topics::tail;
use super::{connect, say};

mod narrator;
mod outcome;
mod replay;
mod report;
mod source;

/// How many of the products sold most are shown.
const TOP: i64 = 10;
/// How many records of `inventory_updates` are shown.
const UPDATES: u64 = 5;

/// The tour: a private Kafka and PostgreSQL, a month of a real retailer's sales with payments, the processor, the proof of its promises, and
/// a daily report.
///
/// It needs nothing but Java and, the first time, Maven, and leaves nothing behind. The sales are those of December 2010 of the UCI
/// data set Online Retail (Chen, D. (2015), doi 10.24432/C5BW33, CC BY 4.0), and come with the program.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide demo
  stocktide demo --input online-retail.csv        the whole data set: 541,909 rows
  stocktide demo --keep                           and look around afterwards; the report's files stay, too
  stocktide demo --json | jq .verify.ok

Exit code 0 only when every promise holds. What configures other commands (files, variables) has no effect on it.")]
pub struct DemoArgs {
    /// The Online Retail data set, or a part of it, as CSV, plain or .xz, instead of the month that comes with the program.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Leave the stack running in the background, and say how to look at it and how to end it.
    #[arg(long)]
    keep: bool,
    /// One JSON object on one line; the progress still goes to stderr.
    #[arg(long)]
    json: bool,
}

/// The demo's own settings: it makes what they point to, and nobody's installation may get mixed up in it.
///
/// # Errors
/// None, as the settings are sound.
pub fn config(log: Option<String>, log_format: Option<String>) -> Result<Config, ConfigError> {
    let flag = |key, value: &str, flag| Flag { key, value: value.to_owned(), flag };
    let mut flags = vec![
        flag("business.timezone", source::TIMEZONE, "demo"),
        // Smaller than usual, so that there is more to see on the way.
        flag("processor.batch_max_records", "1000", "demo"),
        flag("log.filter", log.as_deref().unwrap_or("warn"), "--log"),
    ];
    flags.extend(log_format.map(|format| flag("log.format", &format, "--log-format")));
    Config::load(&Sources { flags, ..Sources::default() })
}

/// Runs it.
///
/// # Errors
/// When the input cannot be read, or the stack, the replay or the proof fails. That a promise does not hold is exit code 1.
pub async fn run(args: DemoArgs, config: Config) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal();
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        outcome = Box::pin(tour(&args, config, &stop)) => Some(outcome?),
    };
    let Some(outcome) = outcome else {
        // The stack has ended with the tour. Threads that still talk to it have nothing to wait for.
        eprintln!("stopped; nothing is left of it");
        std::process::exit(1);
    };
    if args.json {
        say(serde_json::to_string(&outcome)?)?;
    } else {
        say(outcome.in_words())?;
    }
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Read → start → prepare → replay → prove → look → report → end. Dropped half-way, it takes the stack down with it.
async fn tour(args: &DemoArgs, config: Config, stop: &CancellationToken) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut narrator = Narrator::new(started);
    let source = read(args.input.clone(), &narrator).await?;
    let (mut stack, config) = start(config, &narrator).await?;
    let pool = prepare(&source, &config, &narrator).await?;
    let (delivered, summary) = replay::replay(&source, &config, &mut stack, &mut narrator, stop).await?;
    let verify = prove(&config, &narrator).await?;
    let (inventory_updates, dlq) = samples(&config).await?;
    let topics = overview::fates(&pool).await?;
    let total_sales = overview::total_sales(&pool).await?;
    let top_products = overview::top_sellers(&pool, TOP).await?;
    let payments = overview::payments(&pool).await?;
    let paid = overview::first_paid(&pool).await?;
    let paid_order = match &paid {
        Some(order_id) => facts::of_order(&pool, order_id).await?,
        None => None,
    };
    pool.close().await;
    let report = report::make(&source, &config, stack.state_dir(), &narrator, stop).await?;
    let stack = end(stack, args.keep, &narrator).await?;
    Ok(Outcome {
        ok: verify.ok && delivered.is_complete(),
        seconds: started.elapsed().as_secs_f64(),
        processing_seconds: summary.seconds,
        input: source.name.clone(),
        notes: source.notes(),
        sent: delivered.topics,
        fates: Fates::of(&topics),
        topics,
        reasons: summary.rejected,
        total_sales,
        top_products,
        payments,
        paid_order,
        inventory_updates,
        dlq,
        verify,
        report,
        stack,
    })
}

async fn read(input: Option<PathBuf>, narrator: &Narrator) -> anyhow::Result<Arc<Source>> {
    narrator.step("reading the sales");
    let source = tokio::task::spawn_blocking(move || Source::open(input.as_deref())).await??;
    narrator.done(format!(
        "{}: {} rows, {} events",
        source.name,
        HumanCount(source.data.rows.rows.len() as u64),
        HumanCount(source.data.len(false))
    ));
    Ok(Arc::new(source))
}

async fn start(mut config: Config, narrator: &Narrator) -> anyhow::Result<(Stack, Config)> {
    let parts = format!("PostgreSQL {} and Apache Kafka {}", postgres_version(), kafka_version());
    narrator.step(format!("starting {parts}; the first time Maven fetches them"));
    let stack = Stack::start(StackOptions::default()).await?;
    config.database.url = Some(Secret::new(stack.database_url()));
    config.kafka.brokers = Some(stack.kafka_brokers());
    narrator.done(format!("{parts} run, private, in {}", stack.state_dir().display()));
    Ok((stack, config))
}

async fn prepare(source: &Source, config: &Config, narrator: &Narrator) -> anyhow::Result<PgPool> {
    narrator.step("making schema, topics and catalogue");
    let business = &config.business;
    stocktide_store::migrate::run(&config.database_url()?, &business.currency, business.timezone.name())
        .await?;
    let topics = kafka::ensure_topics(config).await?.len();
    let pool = connect(config).await?;
    let loaded = catalogue::load(&pool, &source.data.catalogue()).await.context("the catalogue")?;
    narrator.done(format!(
        "schema and {topics} topics; catalogue of {} products, {} opening stocks",
        HumanCount(loaded.products.new as u64),
        HumanCount(loaded.stock.new as u64)
    ));
    Ok(pool)
}

async fn prove(config: &Config, narrator: &Narrator) -> anyhow::Result<stocktide_verify::Report> {
    narrator.step("verifying");
    let options = VerifyOptions { on_step: narrator.listener(), ..VerifyOptions::of(config)? };
    let report = stocktide_verify::run(&options).await.context("the promises cannot be verified")?;
    let holding = report.checks.iter().filter(|check| check.differing == 0).count();
    narrator.done(format!("verified from raw data: {holding} of {} promises hold", report.checks.len()));
    Ok(report)
}

/// The first of `inventory_updates`, and of `dlq` the first of each reason.
async fn samples(config: &Config) -> anyhow::Result<(Vec<Sample>, Vec<Sample>)> {
    let client = kafka::client_config(config);
    let work = tokio::task::spawn_blocking(move || {
        let (mut updates, mut letters) = (Vec::new(), Vec::<Sample>::new());
        tail::each(&client, INVENTORY_UPDATES, Some(UPDATES), |record| {
            updates.push(Sample::of(record)?);
            Ok(())
        })?;
        tail::each(&client, DLQ, None, |record| {
            let letter = Sample::of(record)?;
            if letters.iter().all(|known| known.reason != letter.reason) {
                letters.push(letter);
            }
            Ok(())
        })?;
        letters.sort_by(|a, b| a.reason.cmp(&b.reason));
        anyhow::Ok((updates, letters))
    });
    work.await?.context("the outputs")
}

async fn end(stack: Stack, keep: bool, narrator: &Narrator) -> anyhow::Result<Option<Kept>> {
    if keep {
        let (database_url, kafka_brokers) = (stack.database_url(), stack.kafka_brokers());
        let state_dir = stack.detach()?;
        narrator.done("the stack goes on in the background");
        return Ok(Some(Kept { state_dir, database_url, kafka_brokers }));
    }
    narrator.step("ending the stack");
    stack.stop().await?;
    narrator.done("the stack has ended, its data are deleted");
    Ok(None)
}
