//! `stocktide facts ORDER_ID`: one row of orders_payments_facts.

use std::process::ExitCode;

use stocktide_runtime::Config;
use stocktide_runtime::terminal::escape;
use stocktide_store::facts::{self, Fact};

use super::{connect, say};

/// Show an online order and how it is paid: one row of the view orders_payments_facts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide facts 536365
  stocktide facts 536365 --json | jq -r .payment_status

Exit code 1 when there is no such online order.")]
pub struct FactsArgs {
    /// The order.
    order_id: String,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the database is away. That there is no such order is exit code 1.
pub async fn run(args: FactsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let pool = connect(config).await?;
    let found = facts::of_order(&pool, &args.order_id).await?;
    pool.close().await;
    let Some(fact) = found else {
        eprintln!("no online order {:?}; allowed: an order_id that is in order_headers", args.order_id);
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        say(serde_json::to_string(&fact)?)?;
    } else {
        say(in_words(&fact))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each column.
pub fn in_words(fact: &Fact) -> String {
    let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let columns = [
        ("order_id", fact.order_id.clone()),
        ("customer_id", text(&fact.customer_id)),
        ("item", text(&fact.item)),
        ("quantity", fact.quantity.map_or_else(|| "-".to_owned(), |units| units.to_string())),
        ("price", text(&fact.price)),
        ("shipping_address", text(&fact.shipping_address)),
        ("order_status", fact.order_status.clone()),
        ("creation_date", time(fact.creation_date)),
        ("payment_id", text(&fact.payment_id)),
        ("payment_method", text(&fact.payment_method)),
        ("card_last_four", text(&fact.card_last_four)),
        ("payment_status", text(&fact.payment_status)),
        ("payment_datetime", fact.payment_datetime.map_or_else(|| "-".to_owned(), time)),
    ];
    // A producer's text must not command the terminal, nor look like another column.
    let clean = |value: &str| escape(value.as_bytes());
    let lines = columns.map(|(name, value)| format!("{name:<16}  {}", clean(&value)));
    lines.join("\n")
}
