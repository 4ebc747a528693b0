//! The command line of the fault harness.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use stocktide_store::broken::Broken;
use stocktide_torture::check::LAG_BOUND;
use stocktide_torture::episode::{Plan, play};
use stocktide_torture::fault::{Kind, Mix};
use stocktide_torture::history::{self, Episode};
use stocktide_torture::world::{PROCESSORS, Setup, World};
use stocktide_torture::{controls, inject, table, truncation};

/// Torture an installation of real processes, and check that nothing came of it.
#[derive(Debug, Parser)]
#[command(
    name = "stocktide-torture",
    after_help = "Examples:
  stocktide-torture run --seed 7 --minutes 10 --history tests/faults/history/seed-7.jsonl
  stocktide-torture run --seed 7 --minutes 0.5 --only kill-processor,lose-commit-answer
  stocktide-torture replay tests/faults/history/found.jsonl
  stocktide-torture controls --only fence-off
  stocktide-torture table

A run is episodes of faults on one installation, each with a seed of its own: the run's, and one more each time. A single
episode is repeated by its own seed and length. Exit code 1 where anything differed, or a control was not found."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Inject faults for so long, and check after each episode; at the end, cut off a topic.
    Run(RunArgs),
    /// Repeat an episode of a history: the one of a seed, or the first that differed, else the last.
    Replay(ReplayArgs),
    /// Find each variant of the processor that is broken on purpose.
    Controls(ControlsArgs),
    /// Write the tables of docs/faults.md anew.
    Table(TableArgs),
    /// The kinds of faults there are.
    Kinds,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// What the faults are drawn from; the same one draws the same faults.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// How long faults are injected, in minutes; may be fractional, and counts the time of faults only.
    #[arg(long, value_name = "MINUTES", default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// How long one episode's faults last at most, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    episode: u64,
    /// These kinds of faults alone, with commas between.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<Kind>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The program that is tortured. [default: the one beside this one]
    #[arg(long, value_name = "FILE")]
    stocktide: Option<PathBuf>,
    /// Add each episode to this file, one line each.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Keep data and logs in this directory. [default: a temporary one; the logs stay where something differed]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The history.
    file: PathBuf,
    /// The episode's own seed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct ControlsArgs {
    /// These variants alone, with commas between. [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = variant)]
    only: Vec<Broken>,
    /// Of the faults.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// The program that has the variants in it. [default: stocktide-broken beside this one]
    #[arg(long, value_name = "FILE")]
    broken: Option<PathBuf>,
    /// Add each episode to this file, one line each.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct TableArgs {
    /// Where the histories are.
    #[arg(long, value_name = "DIR", default_value = "tests/faults/history")]
    histories: PathBuf,
    /// The document.
    #[arg(long, value_name = "FILE", default_value = "docs/faults.md")]
    file: PathBuf,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0 && *minutes <= 10_000.0);
    let minutes = minutes.ok_or_else(|| "allowed: a number of minutes above 0, up to 10000".to_owned())?;
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

fn variant(name: &str) -> Result<Broken, String> {
    let names = || Broken::ALL.iter().map(|variant| variant.name()).collect::<Vec<_>>().join(", ");
    let found = Broken::ALL.iter().copied().find(|variant| variant.name() == name);
    found.ok_or_else(|| format!("allowed: {}", names()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,rdkafka=off,librdkafka=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let work = async {
        match Arguments::parse().command {
            Command::Run(args) => run(args).await,
            Command::Replay(args) => Box::pin(replay(args)).await,
            Command::Controls(args) => find_controls(args).await,
            Command::Table(args) => write_table(&args),
            Command::Kinds => {
                Kind::ALL.iter().for_each(|kind| println!("{kind:26} {}", kind.words()));
                Ok(true)
            }
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stocktide-torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or SIGTERM: what runs is ended with us, not left behind.
async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let RunArgs { seed, minutes, episode, only, place } = args;
    let (world, code) = begin(&place, seed, None).await?;
    println!(
        "seed {seed}, {:.1} minutes of faults, code {code}; logs in {}",
        minutes.as_secs_f64() / 60.0,
        world.dir.display()
    );
    let mix = Mix {
        weights: only.iter().map(|kind| (*kind, 1)).collect(),
        only: !only.is_empty(),
        ..Mix::default()
    };
    let (mut left, mut number, mut well) = (minutes, 0, true);
    while well && !left.is_zero() {
        let length = left.min(Duration::from_secs(episode));
        left -= length;
        let plan = Plan {
            seed: seed + u64::from(number),
            number,
            length,
            mix: mix.clone(),
            bound: LAG_BOUND,
            code: code.clone(),
        };
        well = note(&play(&world, &plan).await?, place.history.as_deref())?;
        number += 1;
        if well && left.is_zero() && only.is_empty() {
            well = note(&truncation::play(&world, &plan).await?, place.history.as_deref())?;
        }
    }
    end(world, well).await
}

async fn replay(args: ReplayArgs) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(&args.file).with_context(|| args.file.display().to_string())?;
    let episodes: Vec<Episode> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // The cutting off of a topic, at the end of a run, has no faults to be repeated.
    let mut episodes = episodes.iter().filter(|episode| episode.seconds > 0.0);
    let chosen = match args.seed {
        Some(seed) => episodes.find(|episode| episode.seed == seed),
        None => episodes.clone().find(|episode| !episode.is_well()).or(episodes.next_back()),
    };
    let chosen = chosen.with_context(|| format!("{} holds no such episode", args.file.display()))?;
    let broken = controls::variant_of(chosen).filter(|name| *name != controls::NO_VARIANT);
    let (world, code) = begin(&args.place, chosen.seed, broken).await?;
    println!(
        "seed {}, {} s of faults, code {code}; it was played on {}",
        chosen.seed, chosen.seconds, chosen.code
    );
    let length = Duration::from_secs_f64(chosen.seconds);
    let plan = Plan { seed: chosen.seed, number: 0, length, mix: chosen.mix(), bound: LAG_BOUND, code };
    let played = play(&world, &plan).await?;
    let well = note(&played, args.place.history.as_deref())?;
    let same = chosen.in_common(&played);
    match &same {
        Ok(common) => println!(
            "the same faults: {common}, of {} then and {} now",
            chosen.faults.len(),
            played.faults.len()
        ),
        Err(differs) => println!("these are not the faults of then: {differs}"),
    }
    end(world, well && same.is_ok()).await
}

async fn begin(place: &Place, seed: u64, broken: Option<&str>) -> anyhow::Result<(World, String)> {
    let program = if broken.is_some() { "stocktide-broken" } else { "stocktide" };
    let stocktide = place.stocktide.clone().map_or_else(|| beside(program), Ok)?;
    let broken = broken.map(str::to_owned);
    let setup = Setup { stocktide, dir: place.dir.clone(), seed, processors: PROCESSORS, broken };
    let world = World::start(&setup).await?;
    for (kind, why) in inject::impossible(&world) {
        println!("left out: {kind}: {why}");
    }
    Ok((world, commit().await))
}

async fn end(world: World, well: bool) -> anyhow::Result<bool> {
    if !well {
        let kept = std::env::temp_dir().join(format!("stocktide-torture-{}", std::process::id()));
        copy_logs(&world.dir, &kept).with_context(|| kept.display().to_string())?;
        println!("the logs are kept in {}", kept.display());
    }
    world.end().await?;
    Ok(well)
}

async fn find_controls(args: ControlsArgs) -> anyhow::Result<bool> {
    let program = args.broken.map_or_else(|| beside("stocktide-broken"), Ok)?;
    let (mut all, commit) = (true, commit().await);
    if args.only.is_empty() {
        println!("no variant: nothing may differ");
        let episode = controls::play_without(&program, args.seed, &commit).await?;
        all = note(&episode, args.history.as_deref())?;
    }
    let variants = if args.only.is_empty() { Broken::ALL.to_vec() } else { args.only };
    for variant in variants {
        println!("{}: {}", variant.name(), variant.words());
        let episodes = controls::play_until_found(variant, &program, args.seed, &commit).await?;
        for episode in &episodes {
            note(episode, args.history.as_deref())?;
        }
        let found = episodes.last().is_some_and(controls::is_found);
        println!(
            "{}: {} after {} episodes",
            variant.name(),
            if found { "found" } else { "NOT FOUND" },
            episodes.len()
        );
        all &= found;
    }
    Ok(all)
}

fn write_table(args: &TableArgs) -> anyhow::Result<bool> {
    let (_, new) = table::document(&args.file, &args.histories)?;
    std::fs::write(&args.file, new).with_context(|| args.file.display().to_string())?;
    Ok(true)
}

/// Tells of an episode and keeps it; whether all was well.
fn note(episode: &Episode, history: Option<&Path>) -> anyhow::Result<bool> {
    let findings = &episode.findings;
    println!(
        "episode {}: {} faults in {} s; {} records, lag zero after {} s, {} reports: {}",
        episode.seed,
        episode.injections(),
        episode.seconds,
        findings.records,
        findings.drained_after,
        findings.reports,
        if episode.is_well() { "all holds" } else { "DIFFERS" }
    );
    findings.problems.iter().for_each(|problem| println!("  {problem}"));
    if let Some(file) = history {
        history::append(file, episode)?;
    }
    Ok(episode.is_well())
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    let program = own.with_file_name(name);
    ensure!(program.exists(), "{} is not there: build it, or name another", program.display());
    Ok(program)
}

/// The commit that is checked out, for the history; `?` where there is none. What this program itself writes makes none dirty.
async fn commit() -> String {
    let git = async |args: &[&str]| {
        let output = tokio::process::Command::new("git").args(args).output().await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]).await.filter(|text| !text.is_empty()) else {
        return "?".to_owned();
    };
    let elsewhere = [":/", ":(top,exclude)tests/faults/history", ":(top,exclude)docs/faults.md"];
    let changes = git(&[&["status", "--porcelain", "--"], elsewhere.as_slice()].concat()).await;
    if changes.is_some_and(|changes| changes.is_empty()) { commit } else { format!("{commit}-dirty") }
}

fn copy_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from.join("logs"))? {
        let path = entry?.path();
        std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
