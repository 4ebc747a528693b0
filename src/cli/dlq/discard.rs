//! `dlq discard`

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use stocktide_runtime::{Config, clock};
use stocktide_store::dlq::actions::{Desk, Run};
use stocktide_store::dlq::{self, State};
use uuid::Uuid;

use super::{Chosen, nothing, pool};
use crate::cli::say;

#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Give up also what was replayed and has not been applied.
    #[arg(long)]
    again: bool,
}

/// Gives rejected records up.
pub async fn discard(args: DiscardArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let chosen = &args.chosen;
    let selection = chosen.selection(config)?;
    let pool = pool(config).await?;
    let standing = dlq::standing(&pool, &selection).await?;
    let count = |state: State| {
        let of = standing.iter().filter(|of| of.state == state.as_str());
        of.map(|of| of.records.max(0) as u64).sum::<u64>()
    };
    let replayed = count(State::Replayed);
    let open = count(State::Open) + if args.again { replayed } else { 0 };
    let open = open.min(chosen.limit.unwrap_or(u64::MAX));
    if standing.is_empty() {
        bail!("{}", nothing(&selection));
    }
    let left = [
        (count(State::Applied), "applied since"),
        (count(State::Discarded), "discarded before"),
        (if args.again { 0 } else { replayed }, "replayed (--again discards them all the same)"),
        (count(State::Pending), "of a replay that broke off: call that again first"),
    ];
    let left: Vec<String> =
        left.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let left = left.join(", ");
    if open == 0 {
        bail!("nothing is discarded: {left}");
    }
    if !chosen.dry_run && !chosen.agree("discarded", open)? {
        bail!("nothing was discarded");
    }
    let discarded = if chosen.dry_run {
        open
    } else {
        let run = Run { id: Uuid::new_v4(), by: chosen.by(), note: chosen.note.clone(), again: args.again };
        let limit = chosen.limit.map(|limit| limit.min(i64::MAX as u64) as i64);
        let mut desk = Desk::take(&pool).await?;
        let discarded = desk.discard(&run, &selection, limit, clock::now()).await?;
        desk.leave().await?;
        discarded
    };
    pool.close().await;
    if chosen.json {
        say(json!({ "dry_run": chosen.dry_run, "discarded": discarded, "left_out": left }))?;
    } else {
        let would = if chosen.dry_run { "would be discarded" } else { "discarded" };
        let left = if left.is_empty() { left } else { format!("; left out: {left}") };
        say(format!("{would}: {discarded}{left}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
