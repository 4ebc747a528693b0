//! What is replayed: real sales, what is added to them, and what is broken on purpose.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use chrono::NaiveDate;
use indicatif::HumanCount;
use liblzma::read::XzDecoder;
use stocktide_producers::Record;
use stocktide_producers::online_retail::OnlineRetail;
use stocktide_producers::online_retail::rows::Rows;
use stocktide_producers::sim::faults::Faulty;

/// The retailer's.
pub const TIMEZONE: &str = "Europe/London";

/// December 2010, as it lies in `demo/`: the program brings it along wherever it is installed.
const SLICE: &[u8] = include_bytes!("../../../demo/online-retail-2010-12.csv.xz");
const SLICE_NAME: &str = "Online Retail, December 2010";

const SEED: u64 = 2010;
/// In millionths, of the records.
const DUPLICATES_PPM: u32 = 20_000;
const BROKEN_PPM: u32 = 30_000;

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

    /// Its events in the order of time, with some sent twice and some broken ones between. The same each time.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        Faulty::new(self.data.events(false), SEED, DUPLICATES_PPM, BROKEN_PPM)
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
        let sound = source.data.len(false) as usize;
        let all = source.records().count();
        assert!(all > sound + sound / 25, "{all} of {sound}");
    }
}
