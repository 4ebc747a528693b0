//! `stocktide-fuzz`: every target for its share of the time, and a table of what was found.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use stocktide_fuzz::engine::{self, Until};
use stocktide_fuzz::targets::TARGETS;

/// Mutates the inputs of fuzz/corpus and runs the readers of outside bytes on them; prints target, executions and findings.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo run --release -p stocktide-fuzz -- --minutes 30
  cargo run --release -p stocktide-fuzz -- --minutes 5 payments")]
struct CommandLine {
    /// For all targets together.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Of the random numbers; by default the time of day.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the inputs that show a finding are kept.
    #[arg(long, default_value = "target/fuzz")]
    keep: PathBuf,
    /// These targets only.
    targets: Vec<String>,
}

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stocktide-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &CommandLine) -> anyhow::Result<usize> {
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| wanted.targets.is_empty() || wanted.targets.iter().any(|name| name == target.name))
        .collect();
    if let Some(unknown) = wanted.targets.iter().find(|name| !TARGETS.iter().any(|t| t.name == **name)) {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        anyhow::bail!("no target {unknown:?}; allowed: {}", known.join(", "));
    }
    let seed =
        wanted.seed.unwrap_or_else(|| stocktide_runtime::clock::now().timestamp_micros().unsigned_abs());
    let share = Duration::try_from_secs_f64(wanted.minutes * 60.0).context("--minutes")?
        / targets.len().max(1) as u32;
    println!("seed {seed}, {} s for each target", share.as_secs());
    println!(
        "{:<20} {:>12} {:>9} {:>8} {:>18}  findings",
        "target", "executions", "per s", "answers", "most held / input"
    );
    let mut found = 0;
    for target in targets {
        let begun = Instant::now();
        let report = engine::run(target, seed, Until::Instant(begun + share), &wanted.keep)?;
        let rate = report.executions as f64 / begun.elapsed().as_secs_f64();
        let held = format!("{} kB / {} kB", report.most_held.0 / 1_000, report.most_held.1 / 1_000);
        let (name, executions, answers) = (target.name, report.executions, report.answers);
        println!(
            "{name:<20} {executions:>12} {rate:>9.0} {answers:>8} {held:>18}  {}",
            report.findings.len()
        );
        for (finding, input) in &report.findings {
            let path = engine::keep(&wanted.keep, target, input)?;
            println!("    {:?}: {}\n    in {}", finding.kind, finding.what, path.display());
        }
        found += report.findings.len();
    }
    Ok(found)
}
