//! `dlq replay`

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use sqlx::PgPool;
use stocktide_dlq::{Edit, EditError, Mark, Options, Outcome, Plan, Rules, Skipped};
use stocktide_runtime::Config;
use stocktide_runtime::terminal::escape;
use stocktide_store::dlq::{self, Selection};

use super::{Chosen, nothing, pool, read};
use crate::cli::{Usage, say};

/// So many records are shown of what would be sent, and of what Kafka refuses.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Send what this expression (jq's language) makes of each value; the event_id has to stay.
    #[arg(long, value_name = "EXPR", conflicts_with = "replace")]
    jq: Option<String>,
    /// Send the records that this file names, with the values that it gives them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["records", "reason", "topic", "since", "until", "all"])]
    replace: Option<PathBuf>,
    /// Send also what was replayed or discarded before, or came back too often.
    #[arg(long)]
    again: bool,
    /// Leave out what has been replayed so often already, its earlier rejects counted.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    max_replays: i32,
}

/// Sends rejected records again.
pub async fn replay(args: ReplayArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (selection, edit) = wanted(&args, config)?;
    config.kafka_brokers()?;
    let chosen = &args.chosen;
    let rules = Rules { again: args.again, most_replays: args.max_replays };
    let (by, note) = (chosen.by(), chosen.note.clone());
    let options = Options { selection, edit, limit: chosen.limit, rules, by, note };
    let pool = pool(config).await?;
    check_named(&pool, &options).await?;
    let plan = Plan::of(&dlq::standing(&pool, &options.selection).await?, rules, chosen.limit);
    if plan.matching == 0 {
        bail!("{}", nothing(&options.selection));
    }
    if chosen.dry_run {
        return rehearse(&args, &pool, &options, plan).await;
    }
    if plan.to_send == 0 && plan.broken_off == 0 {
        bail!("nothing is sent: {}", told(&plan.skipped));
    }
    if !chosen.agree("sent again", plan.to_send + plan.broken_off)? {
        bail!("nothing was sent");
    }
    let progress = |sent: u64| tracing::info!(sent, of = plan.to_send, "sent again");
    let outcome = stocktide_dlq::replay(config, &pool, &options, Mark::now(), &progress).await?;
    pool.close().await;
    if chosen.json {
        say(serde_json::to_string(&outcome)?)?;
    } else {
        say(in_words(&outcome))?;
    }
    Ok(if outcome.sent + outcome.found > 0 && outcome.refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn wanted(args: &ReplayArgs, config: &Config) -> anyhow::Result<(Selection, Edit)> {
    if let Some(file) = &args.replace {
        let text = read(file)?;
        let edit = Edit::replacements(&text).map_err(|e| Usage(format!("{}: {e}", file.display())))?;
        let Edit::Replacements(replacements) = &edit else { bail!("no replacements") };
        let mut records: Vec<_> = replacements.keys().cloned().collect();
        records.sort();
        return Ok((Selection { records, ..Selection::default() }, edit));
    }
    let selection = args.chosen.selection(config)?;
    let edit = match &args.jq {
        None => Edit::None,
        Some(expression) => Edit::jq(expression).map_err(|e: EditError| Usage(e.to_string()))?,
    };
    Ok((selection, edit))
}

/// Records that are named one by one must all be there.
async fn check_named(pool: &PgPool, options: &Options) -> anyhow::Result<()> {
    let Selection { records, .. } = &options.selection;
    if records.is_empty() {
        return Ok(());
    }
    let known = dlq::lines(pool, &options.selection, i64::MAX).await?;
    let known: HashSet<_> = known.into_iter().map(|line| line.at).collect();
    if let Some(missing) = records.iter().find(|at| !known.contains(at)) {
        bail!("{missing} is no rejected record of the log: nothing was sent");
    }
    Ok(())
}

async fn rehearse(
    args: &ReplayArgs,
    pool: &PgPool,
    options: &Options,
    plan: Plan,
) -> anyhow::Result<ExitCode> {
    let preview = stocktide_dlq::preview(pool, options, SHOWN).await?;
    if args.chosen.json {
        let records: Vec<_> = preview
            .iter()
            .map(|(at, new)| json!({ "record": at.to_string(), "value": new.as_deref().map(String::from_utf8_lossy) }))
            .collect();
        say(json!({ "dry_run": true, "plan": plan, "first": records }))?;
    } else {
        for (at, new) in &preview {
            let new = new.as_deref().map_or_else(String::new, |new| format!("  {}", escape(new)));
            say(format!("{at}{new}"))?;
        }
        if plan.to_send > preview.len() as u64 {
            say(format!("… and {} more", plan.to_send - preview.len() as u64))?;
        }
        // Those that have none may get one by the edit.
        let without = if matches!(options.edit, Edit::None) { plan.without_event_id } else { 0 };
        let notes = notes(&plan) + &without_event_id(without);
        say(format!("{} of {} would be sent again{notes}", plan.to_send, plan.matching))?;
    }
    Ok(if plan.to_send + plan.broken_off > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn notes(plan: &Plan) -> String {
    let left_out = match plan.skipped.total() {
        0 => String::new(),
        _ => format!("; left out: {}", told(&plan.skipped)),
    };
    let broken_off = match plan.broken_off {
        0 => String::new(),
        n => format!("; of {n} an earlier run broke off: whether they were sent is found out first"),
    };
    left_out + &broken_off
}

fn without_event_id(records: u64) -> String {
    match records {
        0 => String::new(),
        _ => format!(
            "; {records} have no event_id: each is a new record, and nothing but this list knows it again"
        ),
    }
}

/// Why records are left out.
fn told(skipped: &Skipped) -> String {
    let kinds = [
        (skipped.applied, "applied since"),
        (skipped.replayed, "replayed before (--again sends them once more)"),
        (skipped.discarded, "discarded (--again sends them all the same)"),
        (skipped.came_back, "came back too often (--max-replays, or --again)"),
    ];
    let told: Vec<String> =
        kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    told.join(", ")
}

fn in_words(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    if outcome.found + outcome.not_found > 0 {
        lines.push(format!(
            "of an earlier run that broke off {} had been sent and {} not",
            outcome.found, outcome.not_found
        ));
    }
    if outcome.lost_sight_of > 0 {
        lines.push(format!(
            "{} of an earlier run that broke off were for a topic that is gone, or whose begin has aged out: nobody can tell whether they were sent, so they count as \
             replayed",
            outcome.lost_sight_of
        ));
    }
    let edited =
        if outcome.edited > 0 { format!(", {} of them mended", outcome.edited) } else { String::new() };
    lines.push(format!("sent again: {}{edited}{}", outcome.sent, without_event_id(outcome.without_event_id)));
    if outcome.skipped.total() > 0 {
        lines.push(format!("left out: {}", told(&outcome.skipped)));
    }
    for (at, why) in outcome.refused.iter().take(SHOWN) {
        lines.push(format!("{at}: not sent: {why}"));
    }
    if outcome.refused.len() > SHOWN {
        lines.push(format!("… and {} more", outcome.refused.len() - SHOWN));
    }
    lines.join("\n")
}
