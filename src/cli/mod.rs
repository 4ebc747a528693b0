//! The commands, what they share, and how they end: 0 done, 1 no or failed, 2 wrong usage.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rdkafka::error::KafkaError;
use sqlx::{Connection, PgPool};
use stocktide_domain::card;
use stocktide_runtime::config::{Flag, Sources};
use stocktide_runtime::secret::mask_url;
use stocktide_runtime::terminal::defuse;
use stocktide_runtime::{Config, ConfigError, kafka, telemetry};

mod api;
mod catalog;
mod config;
mod demo;
mod dev;
mod dlq;
pub mod door;
mod facts;
mod forget;
mod health;
mod import;
mod jobs;
mod migrate;
mod processor;
mod produce;
mod report;
mod roles;
mod send;
mod table;
mod topics;
mod up;
mod verify;

/// The exit code of wrong usage.
const WRONG_USAGE: u8 = 2;

/// Real-time inventory from Kafka, daily reports from PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    name = "stocktide",
    version,
    after_help = "Examples:
  stocktide demo                          the tour, on a private Kafka and PostgreSQL
  stocktide COMMAND --help                what a command does, with an example

Exit codes: 0 done; 1 the answer is no, or the work failed; 2 wrong usage."
)]
pub struct CommandLine {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct GlobalArgs {
    /// A configuration file in TOML, instead of STOCKTIDE_CONFIG's or ./stocktide.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// PostgreSQL, as postgres://user:password@host:port/database.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Kafka's bootstrap addresses, with commas between.
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    kafka_brokers: Option<String>,
    /// Where services serve /live, /ready and /metrics.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or directives like info,stocktide_processor=debug.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines for people, or one JSON object a line.
    #[arg(long, global = true, value_name = "text|json")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Dev(dev::DevArgs),
    Migrate(migrate::MigrateArgs),
    Roles(roles::RolesArgs),
    Catalog(catalog::CatalogArgs),
    Produce(produce::ProduceArgs),
    Import(import::ImportArgs),
    Send(send::SendArgs),
    Processor(processor::ProcessorArgs),
    Jobs(jobs::JobsArgs),
    Api(api::ApiArgs),
    Up(up::UpArgs),
    Topics(topics::TopicsArgs),
    Dlq(dlq::DlqArgs),
    Report(report::ReportArgs),
    Facts(facts::FactsArgs),
    Forget(forget::ForgetArgs),

    Verify(verify::VerifyArgs),
    Health(health::HealthArgs),
    Config(config::ConfigArgs),
}

impl Command {
    /// What it is called in traces.
    fn name(&self) -> &'static str {
        match self {
            Command::Processor(_) => "processor",
            Command::Jobs(_) => "jobs",
            Command::Api(_) => "api",
            Command::Up(_) => "up",
            Command::Produce(_) => "producers",
            _ => "command",
        }
    }
}

/// The command line as it was given.
///
/// # Errors
/// The exit code, once help has been shown or wrong usage has been told in one line.
pub fn parse() -> Result<CommandLine, ExitCode> {
    CommandLine::try_parse().map_err(|error| {
        if !error.use_stderr()
            || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        {
            let _ = error.print();
        } else {
            complain(&in_one_line(&error.render().to_string()));
        }
        ExitCode::from(error.exit_code().try_into().unwrap_or(WRONG_USAGE))
    })
}

/// clap's message without its paragraphs on usage.
fn in_one_line(rendered: &str) -> String {
    let message = rendered.split("\n\nUsage:").next().unwrap_or(rendered);
    let message = message.split("\n\nFor more information").next().unwrap_or(message);
    let words: Vec<&str> = message.trim_start_matches("error:").split_whitespace().collect();
    words.join(" ")
}

/// Settles the configuration, starts the logs and runs the command.
///
/// # Errors
/// Whatever kept the command from its work.
pub async fn run(command_line: CommandLine) -> anyhow::Result<ExitCode> {
    let CommandLine { global, command } = command_line;
    let config = match command {
        // It makes what the settings point to, so it does not ask for them.
        Command::Dev(_) => Config::defaults()?,
        Command::Demo(_) => demo::config(global.log, global.log_format)?,
        Command::Api(ref args) => Config::load(&global.sources(args.flag()))?,
        _ => Config::load(&global.sources(None))?,
    };
    // What waits to be sent is, when the command has ended.
    let _traces = telemetry::init(&config, command.name())?;
    command.knock(&config).await?;
    match command {
        Command::Demo(args) => demo::run(args, config).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Migrate(args) => migrate::run(args, &config).await,
        Command::Roles(args) => roles::run(args, &config).await,
        Command::Catalog(args) => catalog::run(args, &config).await,
        Command::Produce(args) => produce::run(args, &config).await,
        Command::Import(args) => import::run(args, &config).await,
        Command::Send(args) => send::run(args, &config).await,
        Command::Processor(args) => processor::run(args, &config).await,
        Command::Jobs(args) => jobs::run(args, &config).await,
        Command::Api(args) => api::run(args, &config).await,
        Command::Up(args) => up::run(args, &config).await,
        Command::Topics(args) => topics::run(args, &config).await,
        Command::Dlq(args) => dlq::run(args, &config).await,
        Command::Report(args) => report::run(args, &config).await,
        Command::Facts(args) => facts::run(args, &config).await,
        Command::Forget(args) => forget::run(args, &config).await,
        Command::Verify(args) => verify::run(args, &config).await,
        Command::Health(args) => health::run(args, &config).await,
        Command::Config(args) => config::run(args, &config).await,
    }
}

impl Command {
    /// Asks those whom the command cannot do without, whether they let us in. The API and the jobs do without Kafka.
    async fn knock(&self, config: &Config) -> anyhow::Result<()> {
        match self {
            Command::Migrate(_)
            | Command::Produce(_)
            | Command::Import(_)
            | Command::Send(_)
            | Command::Verify(_) => door::kafka(config).await,
            Command::Topics(args) if args.connects() => door::kafka(config).await,
            Command::Processor(_) | Command::Up(_) => {
                door::kafka(config).await?;
                door::database(config).await
            }
            _ => Ok(()),
        }
    }
}

impl GlobalArgs {
    fn sources(self, api_listen: Option<String>) -> Sources {
        let database_url = self.database_url.or_else(|| std::env::var(door::HIDDEN_FLAG).ok());
        let flags = [
            ("api.listen", api_listen, "--listen"),
            ("database.url", database_url, "--database-url"),
            ("kafka.brokers", self.kafka_brokers, "--kafka-brokers"),
            ("admin.listen", self.admin_listen, "--admin-listen"),
            ("log.filter", self.log, "--log"),
            ("log.format", self.log_format, "--log-format"),
        ];
        let given = |(key, value, flag): (_, Option<String>, _)| Some(Flag { key, value: value?, flag });
        Sources::of_process(self.config, flags.into_iter().filter_map(given).collect())
    }
}

// How a command ends ----------------------------------------------------------------------------------------------------

/// Wrong usage that only the command itself can find: it ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Tells an error in one line and gives its exit code.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    let is_broken_pipe = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_broken_pipe) {
        // Whoever read our output has had enough of it, as `head` does.
        return ExitCode::SUCCESS;
    }
    complain(&with_causes(error));
    if error.chain().any(|e| e.is::<ConfigError>() || e.is::<Usage>()) {
        ExitCode::from(WRONG_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

fn complain(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "stocktide: {}", defuse(&card::masked(message)));
}

/// The chain of causes with colons between; a cause that the text above it has told already is not told again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut line = String::new();
    if error.chain().any(is_without_schema) {
        return "the database has not the schema that this program needs: run `stocktide migrate`".to_owned();
    }
    let certificate = error.chain().find_map(door::in_words);
    // A client's own words of a certificate are said better here.
    let told = error.chain().take_while(|cause| certificate.is_none() || !cause.is::<sqlx::Error>());
    for cause in told.map(ToString::to_string).chain(certificate.clone()) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    let code = error.chain().find_map(|cause| cause.downcast_ref::<KafkaError>()?.rdkafka_error_code());
    if let Some(right) = code.and_then(kafka::missing_right).filter(|_| !line.contains("we lack")) {
        line = format!("{line}: we lack {right} (stocktide topics acls)");
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table or column is missing: nobody has run `migrate`, or an older program.
fn is_without_schema(cause: &(dyn std::error::Error + 'static)) -> bool {
    let code = cause
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(code.as_ref(), "42P01" | "42703" | "42883"))
}

/// A line beside the answer, to stderr, of something that was found in somebody's file.
pub fn complain_of(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", defuse(&line.to_string()));
}

/// A line of the answer, to stdout, without anything that a terminal would act upon. A reader that has gone away is an error,
/// not a panic.
pub fn say(line: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{}", defuse(&line.to_string()))
}

/// A small pool of connections to the configured database.
///
/// # Errors
/// When it is not configured, or away; the password is not shown.
pub async fn connect(config: &Config) -> anyhow::Result<PgPool> {
    let url = config.database_url()?;
    let at = || format!("PostgreSQL at {}", mask_url(&url));
    // A pool goes on trying for its whole time-out when nobody listens; whoever waits wants to know at once.
    sqlx::PgConnection::connect(&url).await.with_context(at)?.close().await.with_context(at)?;
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(4);
    options.connect(&url).await.with_context(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use anyhow::anyhow;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    /// The words of a command line, as a shell takes them apart; up to a pipe or a comment.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for character in line.chars() {
            match character {
                '\'' => is_quoted = !is_quoted,
                '#' | '|' if !is_quoted && words.last().is_some_and(String::is_empty) => break,
                ' ' if !is_quoted => words.push(String::new()),
                character => words.last_mut().unwrap().push(character),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn each_command_of_the_runbooks_is_one_that_there_is() {
        let mut read = 0;
        for page in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks")).unwrap() {
            let page = page.unwrap().path();
            let text = std::fs::read_to_string(&page).unwrap();
            let commands = text.lines().filter(|line| line.starts_with("    ")).map(str::trim);
            let quoted = text.split('`').skip(1).step_by(2);
            let commands = commands.chain(quoted).filter(|line| line.starts_with("stocktide "));
            for command in commands.filter(|line| !line.contains(['\n', '…'])) {
                let line = ["YYYY-MM-DD", "YESTERDAY"]
                    .iter()
                    .fold(command.replace("RUN", "1"), |line, day| line.replace(day, "2026-07-01"));
                read += 1;
                let error = CommandLine::try_parse_from(words(&line)).err();
                // In a sentence a command may be named without what it is about.
                let error = error.filter(|error| error.kind() != ErrorKind::MissingRequiredArgument);
                let error = error.map(|error| error.to_string());
                assert_eq!(error, None, "{}: {command}", page.display());
            }
        }
        assert!(read >= 20, "{read} commands were read");
    }

    #[test]
    fn every_command_shows_an_example() {
        use clap::CommandFactory;
        for command in CommandLine::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("stocktide "), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn an_error_is_one_line_and_tells_each_cause_once() {
        let error =
            anyhow!("connection\nrefused").context("the database: connection\nrefused").context("migrate");
        assert_eq!(with_causes(&error), "migrate: the database: connection refused");
    }

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        let error = CommandLine::try_parse_from(["stocktide", "topics", "tail"]).unwrap_err();
        assert_eq!(
            in_one_line(&error.render().to_string()),
            "the following required arguments were not provided: <TOPIC>"
        );
    }
}
