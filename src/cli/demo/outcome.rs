//! What came of the tour, for programs and for people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::value::RawValue;
use stocktide_domain::update::InventoryUpdate;
use stocktide_producers::sink::Tally;
use stocktide_store::facts::Fact;
use stocktide_store::overview::{Payments, Seller, TopicFates};
use stocktide_verify::Report;

use crate::cli::table::table;
use crate::cli::topics::render::Record;
use crate::cli::{dev, facts, verify};
use stocktide_runtime::terminal::escape;

use super::report::ReportMade;

/// How much of a record's value people are shown, in characters.
const SHOWN: usize = 60;

/// What came of the tour.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Whether every record was taken and every promise holds.
    pub ok: bool,
    /// From the start to the end of the stack.
    pub seconds: f64,
    /// From the first record received to the last one published.
    pub processing_seconds: f64,
    /// What was replayed.
    pub input: String,
    /// What of it is real, and what is not.
    pub notes: Vec<String>,
    /// What was sent, by topic.
    pub sent: BTreeMap<String, Tally>,
    /// What became of it.
    pub fates: Fates,
    /// What became of it, by topic.
    pub topics: Vec<TopicFates>,
    /// Of the rejected ones, how many for which reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Gross, in pounds.
    pub total_sales: String,
    /// By units sold.
    pub top_products: Vec<Seller>,
    /// How payments stand.
    pub payments: Payments,
    /// The first of them with its order, as `stocktide facts` shows it; none where nothing is paid.
    pub paid_order: Option<Fact>,
    /// The first.
    pub inventory_updates: Vec<Sample>,
    /// The first of each reason.
    pub dlq: Vec<Sample>,
    /// The promises.
    pub verify: Report,
    /// The daily report of one of the days; none where they are not over yet.
    pub report: Option<ReportMade>,
    /// Where the stack runs on, if it was to be kept.
    pub stack: Option<Kept>,
}

/// How many records met which fate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Fates {
    /// Their effect is in the database.
    pub applied: i64,
    /// Their event had been applied before.
    pub duplicate: i64,
    /// They went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order.
    pub parked: i64,
}

impl Fates {
    /// The sums over all topics.
    pub fn of(topics: &[TopicFates]) -> Fates {
        let sum = |fate: fn(&TopicFates) -> i64| topics.iter().map(fate).sum();
        Fates {
            applied: sum(|t| t.applied),
            duplicate: sum(|t| t.duplicates),
            rejected: sum(|t| t.rejected),
            parked: sum(|t| t.parked),
        }
    }
}

/// A record of an output topic.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// Why it was rejected; empty if it was not.
    pub reason: String,
    /// As `topics tail --json` shows it.
    pub record: Box<RawValue>,
    #[serde(skip)]
    coordinates: String,
    #[serde(skip)]
    key: String,
    #[serde(skip)]
    beginning: String,
    /// Where it is text.
    #[serde(skip)]
    value: String,
}

impl Sample {
    /// A copy of a record.
    ///
    /// # Errors
    /// None in practice: what comes from JSON goes to JSON.
    pub fn of(record: &Record<'_>) -> serde_json::Result<Sample> {
        Ok(Sample {
            reason: record.header("stocktide.reason"),
            record: RawValue::from_string(record.json()?)?,
            coordinates: record.coordinates(),
            key: record.key(),
            beginning: record.beginning(SHOWN),
            value: record.text().unwrap_or_default().to_owned(),
        })
    }
}

/// A stack that was left running.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Where it keeps its data and logs.
    pub state_dir: PathBuf,
    /// PostgreSQL's URI.
    pub database_url: String,
    /// Kafka's addresses.
    pub kafka_brokers: String,
}

impl Outcome {
    /// For people.
    pub fn in_words(&self) -> String {
        let mut sections = vec![
            format!("\nStock of what sold most\n\n{}", self.stock()),
            format!("What became of the records of {}\n\n{}", escape(self.input.as_bytes()), self.fates()),
            format!("Payments\n\n{}", self.payments()),
            format!("inventory_updates, the first\n\n{}", updates(&self.inventory_updates)),
        ];
        if !self.dlq.is_empty() {
            sections.push(format!("dlq, the first of each reason\n\n{}", letters(&self.dlq)));
        }
        sections
            .push(format!("The promises, recomputed from raw data\n\n{}", verify::in_words(&self.verify)));
        sections.extend(self.report.as_ref().map(|report| {
            format!("The daily report of {}\n\n{}", report.date, report.in_words(self.stack.is_some()))
        }));
        sections.push(self.notes.iter().map(|note| format!("- {note}")).collect::<Vec<_>>().join("\n"));
        sections.push(format!(
            "{:.1} s in all, {:.1} s of it for the records.",
            self.seconds, self.processing_seconds
        ));
        sections.push(self.next());
        sections.join("\n\n")
    }

    fn stock(&self) -> String {
        let row = |seller: &Seller| {
            let Seller { name, location_id, sold, on_hand, status, .. } = seller;
            let name = escape(name.as_bytes());
            vec![name, location_id.clone(), sold.to_string(), on_hand.to_string(), (*status).to_owned()]
        };
        let rows: Vec<Vec<String>> = self.top_products.iter().map(row).collect();
        let figures = table(&["product", "location", "sold", "on hand", "status"], &rows);
        format!("{figures}\n\nTotal sales, gross: {} GBP", self.total_sales)
    }

    fn payments(&self) -> String {
        let Payments { joined, amount_mismatches, waiting } = self.payments;
        let words = format!(
            "{joined} joined to their orders, {amount_mismatches} of them of another amount than the order's; {waiting} wait \
             for an order, and would go to dlq as orphan_payment when payments.wait is over"
        );
        let order = self.paid_order.as_ref().map(|order| format!("\n\n{}", facts::in_words(order)));
        words + &order.unwrap_or_default()
    }

    fn fates(&self) -> String {
        let line = |topic: &str, counts: [i64; 4]| {
            let sum = counts.iter().sum::<i64>().to_string();
            [vec![topic.to_owned(), sum], counts.map(|n| n.to_string()).to_vec()].concat()
        };
        let mut rows: Vec<Vec<String>> =
            (self.topics.iter().map(|t| line(&t.topic, [t.applied, t.duplicates, t.rejected, t.parked])))
                .collect();
        let Fates { applied, duplicate, rejected, parked } = self.fates;
        rows.push(line("all", [applied, duplicate, rejected, parked]));
        let columns = ["topic", "records", "applied", "duplicate", "rejected", "waiting"];
        let mut parts = vec![table(&columns, &rows)];
        for (topic, tally) in &self.sent {
            parts
                .extend(tally.refused.iter().map(|(why, n)| format!("{topic}: {n} refused by Kafka: {why}")));
            parts.extend((tally.unanswered > 0).then(|| format!("{topic}: {} unanswered", tally.unanswered)));
        }
        let reasons: Vec<Vec<String>> =
            self.reasons.iter().map(|(reason, n)| vec![(*reason).to_owned(), n.to_string()]).collect();
        parts.push(format!("\n{}", table(&["rejected for", "records"], &reasons)));
        parts.join("\n")
    }

    /// What to do next.
    fn next(&self) -> String {
        // As it was called, so that the lines can be copied.
        let program = std::env::args().next().unwrap_or_else(|| "stocktide".to_owned());
        let program = word(&program);
        let Some(kept) = &self.stack else {
            return format!(
                "Next:\n  {program} demo --keep      look around in what has just been shown\n  \
                 {program} dev up           a stack of your own, for the other commands\n  \
                 {program} --help           all commands"
            );
        };
        let dir = word(&kept.state_dir.display().to_string());
        format!(
            "The stack runs on. Look at it, and give it more to do:\n  \
             {program} dev psql --state-dir {dir}\n  \
             eval \"$({program} dev env --state-dir {dir})\"   # for the lines that follow\n  \
             {program} topics list\n  \
             {program} topics tail inventory_updates --count 10\n  \
             {program} report show\n  \
             {program} produce all --count 1000\n  \
             STOCKTIDE_BUSINESS_TIMEZONE={} {program} processor --until-caught-up\n  \
             {program} verify\n\
             End it:\n  \
             {program} dev down --state-dir {dir} && rm -r {dir}",
            super::source::TIMEZONE
        )
    }
}

/// A word of the shell, in quotes only where it needs them.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { dev::quoted(text) }
}

fn updates(samples: &[Sample]) -> String {
    let row = |sample: &Sample| {
        let mut row = vec![sample.coordinates.clone()];
        match serde_json::from_str::<InventoryUpdate<'_>>(&sample.value) {
            Ok(update) => row.extend([
                escape(update.product_id.as_bytes()),
                escape(update.location_id.as_bytes()),
                format!("{:+}", update.delta),
                update.quantity_on_hand.to_string(),
                update.version.to_string(),
                update.stock_status.into_owned(),
                update.source.into_owned(),
            ]),
            Err(_) => row.push(sample.beginning.clone()),
        }
        row
    };
    let columns =
        ["where", "product", "location", "change", "on hand", "version", "status", "by an event of"];
    table(&columns, &samples.iter().map(row).collect::<Vec<_>>())
}

fn letters(samples: &[Sample]) -> String {
    let row = |sample: &Sample| {
        let Sample { coordinates, key, reason, beginning, .. } = sample;
        [coordinates, key, reason, beginning].map(Clone::clone).to_vec()
    };
    table(&["where", "key", "reason", "value"], &samples.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_would_take_it_apart() {
        assert_eq!(word("target/release/stocktide"), "target/release/stocktide");
        assert_eq!(word("/my dir/stocktide"), "'/my dir/stocktide'");
    }
}
