//! What is replayed: real sales, what is added to them, and what is broken on purpose.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use chrono::NaiveDate;
use indicatif::HumanCount;
use liblzma::read::XzDecoder;
use serde_json::Value;
use stocktide_producers::Record;
use stocktide_producers::online_retail::OnlineRetail;
use stocktide_producers::online_retail::events::event_id;
use stocktide_producers::online_retail::rows::Rows;
use stocktide_producers::sim::faults::Faulty;
use stocktide_runtime::kafka::PAYMENTS;

/// The retailer's.
pub const TIMEZONE: &str = "Europe/London";

/// December 2010, as it lies in `demo/`: the program brings it along wherever it is installed.
const SLICE: &[u8] = include_bytes!("../../../demo/online-retail-2010-12.csv.xz");
const SLICE_NAME: &str = "Online Retail, December 2010";

const SEED: u64 = 2010;
/// In millionths, of the records.
const DUPLICATES_PPM: u32 = 20_000;
const BROKEN_PPM: u32 = 30_000;

/// A payment that is not as it should be, made from one that is.
struct Stray {
    payment_id: &'static str,
    /// Of an order that there never was; none: of the same order.
    order_id: Option<&'static str>,
    amount: &'static str,
}

const STRAYS: [Stray; 3] = [
    Stray { payment_id: "too-little", order_id: None, amount: "1.00" },
    Stray { payment_id: "lost-1", order_id: Some("nobody-1"), amount: "12.50" },
    Stray { payment_id: "lost-2", order_id: Some("nobody-2"), amount: "99.95" },
];

fn strays(payment: &Record) -> Vec<Record> {
    let sound = payment.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
    let Some(sound) = sound else { return Vec::new() };
    let stray = |stray: &Stray| {
        let mut value = sound.clone();
        value["event_id"] = event_id(PAYMENTS, stray.payment_id).to_string().into();
        value["payment_id"] = stray.payment_id.into();
        value["amount"] = stray.amount.into();
        value["payment_method"] = "card".into();
        value["card_last_four"] = "4242".into();
        if let Some(order_id) = stray.order_id {
            value["order_id"] = order_id.into();
        }
        Record {
            key: stray.payment_id.to_owned(),
            value: Some(value.to_string().into_bytes()),
            ..payment.clone()
        }
    };
    STRAYS.iter().map(stray).collect()
}

/// The data set, and what is made of it.
#[derive(Debug)]
pub struct Source {
    /// What it is, for people.
    pub name: String,
    /// Its events and its catalogue.
    pub data: OnlineRetail,
}

impl Source {
    /// Reads a file, or the month that comes with the program.
    ///
    /// # Errors
    /// When it cannot be read or is not of the format; the line is named.
    pub fn open(file: Option<&Path>) -> anyhow::Result<Source> {
        if let Some(path) = file {
            let data = OnlineRetail::open(path, None, None)?;
            return Ok(Source { name: path.display().to_string(), data });
        }
        let rows = Rows::read(XzDecoder::new(SLICE)).context(SLICE_NAME)?;
        Ok(Source { name: SLICE_NAME.to_owned(), data: OnlineRetail::of(rows, None, None)? })
    }

    /// Its events and payments in the order of time, with some sent twice and some broken ones between. The same each time.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut is_first = true;
        let with_strays = self.data.events(true).flat_map(move |record| {
            let is_it = record.topic == PAYMENTS && std::mem::take(&mut is_first);
            let strays = if is_it { strays(&record) } else { Vec::new() };
            std::iter::once(record).chain(strays)
        });
        Faulty::new(with_strays, SEED, DUPLICATES_PPM, BROKEN_PPM)
    }

    /// How many payments will wait for their order in the end.
    pub fn waiting(&self) -> u64 {
        let is_paid = self.data.len(true) > self.data.len(false);
        if is_paid { STRAYS.iter().filter(|stray| stray.order_id.is_some()).count() as u64 } else { 0 }
    }

    /// The day with the most rows, the last of them where there are several.
    pub fn busiest_day(&self) -> Option<NaiveDate> {
        let mut days: BTreeMap<NaiveDate, usize> = BTreeMap::new();
        for row in &self.data.rows.rows {
            *days.entry(row.at.date()).or_default() += 1;
        }
        days.into_iter().max_by_key(|(_, rows)| *rows).map(|(date, _)| date)
    }

    /// What of it is real, and what is not.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "The sales, prices, times, customers, returns and write-offs are real: Chen, D. (2015). Online Retail. UCI Machine \
             Learning Repository. https://doi.org/10.24432/C5BW33 (CC BY 4.0)."
                .to_owned(),
            "The store is a relabelling: this retailer has none, and invoices without a customer are taken for sales of one."
                .to_owned(),
            "Opening stock and deliveries are simulated, by a reorder rule over the real sales: the data set has neither. A \
             stock below zero means that more was sold than the rule had delivered by then."
                .to_owned(),
            "Payments are simulated: one of each online order, of its value; one of too little, and two of orders that there \
             never were."
                .to_owned(),
            "The duplicates and the broken records are mixed in on purpose, the same ones each time.".to_owned(),
        ];
        let skipped = self.data.skipped();
        notes.extend(skipped.iter().map(|(reason, rows)| {
            format!("{} rows became no event: {}.", HumanCount(*rows), reason.describe())
        }));
        notes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_month_that_comes_with_the_program_is_whole() {
        let source = Source::open(None).unwrap();
        assert_eq!(source.data.rows.rows.len(), 42_481);
        let sound = source.data.len(true) as usize + STRAYS.len();
        let all = source.records().count();
        assert!(all > sound + sound / 25, "{all} of {sound}");
    }
}
