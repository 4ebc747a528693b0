//! `stocktide dev`: a private PostgreSQL and Apache Kafka to work with.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use stocktide_devstack::{
    DevstackError, PartState, RecordedStack, Stack, StackOptions, StackStatus, kafka_version,
    postgres_version,
};
use stocktide_runtime::shutdown;

use super::say;
use super::table::table;

/// How often a stack that is held looks whether its parts still run.
const LOOK: Duration = Duration::from_millis(500);

/// A private PostgreSQL and Apache Kafka, without Docker: start, end, look at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide dev up --detach && eval \"$(stocktide dev env)\" && stocktide migrate
  stocktide dev down")]
pub struct DevArgs {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DevCommand {
    Up(UpArgs),
    Down(DownArgs),
    Status(StatusArgs),
    Env(EnvArgs),
    Psql(PsqlArgs),
}

#[derive(Debug, clap::Args)]
struct StateDir {
    /// Where the stack keeps its data, logs and process ids.
    #[arg(long, value_name = "DIR", default_value = ".stocktide")]
    state_dir: PathBuf,
}

/// Start PostgreSQL and Kafka on free loopback ports, and hold them until Ctrl-C. The data are kept.
///
/// The programs are fetched by Maven the first time (some 60 MB) and kept in $STOCKTIDE_PARTS_DIR, else in the user's cache.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide dev up
  stocktide dev up --detach --nodes 3 --state-dir /var/tmp/three

A stack that already runs there is left as it is.")]
struct UpArgs {
    #[command(flatten)]
    at: StateDir,
    /// Leave the stack running in the background; `stocktide dev down` ends it.
    #[arg(long)]
    detach: bool,
    /// Kafka nodes: 1 or 3.
    #[arg(long, value_name = "N", default_value = "1", value_parser = nodes)]
    nodes: u16,
    /// Once it runs, print it as one JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// End the stack in order, whoever holds it. The data are kept; delete the directory to lose them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide dev down && rm -r .stocktide")]
struct DownArgs {
    #[command(flatten)]
    at: StateDir,
}

/// Show the parts of the stack. Exit code 0 when all of them run, 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide dev status --json")]
struct StatusArgs {
    #[command(flatten)]
    at: StateDir,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Print the shell's export lines for STOCKTIDE_DATABASE_URL and STOCKTIDE_KAFKA_BROKERS.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  eval \"$(stocktide dev env)\"")]
struct EnvArgs {
    #[command(flatten)]
    at: StateDir,
}

/// Open psql, the client of the system, on the stack's database.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide dev psql
  stocktide dev psql -c 'SELECT count(*) FROM events_log'")]
struct PsqlArgs {
    #[command(flatten)]
    at: StateDir,
    /// Handed over to psql as they are.
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When the stack cannot be started or ended, or the command needs one and none runs.
pub async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DevCommand::Up(args) => up(args).await,
        DevCommand::Down(args) => down(args).await,
        DevCommand::Status(args) => show_status(&args),
        DevCommand::Env(args) => env(&args),
        DevCommand::Psql(args) => psql(args),
    }
}

async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let state_dir = args.at.state_dir;
    let options = StackOptions {
        state_dir: Some(state_dir.clone()),
        kafka_nodes: args.nodes,
        ..StackOptions::default()
    };
    let stack = match Stack::start(options).await {
        Ok(stack) => stack,
        Err(DevstackError::AlreadyRunning { .. }) => {
            tell(&status(&state_dir)?, args.json, "already runs; `stocktide dev down` ends it")?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    if args.detach {
        stack.detach()?;
        tell(&status(&state_dir)?, args.json, "runs in the background; `stocktide dev down` ends it")?;
        return Ok(ExitCode::SUCCESS);
    }
    let stop = shutdown::on_signal();
    tell(&status(&state_dir)?, args.json, "Ctrl-C ends it and keeps the data")?;
    hold(stack, stop.cancelled()).await
}

/// Waits for the signal to end, or for a part to fail.
async fn hold(mut stack: Stack, stop: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Some(failure) = stack.failure() {
            bail!(failure);
        }
    }
    stack.stop().await?;
    Ok(ExitCode::SUCCESS)
}

async fn down(args: DownArgs) -> anyhow::Result<ExitCode> {
    let state_dir = args.at.state_dir;
    let ran = match RecordedStack::open(&state_dir)? {
        Some(stack) => stack.stop().await?,
        None => false,
    };
    let dir = state_dir.display();
    say(if ran { format!("ended; the data are kept in {dir}") } else { format!("no stack runs in {dir}") })?;
    Ok(ExitCode::SUCCESS)
}

fn show_status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = status(&args.at.state_dir)?;
    if args.json {
        say(serde_json::to_string(&status)?)?;
    } else if status.parts.is_empty() {
        say(format!("no stack runs in {}", status.state_dir.display()))?;
    } else {
        let row = |part: &stocktide_devstack::PartStatus| {
            let state = if part.state == PartState::Running { "running" } else { "stopped" };
            let pid = part.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            vec![
                part.name.clone(),
                state.to_owned(),
                pid,
                part.port.to_string(),
                part.log.display().to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = status.parts.iter().map(row).collect();
        say(table(&["part", "state", "pid", "port", "log"], &rows))?;
        if let Some(pid) = status.held_by {
            say(format!("held by process {pid}: it ends with that"))?;
        }
    }
    Ok(if status.running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn env(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let (database, brokers) = running(&args.at.state_dir)?;
    say(format!("export STOCKTIDE_DATABASE_URL={}", quoted(&database)))?;
    say(format!("export STOCKTIDE_KAFKA_BROKERS={}", quoted(&brokers)))?;
    Ok(ExitCode::SUCCESS)
}

fn psql(args: PsqlArgs) -> anyhow::Result<ExitCode> {
    let (database, _) = running(&args.at.state_dir)?;
    // Takes this process's place: the terminal, the signals and the exit code are psql's own.
    let error = Command::new("psql").arg("--dbname").arg(database).args(args.args).exec();
    if error.kind() == io::ErrorKind::NotFound {
        bail!(
            "psql was not found; install it, on Debian and Ubuntu with `apt-get install postgresql-client`"
        );
    }
    Err(error).context("psql")
}

/// The stack in `state_dir` as it is; one without parts if there never was any.
fn status(state_dir: &Path) -> anyhow::Result<StackStatus> {
    Ok(match RecordedStack::open(state_dir)? {
        Some(stack) => stack.status(),
        None => StackStatus {
            running: false,
            state_dir: state_dir.to_path_buf(),
            database_url: None,
            kafka_brokers: None,
            held_by: None,
            parts: Vec::new(),
        },
    })
}

/// The database's URI and the brokers of a stack that runs.
fn running(state_dir: &Path) -> anyhow::Result<(String, String)> {
    let status = status(state_dir)?;
    match (status.database_url, status.kafka_brokers) {
        (Some(database), Some(brokers)) if status.running => Ok((database, brokers)),
        _ => bail!("no stack runs in {}; start one with `stocktide dev up`", state_dir.display()),
    }
}

fn tell(status: &StackStatus, json: bool, note: &str) -> anyhow::Result<()> {
    if json {
        say(serde_json::to_string(status)?)?;
        return Ok(());
    }
    let absent = || "(not started)".to_owned();
    let database = status.database_url.clone().unwrap_or_else(absent);
    let brokers = status.kafka_brokers.clone().unwrap_or_else(absent);
    say(format!("{:<18}{database}", format!("PostgreSQL {}", postgres_version())))?;
    say(format!("{:<18}{brokers}", format!("Kafka {}", kafka_version())))?;
    say(format!("{:<18}{} ({note})", "state and logs", status.state_dir.display()))?;
    Ok(())
}

/// One word for a POSIX shell, whatever it holds.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn nodes(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 and 3 are possible".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevArgs,
    }

    fn parse(words: &[&str]) -> Result<DevCommand, clap::Error> {
        Line::try_parse_from(["dev"].iter().chain(words)).map(|line| line.dev.command)
    }

    #[test]
    fn a_word_with_quotes_and_dollars_stays_one_word_in_a_shell() {
        let word = "it's $HOME `id` \"x\" \\";
        let output =
            Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }

    #[test]
    fn what_follows_psql_is_handed_over_even_if_it_looks_like_a_flag() {
        let DevCommand::Psql(args) =
            parse(&["psql", "--state-dir", "d", "-c", "SELECT 1", "--help"]).unwrap()
        else {
            unreachable!("psql was asked for")
        };
        assert_eq!(args.at.state_dir, Path::new("d"));
        assert_eq!(args.args, ["-c", "SELECT 1", "--help"]);
    }

    #[test]
    fn only_one_and_three_nodes_are_taken() {
        assert!(matches!(parse(&["up", "--nodes", "3"]).unwrap(), DevCommand::Up(UpArgs { nodes: 3, .. })));
        let error = parse(&["up", "--nodes", "2"]).unwrap_err().to_string();
        assert!(error.contains("--nodes") && error.contains("1 and 3 are possible"), "{error}");
    }

    #[test]
    fn every_subcommand_shows_an_example() {
        use clap::CommandFactory;
        for command in Line::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("stocktide dev "), "{} has no example", command.get_name());
        }
    }
}
