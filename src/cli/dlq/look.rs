//! `dlq list` and `dlq stats`

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use stocktide_runtime::Config;
use stocktide_store::dlq::{self, Group, Handling, Line, Selection, State, Stats};

use super::{Filter, nothing, pool, state};
use crate::cli::say;
use crate::cli::table::table;

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// In this state: open, pending, replayed, applied or discarded; may be given several times.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<State>,
    /// One line for each record, the newest first, instead of groups.
    #[arg(long)]
    records: bool,
    /// So many lines at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    filter: Filter,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Lists groups, or records.
pub async fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let selection = Selection { states: args.state.clone(), ..args.filter.selection(config)? };
    let pool = pool(config).await?;
    let is_empty = if args.records {
        let lines = dlq::lines(&pool, &selection, args.limit).await?;
        if args.json {
            for line in &lines {
                say(line_json(line))?;
            }
        } else if !lines.is_empty() {
            let rows: Vec<Vec<String>> = lines.iter().map(line_row).collect();
            say(table(
                &["record", "rejected", "reason", "state", "handled", "by", "replays", "detail"],
                &rows,
            ))?;
        }
        lines.is_empty()
    } else {
        let groups = dlq::groups(&pool, &selection, args.limit).await?;
        if args.json {
            for group in &groups {
                say(serde_json::to_string(group)?)?;
            }
        } else if !groups.is_empty() {
            let header = [
                "day",
                "topic",
                "reason",
                "records",
                "open",
                "pending",
                "replayed",
                "applied",
                "discarded",
                "came back",
                "handled",
                "by",
            ];
            say(table(&header, &groups.iter().map(group_row).collect::<Vec<_>>()))?;
        }
        groups.is_empty()
    };
    pool.close().await;
    if is_empty {
        anyhow::bail!("{}", nothing(&selection));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how many there are of each topic and reason.
pub async fn stats(args: &StatsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let selection = args.filter.selection(config)?;
    let pool = pool(config).await?;
    let stats = dlq::stats(&pool, &selection).await?;
    pool.close().await;
    if stats.is_empty() {
        anyhow::bail!("{}", nothing(&selection));
    }
    if args.json {
        for of in &stats {
            say(serde_json::to_string(of)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = stats.iter().map(stats_row).collect();
    if !rows.is_empty() {
        let header = [
            "topic",
            "reason",
            "records",
            "open",
            "pending",
            "replayed",
            "applied",
            "discarded",
            "came back",
            "oldest open",
            "last",
        ];
        say(table(&header, &rows))?;
    }
    let sum = |of: fn(&Stats) -> i64| stats.iter().map(of).sum::<i64>();
    say(format!("{} rejected, {} open", sum(|s| s.records), sum(|s| s.open)))?;
    Ok(ExitCode::SUCCESS)
}

pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn group_row(group: &Group) -> Vec<String> {
    let counts = [
        group.records,
        group.open,
        group.pending,
        group.replayed,
        group.applied,
        group.discarded,
        group.came_back,
    ];
    let mut row = vec![group.day.to_string(), group.topic.clone(), group.reason.clone()];
    row.extend(counts.map(|count| count.to_string()));
    row.extend([or_dash(group.handled_at.map(time)), or_dash(group.handled_by.clone())]);
    row
}

fn stats_row(of: &Stats) -> Vec<String> {
    let counts = [of.records, of.open, of.pending, of.replayed, of.applied, of.discarded, of.came_back];
    let mut row = vec![of.topic.clone(), of.reason.clone()];
    row.extend(counts.map(|count| count.to_string()));
    row.extend([or_dash(of.oldest_open.map(time)), time(of.last)]);
    row
}

fn line_row(line: &Line) -> Vec<String> {
    let Handling { state, at, by, replays, .. } = &line.handling;
    vec![
        line.at.to_string(),
        time(line.rejected_at),
        or_dash(line.reason.clone()),
        state.as_str().to_owned(),
        or_dash(at.map(time)),
        or_dash(by.clone()),
        replays.to_string(),
        or_dash(line.detail.clone()),
    ]
}

/// What was done with a record, as an object.
pub fn handling_json(handling: &Handling) -> Value {
    json!({
        "state": handling.state,
        "action": handling.action,
        "at": handling.at,
        "by": handling.by,
        "note": handling.note,
        "edited": handling.edited,
        "sent_offset": handling.sent_offset,
        "attempts": handling.attempts,
        "replays": handling.replays,
    })
}

fn line_json(line: &Line) -> Value {
    json!({
        "record": line.at.to_string(),
        "topic": line.at.topic,
        "partition": line.at.partition,
        "offset": line.at.offset,
        "rejected_at": line.rejected_at,
        "reason": line.reason,
        "detail": line.detail,
        "event_id": line.event_id,
        "handling": handling_json(&line.handling),
    })
}
