//! `stocktide dlq list|show|stats|replay|discard`: rejected records, and the way back.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use sqlx::ConnectOptions;
use stocktide_domain::{Reason, Source};
use stocktide_runtime::{Config, clock};
use stocktide_store::dlq::{At, Selection, State};

use super::{Usage, connect};

mod discard;
mod look;
mod replay;
mod show;

/// More records than this are dealt with only after somebody said yes.
const WITHOUT_ASKING: u64 = 1_000;
/// The longest note and the longest name, in characters.
const LONGEST_WORDS: usize = 200;

/// Look at rejected records, send them again, or give them up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide dlq list
  stocktide dlq show online_orders/0@41
  stocktide dlq replay --reason unknown_product --since 2h --dry-run
  stocktide dlq replay --reason schema_violation --jq '.items[].quantity |= tonumber'
  stocktide dlq discard --reason malformed_json --until 2026-03-01 --note 'a test of the till'

What is shown is what the log has: a month that has aged out of it is left in the topic dlq alone.")]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DlqCommand {
    /// List rejected records by day, topic and reason: how many, what became of them, who dealt with them and when.
    #[command(after_help = "Examples:
  stocktide dlq list --since 7d
  stocktide dlq list --records --state open --reason unknown_product
  stocktide dlq list --json | jq 'select(.open > 0)'")]
    List(look::ListArgs),
    /// Show a rejected record: its origin, the reason, key, headers and value, what was done with it, and its earlier rejects.
    #[command(after_help = "Examples:
  stocktide dlq show online_orders/0@41
  stocktide dlq show 01890a5d-ac96-774b-bcce-b302099a8057 --json")]
    Show(show::ShowArgs),
    /// Show how many rejected records there are by topic and reason, and since when the oldest of them has been waiting.
    #[command(after_help = "Example:
  stocktide dlq stats --since 30d")]
    Stats(look::StatsArgs),
    /// Send rejected records to their topics again, as they were or mended.
    #[command(after_help = "Examples:
  stocktide dlq replay --reason unknown_product --dry-run
  stocktide dlq replay --reason unknown_product --since 2026-03-01 --yes
  stocktide dlq replay online_orders/0@41 --jq '.items[0].product_id = \"22423\"'
  stocktide dlq replay --replace mended.ndjson

Each rejected record is sent once, to the partition that it came from; a second time only with --again, or when it has been
rejected anew. It takes effect once however often it is sent, as its event_id is known; a record without one (broken bytes)
is a new record each time. A run that is broken off is gone on with by calling it again. A line of --replace's file is
{\"record\": \"online_orders/0@41\", \"value\": {…}}.")]
    Replay(replay::ReplayArgs),
    /// Give rejected records up: they count as dealt with, and are not replayed. They stay in the log and in the topic dlq.
    #[command(after_help = "Examples:
  stocktide dlq discard online_orders/0@41 --note 'a test order'
  stocktide dlq discard --reason malformed_json --until 2026-03-01 --yes")]
    Discard(discard::DiscardArgs),
}

/// Runs it.
///
/// # Errors
/// When the database or Kafka is away, or what is asked for is not allowed. That nothing matches is exit code 1.
pub async fn run(args: DlqArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        DlqCommand::List(args) => look::list(&args, config).await,
        DlqCommand::Stats(args) => look::stats(&args, config).await,
        DlqCommand::Show(args) => show::show(&args, config).await,
        DlqCommand::Replay(args) => replay::replay(args, config).await,
        DlqCommand::Discard(args) => discard::discard(args, config).await,
    }
}

/// Which rejected records.
#[derive(Debug, Clone, clap::Args)]
struct Filter {
    /// Of this reason; may be given several times.
    #[arg(long, value_name = "CODE", value_parser = reason)]
    reason: Vec<String>,
    /// Of this input topic; may be given several times.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    topic: Vec<String>,
    /// Rejected at this moment or later: 2026-03-01T12:00:00Z, a business day such as 2026-03-01, or 2h for so long ago.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Rejected before this moment.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.reason.is_empty() && self.topic.is_empty() && self.since.is_none() && self.until.is_none()
    }

    fn selection(&self, config: &Config) -> Result<Selection, Usage> {
        let of = |name: &str, text: &Option<String>| {
            text.as_ref().map(|text| moment(name, text, config)).transpose()
        };
        let (since, until) = (of("--since", &self.since)?, of("--until", &self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Usage(format!("--since ({since}) has to lie before --until ({until})")));
        }
        Ok(Selection {
            reasons: self.reason.clone(),
            topics: self.topic.clone(),
            since,
            until,
            ..Selection::default()
        })
    }
}

/// Which rejected records are to be dealt with: these, or those that a filter finds, or all.
#[allow(clippy::struct_excessive_bools)] // each is a flag
#[derive(Debug, Clone, clap::Args)]
struct Chosen {
    /// Records (online_orders/0@41), or the event_ids of their events.
    #[arg(value_name = "RECORD", conflicts_with_all = ["reason", "topic", "since", "until", "all"])]
    records: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All there are.
    #[arg(long, conflicts_with_all = ["reason", "topic", "since", "until"])]
    all: bool,
    /// So many of them at most, those that were rejected first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask: more than 1,000 records are dealt with only so, or after a yes on a terminal.
    #[arg(long)]
    yes: bool,
    /// Who does it; the name of the operating system's user unless told otherwise.
    #[arg(long, value_name = "NAME", value_parser = words)]
    by: Option<String>,
    /// Why, for those who look at it later.
    #[arg(long, value_name = "TEXT", value_parser = words)]
    note: Option<String>,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

impl Chosen {
    fn selection(&self, config: &Config) -> Result<Selection, Usage> {
        let mut selection = self.filter.selection(config)?;
        for record in &self.records {
            name_record(record, &mut selection)?;
        }
        if self.records.is_empty() && self.filter.is_empty() && !self.all {
            return Err(Usage(
                "say which records: RECORD, --reason, --topic, --since, --until, or --all".to_owned(),
            ));
        }
        Ok(selection)
    }

    fn by(&self) -> String {
        self.by.clone().unwrap_or_else(user)
    }

    /// Asks before many records are dealt with; without a terminal there is nobody to ask.
    fn agree(&self, what: &str, records: u64) -> anyhow::Result<bool> {
        if records <= WITHOUT_ASKING || self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            bail!(Usage(format!(
                "{records} records are to be {what}; more than {WITHOUT_ASKING} only with --yes, or with --limit {WITHOUT_ASKING}"
            )));
        }
        eprint!("{records} records are to be {what}. Go on? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// A record by its place, or by its event.
fn name_record(text: &str, selection: &mut Selection) -> Result<(), Usage> {
    if let Some(at) = At::parse(text) {
        selection.records.push(at);
    } else if let Ok(event) = text.parse() {
        selection.events.push(event);
    } else {
        return Err(Usage(format!(
            "{text:?} names no record; allowed: topic/partition@offset, such as online_orders/0@41, or an event_id"
        )));
    }
    Ok(())
}

fn reason(text: &str) -> Result<String, String> {
    match Reason::from_code(text) {
        Some(reason) => Ok(reason.code().to_owned()),
        None => {
            Err(format!("allowed: {}", Reason::ALL.iter().map(|r| r.code()).collect::<Vec<_>>().join(", ")))
        }
    }
}

fn topic(text: &str) -> Result<String, String> {
    let topics = Source::ALL.map(Source::topic);
    if topics.contains(&text) { Ok(text.to_owned()) } else { Err(format!("allowed: {}", topics.join(", "))) }
}

fn state(text: &str) -> Result<State, String> {
    let allowed = || format!("allowed: {}", State::ALL.map(State::as_str).join(", "));
    State::of_name(text).ok_or_else(allowed)
}

/// A name or a note.
pub fn words(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_WORDS || text.contains('\0') {
        return Err(format!("allowed: 1 to {LONGEST_WORDS} characters"));
    }
    Ok(text.to_owned())
}

fn moment(name: &str, text: &str, config: &Config) -> Result<DateTime<Utc>, Usage> {
    if let Ok(moment) = text.parse::<DateTime<Utc>>() {
        return Ok(moment);
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        // A clock that leaves midnight out begins the day an hour later at most.
        let begin = (0..=3).find_map(|hours| {
            let wall = midnight + chrono::TimeDelta::hours(hours);
            config.business.timezone.from_local_datetime(&wall).earliest()
        });
        if let Some(begin) = begin {
            return Ok(begin.to_utc());
        }
    }
    let ago = humantime::parse_duration(text)
        .ok()
        .and_then(|ago: Duration| clock::now().checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?));
    ago.ok_or_else(|| {
        Usage(format!(
            "{name} {text:?} is no moment; allowed: 2026-03-01T12:00:00Z, a day such as 2026-03-01, or 2h for so long ago"
        ))
    })
}

/// The operating system's user, by name where the environment has it.
pub fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let named = named.and_then(|name| words(&name).ok());
    named.unwrap_or_else(|| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self")
            .map_or_else(|_| "unknown".to_owned(), |own| format!("uid {}", own.uid()))
    })
}

/// What nothing matches is told with.
fn nothing(selection: &Selection) -> &'static str {
    if selection.records.is_empty() && selection.events.is_empty() {
        "no rejected record of the log matches"
    } else {
        "no rejected record of the log is one of these"
    }
}

/// A pool. Of a million records a statement may take long, and that is nothing to be warned of.
async fn pool(config: &Config) -> anyhow::Result<sqlx::PgPool> {
    let first = connect(config).await?;
    let options = first.connect_options().as_ref().clone().disable_statement_logging();
    first.close().await;
    Ok(sqlx::postgres::PgPoolOptions::new().max_connections(4).connect_with(options).await?)
}

/// A file that is read whole.
fn read(path: &PathBuf) -> anyhow::Result<String> {
    use anyhow::Context;
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_moment_is_a_time_a_business_day_or_so_long_ago() {
        let mut config = Config::defaults().unwrap();
        config.business.timezone = "Europe/London".parse().unwrap();
        let read = |text: &str| moment("--since", text, &config).map(|moment| moment.to_rfc3339());
        assert_eq!(read("2026-03-01T12:00:00+01:00").unwrap(), "2026-03-01T11:00:00+00:00");
        assert_eq!(read("2026-06-01").unwrap(), "2026-05-31T23:00:00+00:00");
        let ago = clock::now() - moment("--since", "2h", &config).unwrap();
        assert!((7_140..=7_200).contains(&ago.num_seconds()), "{ago}");
        for wrong in ["yesterday", "", "2026-13-01", "-1h"] {
            let told = read(wrong).unwrap_err().to_string();
            assert!(told.starts_with(&format!("--since {wrong:?} is no moment; allowed: ")), "{told}");
        }
    }
}
