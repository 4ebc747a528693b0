//! `stocktide send TOPIC [FILE|-]`: events that a person or a script wrote.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use stocktide_producers::outgoing::{self, Outgoing, Problem};
use stocktide_producers::sink::{Delivered, Sink};
use stocktide_runtime::{Config, clock};
use uuid::{NoContext, Timestamp, Uuid};

use super::{Usage, complain_of, say};

/// How long the last answers may take.
const DEADLINE: Duration = Duration::from_secs(70);
/// How many added event_ids, or lines that are no events, people are shown.
const SHOWN: usize = 20;

/// Send events from a file or stdin: one, a JSON array, or one a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide send online_orders order.json
  jq -c '.[]' sales.json | stocktide send store_sales
  echo '{\"order_id\":\"A-1\",\"type\":\"cancelled\",\"order_timestamp\":\"2026-03-01T12:00:00Z\"}' |
      stocktide send online_orders -
  printf 'not json' | stocktide send online_orders --raw --key A-1

An event_id that is missing is added, and told. All events are read before the first is sent: where one is no JSON object,
its line is told and nothing is sent. What an event says is the processor's to judge.")]
pub struct SendArgs {
    /// online_orders, store_sales, supplier_restocks or payments.
    topic: String,
    /// The events; - is stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Send the input as one record, byte for byte, whatever it is.
    #[arg(long)]
    raw: bool,
    /// The records' key, instead of their business id; with --raw there is none otherwise.
    #[arg(long)]
    key: Option<String>,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the input cannot be read or Kafka is away. Lines that are no events, and refused records, are exit code 1.
pub async fn run(args: SendArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let business_id = outgoing::business_id(&args.topic).map_err(Usage)?;
    config.kafka_brokers()?;
    let config = config.clone();
    // Reading stdin and Kafka's calls block.
    tokio::task::spawn_blocking(move || send(&args, business_id, &config)).await?
}

fn send(args: &SendArgs, business_id: &str, config: &Config) -> anyhow::Result<ExitCode> {
    let input = read(&args.file)?;
    let mut events = if args.raw {
        vec![Outgoing { line: 1, key: None, value: input, added_event_id: None }]
    } else {
        match outgoing::parse(&input, business_id, new_event_id) {
            Ok(events) => events,
            Err(problems) => return refuse(args, &problems),
        }
    };
    if let Some(key) = &args.key {
        for event in &mut events {
            event.key = Some(key.clone());
        }
    }
    let sink = Sink::connect(config, &[&args.topic])?;
    for event in &events {
        sink.send_raw(&args.topic, event.key.as_deref().map(str::as_bytes), Some(&event.value))?;
    }
    let delivered = sink.finish(DEADLINE);
    if args.json {
        answer(args, &events, &delivered)?;
    } else {
        print(args, business_id, &events, &delivered)?;
    }
    Ok(if delivered.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Nothing is sent; every line that is no event is told.
fn refuse(args: &SendArgs, problems: &[Problem]) -> anyhow::Result<ExitCode> {
    let name = if is_stdin(&args.file) { "stdin".into() } else { args.file.to_string_lossy() };
    if args.json {
        let invalid: Vec<_> = problems.iter().map(|p| json!({ "line": p.line, "reason": p.what })).collect();
        say(json!({ "topic": args.topic, "sent": 0, "invalid": invalid }))?;
        return Ok(ExitCode::FAILURE);
    }
    for problem in problems.iter().take(SHOWN) {
        complain_of(format_args!("{name}: {problem}"));
    }
    anyhow::bail!("{} in {name} cannot be sent: nothing was sent", problems.len());
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if is_stdin(file) {
        let mut input = Vec::new();
        std::io::stdin().lock().read_to_end(&mut input).context("stdin")?;
        return Ok(input);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn new_event_id() -> Uuid {
    let now = clock::now();
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

fn answer(args: &SendArgs, events: &[Outgoing], delivered: &Delivered) -> anyhow::Result<()> {
    let tally = delivered.topics.get(&args.topic).cloned().unwrap_or_default();
    let added: Vec<_> = (events.iter())
        .filter_map(|event| Some(json!({ "line": event.line, "event_id": event.added_event_id? })))
        .collect();
    say(json!({
        "topic": args.topic,
        "sent": tally.sent,
        "refused": tally.refused,
        "unanswered": tally.unanswered,
        "added_event_ids": added,
    }))?;
    Ok(())
}

fn print(
    args: &SendArgs,
    business_id: &str,
    events: &[Outgoing],
    delivered: &Delivered,
) -> anyhow::Result<()> {
    let added: Vec<(usize, Uuid)> = events.iter().filter_map(|e| Some((e.line, e.added_event_id?))).collect();
    for (line, event_id) in added.iter().take(SHOWN) {
        say(format!("line {line}: added event_id {event_id}"))?;
    }
    if added.len() > SHOWN {
        say(format!("… and to {} more (--json tells them all)", added.len() - SHOWN))?;
    }
    let without_key = events.iter().filter(|event| event.key.is_none()).count();
    if without_key > 0 && !args.raw {
        say(format!("{without_key} without {business_id}: sent without a key"))?;
    }
    say(delivered.to_string().trim_end())?;
    Ok(())
}
