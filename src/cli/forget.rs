//! `stocktide forget USER_ID`: takes a user out of the database.

use std::process::ExitCode;

use anyhow::bail;
use stocktide_runtime::{Config, clock};
use stocktide_store::forget::{self, Forgotten};

use super::{Usage, connect, dlq, say};

/// Forget a user: take their user_id and addresses out of the tables and the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide forget 17850 --dry-run
  stocktide forget 17850 --by 'data protection, case 12'

A token stands in place of the user_id, the address goes, and of records in the log that name the user or their orders all
fields but the books' own. Sums and stock stay as they are, and `stocktide verify` goes on comparing them. What is in Kafka's
topics ages out there, and reports and backups are not touched: docs/data.md says what is kept where and for how long.
Call it again when events of the user have come since.

Exit code 1 when there is nothing of the user.")]
pub struct ForgetArgs {
    /// The user, as events name them.
    user_id: String,
    /// Say what would be erased, and erase nothing.
    #[arg(long)]
    dry_run: bool,
    /// Who does it; the name of the operating system's user unless told otherwise.
    #[arg(long, value_name = "NAME", value_parser = dlq::words)]
    by: Option<String>,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the database is away. That there is nothing of the user is exit code 1.
pub async fn run(args: ForgetArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let ForgetArgs { user_id, dry_run, by, json } = args;
    if user_id.is_empty() || user_id.len() > 256 || user_id.contains('\0') {
        bail!(Usage("USER_ID is allowed to have 1 to 256 bytes".to_owned()));
    }
    if user_id.starts_with("forgotten:") {
        bail!(Usage(format!("{user_id} stands for a user who is forgotten already")));
    }
    let by = by.unwrap_or_else(dlq::user);
    let pool = connect(config).await?;
    let forgotten = forget::forget(&pool, &user_id, &by, clock::now(), dry_run).await?;
    pool.close().await;
    if forgotten.token.is_none() && forgotten.waiting == 0 {
        let before = forgotten.before.map_or_else(String::new, |at| {
            format!(" (forgotten {} before)", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        });
        bail!("there is nothing of user {user_id:?} in the database{before}");
    }
    if json {
        say(serde_json::to_string(&forgotten)?)?;
    } else {
        say(in_words(&forgotten, dry_run))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(forgotten: &Forgotten, dry_run: bool) -> String {
    let Forgotten { orders, lines, log_rows, rejects, waiting, .. } = forgotten;
    let would = if dry_run { "would be " } else { "" };
    let mut lines = vec![format!(
        "{would}erased from {orders} orders, {lines} lines and {log_rows} records of the log ({rejects} of them rejected)"
    )];
    if let (Some(token), false) = (&forgotten.token, dry_run) {
        lines.push(format!("in their place stands {token}"));
    }
    if *waiting > 0 {
        lines.push(format!(
            "{waiting} payments that wait for their order speak of the user: call it again when they are settled"
        ));
    }
    lines.push("Kafka's topics, reports and backups are not touched: see docs/data.md".to_owned());
    lines.join("\n")
}
