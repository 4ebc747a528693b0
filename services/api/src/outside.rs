//! All that is read of a request's bytes: for the fuzzer (`fuzz/`), which is no part of the product. Each answers the problems that
//! it was refused with, as JSON; none is a panic.

use serde::de::DeserializeOwned;
use stocktide_domain::Source;
use stocktide_domain::decode::{Limits, Rules};

use crate::intake::{body, events};
use crate::params::{Day, Id, Month, Parameter};
use crate::problem::Problem;
use crate::query::{self, Nothing};
use crate::routes::{dlq, jobs, orders, reports, stats, stock};
use crate::stream::place::Place;

/// A query, as each route would read it.
pub fn query(text: &str) -> Vec<String> {
    fn of<T: DeserializeOwned>(text: &str) -> Option<String> {
        query::read::<T>(text).err().map(|problem| told(&problem))
    }
    let answers = [
        of::<Nothing>(text),
        of::<dlq::DlqQuery>(text),
        of::<dlq::ReasonsQuery>(text),
        of::<jobs::RunsQuery>(text),
        of::<orders::OrderQuery>(text),
        of::<reports::ReportsQuery>(text),
        of::<reports::ReportQuery>(text),
        of::<stats::TopQuery>(text),
        of::<stats::MonthlyQuery>(text),
        of::<stock::ProductsQuery>(text),
        of::<stock::MovementsQuery>(text),
        of::<stock::StockQuery>(text),
        of::<stock::StreamQuery>(text),
    ];
    answers.into_iter().flatten().collect()
}

/// A path's parameter.
pub fn path(text: &str) -> Vec<String> {
    let read = [Id::read(text).is_some(), Day::read(text).is_some(), Month::read(text).is_some()];
    read.iter().map(ToString::to_string).collect()
}

/// A body of events, JSON or one a line, for each topic.
pub fn body(bytes: &[u8], lines: bool) -> Vec<String> {
    let kind = if lines { body::Kind::Lines } else { body::Kind::Json };
    let parts = match body::split(kind, bytes) {
        Ok(parts) => parts,
        Err(problem) => return vec![told(&problem)],
    };
    let now = stocktide_runtime::clock::now();
    let rules = Rules { currency: "GBP".to_owned(), now, limits: Limits::default() };
    let mut answers = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        for source in Source::ALL {
            if let Err(reject) = events::prepare(source, part, &rules, Some("key"), index) {
                let said = format!("\"{}\"", reject.reason.code());
                if !answers.contains(&said) {
                    answers.push(said);
                }
            }
        }
    }
    answers
}

/// Where a reader of the stream says that it stands.
pub fn place(text: &str) -> Vec<String> {
    let read = Place::read(text);
    if let Some(place) = &read {
        debug_assert_eq!(Place::read(&place.to_string()).as_ref(), Some(place));
    }
    vec![read.is_some().to_string()]
}

fn told(problem: &Problem) -> String {
    serde_json::to_string(problem).unwrap_or_default()
}
