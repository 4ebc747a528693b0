//! The daily report of one of the replayed days, made by the job that makes it every night.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use chrono::NaiveDate;
use prometheus::Registry;
use serde::Serialize;
use stocktide_domain::Money;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{Tenths, Totals};
use stocktide_jobs::by_hand::{self, Wish};
use stocktide_reports::render::{FILES, REPORT, two_decimals};
use stocktide_reports::storage::directory_of;
use stocktide_runtime::admin::Health;
use stocktide_runtime::{Config, clock};
use stocktide_store::jobs::Cause;
use stocktide_store::reports;
use tokio_util::sync::CancellationToken;

use super::narrator::Narrator;
use super::source::Source;
use crate::cli::jobs;
use crate::cli::table::table;
use stocktide_runtime::terminal::escape;

/// Where the reports go, within the stack's directory.
const PLACE: &str = "reports";

/// What a person is shown of the report.
#[derive(Debug, Serialize)]
pub struct ReportMade {
    /// The busiest of the replayed days.
    pub date: NaiveDate,
    /// From 1.
    pub revision: u32,
    /// What was sold, and what came back.
    pub sales: Totals,
    /// The change of the gross sales from the day before, in percent; none where that had none.
    pub day_before_percent: Option<Tenths>,
    /// The same from a week before.
    pub week_before_percent: Option<Tenths>,
    /// What brought in most: product_id, name and revenue.
    pub best_seller: Option<(String, String, Money)>,
    /// Products at or below their reorder point when the day ended.
    pub low_stock: usize,
    /// Lines of unusual quantity.
    pub unusual: i64,
    /// Where its files are; gone with the stack.
    pub directory: PathBuf,
    /// Their names.
    pub files: Vec<&'static str>,
}

/// Has the report of the busiest day made, as `stocktide jobs trigger daily_report` does.
///
/// # Errors
/// When the job cannot be begun, or its run does not succeed.
pub async fn make(
    source: &Source,
    config: &Config,
    state_dir: &Path,
    narrator: &Narrator,
    stop: &CancellationToken,
) -> anyhow::Result<Option<ReportMade>> {
    let last = BusinessDay::last_before(clock::now(), config.business.timezone).date;
    let Some(date) = source.busiest_day().filter(|date| *date <= last) else { return Ok(None) };
    narrator.step(format!("making the daily report of {date}"));
    let mut config = config.clone();
    config.reports.url = format!("file://{}", state_dir.join(PLACE).display());
    let rails = jobs::rails(&config, &Registry::new(), Health::new()).await?;
    let day = BusinessDay::of(date, config.business.timezone);
    let came = by_hand::run_day(&rails, REPORT, day, (Cause::Trigger, Wish::Anew), stop).await?;
    ensure!(came.succeeded(), "the daily report of {date} could not be made: {came:?}");
    let made = reports::latest(&rails.pool, date).await?.context("the daily report has no row")?;
    rails.pool.close().await;
    let figures = made.figures;
    let best = figures.top_sellers.by_revenue.into_iter().next();
    narrator.done(format!("the daily report of {date} is made, {} files", FILES.len()));
    Ok(Some(ReportMade {
        date,
        revision: made.revision,
        day_before_percent: figures.sales.compared.day_before.change.gross_percent,
        week_before_percent: figures.sales.compared.week_before.change.gross_percent,
        sales: figures.sales.total,
        best_seller: best.map(|seller| (seller.product_id, seller.name, seller.revenue)),
        low_stock: figures.low_stock.rows.len(),
        unusual: figures.data_quality.outliers.found,
        directory: state_dir.join(PLACE).join(directory_of(date)),
        files: FILES.to_vec(),
    }))
}

impl ReportMade {
    /// For people. The files of a stack that has ended are gone.
    pub fn in_words(&self, is_kept: bool) -> String {
        let sales = &self.sales;
        let mut rows = vec![
            ("total sales, gross", two_decimals(sales.gross)),
            ("cancelled", two_decimals(sales.cancelled_value)),
            ("returned", two_decimals(sales.returned_value)),
            ("net", two_decimals(sales.net)),
            ("orders", sales.orders.to_string()),
            ("lines", sales.lines.to_string()),
            ("units", sales.units.to_string()),
            ("average order", sales.average_order_value.map_or_else(|| "-".to_owned(), two_decimals)),
        ];
        let changes = [
            ("gross, from the day before", self.day_before_percent),
            ("gross, from a week before", self.week_before_percent),
        ];
        rows.extend(changes.into_iter().filter_map(|(name, change)| Some((name, format!("{} %", change?)))));
        rows.push(("low stock, rows", self.low_stock.to_string()));
        rows.push(("unusual quantities", self.unusual.to_string()));
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        let mut parts = vec![table(&["figure", "value"], &rows)];
        if let Some((_, name, revenue)) = &self.best_seller {
            let name = escape(name.as_bytes());
            parts.push(format!("\nBest seller by revenue: {name}, {}", two_decimals(*revenue)));
        }
        parts.push(format!("\nIts files: {}", self.files.join(" ")));
        parts.push(if is_kept {
            format!("in {}", self.directory.display())
        } else {
            "were deleted with the stack; --keep keeps them".to_owned()
        });
        parts.join("\n")
    }
}
