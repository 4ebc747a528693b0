//! The command line of the fault harness.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use stocktide_torture::check::LAG_BOUND;
use stocktide_torture::episode::{Plan, play};
use stocktide_torture::fault::{Kind, Mix};
use stocktide_torture::history::{self, Episode};
use stocktide_torture::inject;
use stocktide_torture::world::{PROCESSORS, Setup, World};

/// Torture an installation of real processes, and check that nothing came of it.
#[derive(Debug, Parser)]
#[command(name = "stocktide-torture", after_help = "Examples:
  stocktide-torture run --seed 7 --minutes 10
  stocktide-torture run --seed 7 --minutes 0.5 --only kill-processor,lose-commit-answer
  stocktide-torture kinds

A run is episodes of faults on one installation, each with a seed of its own: the run's, and one more each time. A single
episode is repeated by its own seed and length. Exit code 1 where anything differed.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Inject faults for so long, and check after each episode.
    Run(RunArgs),
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
    /// The program that is tortured. [default: the one beside this one]
    #[arg(long, value_name = "FILE")]
    stocktide: Option<PathBuf>,
    /// Add each episode to this file, one line each.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Keep the logs in this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0 && *minutes <= 10_000.0);
    minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)).ok_or_else(|| "allowed: a number above 0".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,rdkafka=off,librdkafka=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let work = async {
        match arguments.command {
            Command::Run(args) => run(args).await,
            Command::Kinds => {
                Kind::ALL.iter().for_each(|kind| println!("{kind:26} {}", kind.words()));
                Ok(true)
            }
        }
    };
    let done = tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
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

async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let stocktide = match args.stocktide {
        Some(program) => program,
        None => beside("stocktide")?,
    };
    let code = commit().await;
    let setup = Setup { stocktide, dir: args.dir, seed: args.seed, processors: PROCESSORS, broken: None };
    let world = World::start(&setup).await?;
    for (kind, why) in inject::impossible(&world) {
        println!("left out: {kind}: {why}");
    }
    println!("seed {}, {:.1} minutes of faults, code {code}; logs in {}", args.seed, args.minutes.as_secs_f64() / 60.0,
        world.dir.display());
    let mix = Mix { weights: args.only.iter().map(|kind| (*kind, 1)).collect(), only: !args.only.is_empty(), ..Mix::default() };
    let (mut left, mut number, mut well) = (args.minutes, 0, true);
    while well && !left.is_zero() {
        let length = left.min(Duration::from_secs(args.episode));
        left -= length;
        let seed = args.seed + u64::from(number);
        let plan = Plan { seed, number, length, mix: mix.clone(), bound: LAG_BOUND, code: code.clone() };
        let episode = play(&world, &plan).await?;
        tell(&episode);
        if let Some(file) = &args.history {
            history::append(file, &episode)?;
        }
        well = episode.is_well();
        number += 1;
    }
    if !well {
        let kept = world.dir.with_extension("kept");
        // Where they were asked for they stay anyway.
        let _ = copy_logs(&world.dir, &kept);
        println!("the logs are kept in {}", kept.display());
    }
    world.end().await?;
    Ok(well)
}

fn tell(episode: &Episode) {
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
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    let program = own.with_file_name(name);
    anyhow::ensure!(program.exists(), "{} is not there: build it, or name it with --stocktide", program.display());
    Ok(program)
}

/// The commit that is checked out, for the history; `?` where there is none.
async fn commit() -> String {
    let mut git = tokio::process::Command::new("git");
    let output = git.args(["describe", "--always", "--dirty", "--exclude=*"]).output().await;
    let text = output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
}

fn copy_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from.join("logs"))? {
        let path = entry?.path();
        std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
