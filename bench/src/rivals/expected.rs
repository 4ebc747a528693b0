//! What must come of a backlog, counted naively from its records: none of the product's code has a part in it, so that the product is held
//! against it, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use serde_json::Value;
use stocktide_producers::Record;
use stocktide_store::catalogue::CatalogueFiles;

/// A product at a location.
pub type Row = (String, String);

/// The right result.
#[derive(Debug, Default)]
pub struct Expected {
    /// Units of every stock row afterwards.
    pub stock: BTreeMap<Row, i64>,
    /// The stock rows that an event has changed.
    pub changed: HashSet<Row>,
    /// Records in all.
    pub records: u64,
    /// Events that have their effect.
    pub applied: u64,
    /// Records that are refused.
    pub rejects: u64,
    /// Changed stock rows, event by event.
    pub changes: u64,
    /// Lines of orders.
    pub lines: u64,
    /// The sum of their quantities.
    pub units: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Sale,
    Return,
    Cancellation,
    Status,
    Restock,
}

/// A sound event.
struct Event {
    id: String,
    kind: Kind,
    /// The order, sale or delivery.
    business_id: String,
    location: String,
    lines: Vec<(String, i64)>,
}

/// What is known before the first event.
struct Rules {
    products: HashSet<String>,
    locations: HashSet<String>,
    suppliers: HashSet<String>,
    latest: DateTime<Utc>,
}

impl Expected {
    /// What comes of these records on these shelves.
    pub fn of(records: impl Iterator<Item = Record>, shelves: &CatalogueFiles) -> Expected {
        let rules = Rules::of(shelves);
        let opening = shelves.stock.iter();
        let opening = opening.map(|row| ((row.product_id.clone(), row.location_id.clone()), row.quantity));
        let mut expected = Expected { stock: opening.collect(), ..Expected::default() };
        let mut seen: HashSet<String> = HashSet::new();
        let mut orders: HashMap<String, Event> = HashMap::new();
        for record in records {
            expected.records += 1;
            let Some(mut event) = rules.read(&record) else {
                expected.rejects += 1;
                continue;
            };
            if !seen.insert(event.id.clone()) {
                continue;
            }
            if event.kind == Kind::Cancellation {
                let Some(order) = orders.remove(&event.business_id) else {
                    expected.rejects += 1;
                    continue;
                };
                (event.location, event.lines) = (order.location, order.lines);
            }
            expected.apply(&event);
            if record.topic == "online_orders" && event.kind == Kind::Sale {
                orders.insert(event.business_id.clone(), event);
            }
        }
        expected
    }

    fn apply(&mut self, event: &Event) {
        self.applied += 1;
        let sign = if event.kind == Kind::Sale { -1 } else { 1 };
        let mut rows = HashSet::new();
        for (product, quantity) in &event.lines {
            let row = (product.clone(), event.location.clone());
            *self.stock.entry(row.clone()).or_default() += sign * quantity;
            rows.insert(row);
            if event.kind != Kind::Restock {
                self.lines += 1;
                self.units -= sign * quantity;
            }
        }
        self.changes += rows.len() as u64;
        self.changed.extend(rows);
    }
}

impl Rules {
    fn of(shelves: &CatalogueFiles) -> Rules {
        Rules {
            products: shelves.products.iter().map(|row| row.product_id.clone()).collect(),
            locations: shelves.locations.iter().map(|row| row.location_id.clone()).collect(),
            suppliers: shelves.suppliers.iter().map(|row| row.supplier_id.clone()).collect(),
            latest: DateTime::from(SystemTime::now()) + TimeDelta::days(1),
        }
    }

    /// The event, unless something is wrong with it.
    fn read(&self, record: &Record) -> Option<Event> {
        let text = std::str::from_utf8(record.value.as_deref()?).ok()?;
        let event: Value = serde_json::from_str(text).ok()?;
        event.as_object()?;
        let (id, time, location, price) = match record.topic {
            "online_orders" => ("order_id", "order_timestamp", "location_id", "price_per_unit"),
            "store_sales" => ("sale_id", "sold_at", "store_id", "price_per_unit"),
            _ => ("restock_id", "received_at", "location_id", "unit_cost"),
        };
        let kind = match (record.topic, event["type"].as_str()) {
            ("online_orders", Some("placed")) | ("store_sales", Some("sold")) => Kind::Sale,
            ("online_orders" | "store_sales", Some("returned")) => Kind::Return,
            ("online_orders", Some("cancelled")) => Kind::Cancellation,
            ("online_orders", Some("shipped" | "delivered")) => Kind::Status,
            ("supplier_restocks", Some("received" | "adjustment")) => Kind::Restock,
            _ => return None,
        };
        let place = match event.get(location) {
            None if record.topic == "online_orders" => "online",
            place => place?.as_str()?,
        };
        let known = |field: &str, names: &HashSet<String>| {
            event.get(field).is_none_or(|name| name.as_str().is_some_and(|name| names.contains(name)))
        };
        let sound = depth(&event) <= 32
            && !holds_card(&event)
            && self.locations.contains(place)
            && known("supplier_id", &self.suppliers)
            && event.get("currency").is_none_or(|currency| currency == "GBP")
            && self.in_time(event[time].as_str()?);
        let mut lines = Vec::new();
        if !matches!(kind, Kind::Cancellation | Kind::Status) {
            for line in event["items"].as_array()? {
                lines.push(self.line(line, price, event["type"] == "adjustment")?);
            }
        }
        (sound && (lines.is_empty() == matches!(kind, Kind::Cancellation | Kind::Status))).then_some(Event {
            id: event["event_id"].as_str()?.to_owned(),
            business_id: event[id].as_str()?.to_owned(),
            location: place.to_owned(),
            kind,
            lines,
        })
    }

    fn line(&self, line: &Value, price: &str, signed: bool) -> Option<(String, i64)> {
        let (product, quantity) = (line["product_id"].as_str()?, line["quantity"].as_i64()?);
        let units = if signed { quantity.abs() } else { quantity };
        let sound = self.products.contains(product)
            && (1..=10_000_000).contains(&units)
            && line.get(price).is_none_or(|price| price.as_str().is_some_and(is_amount));
        sound.then(|| (product.to_owned(), quantity))
    }

    fn in_time(&self, time: &str) -> bool {
        DateTime::parse_from_rfc3339(time)
            .is_ok_and(|time| time.year() >= 2000 && time.to_utc() <= self.latest)
    }
}

/// Digits, with at most 4 decimals.
fn is_amount(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(decimals) && decimals.len() <= 4
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a text is a full card number, as the simulator writes them: nothing else beside it.
fn holds_card(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(holds_card),
        Value::Object(fields) => fields.values().any(holds_card),
        Value::String(text) => {
            let digits: Vec<u32> = text.chars().filter_map(|sign| sign.to_digit(10)).collect();
            let all = text.chars().all(|sign| sign.is_ascii_digit() || " -".contains(sign));
            all && (13..=19).contains(&digits.len()) && luhn(&digits)
        }
        _ => false,
    }
}

/// Luhn's check digit (ISO/IEC 7812-1, annex B).
fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, &d)| if at % 2 == 1 { doubled(d) } else { d }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use stocktide_producers::sim::{Options, Simulator, SourceMix};

    use super::*;
    use crate::world::{CURRENCY, shelves};

    fn count(duplicates_ppm: u32, malformed_ppm: u32) -> Expected {
        let start = "2025-06-01T00:00:00Z".parse().unwrap();
        let options = Options::new(SourceMix::All, 3, start);
        let options = Options { count: Some(20_000), duplicates_ppm, malformed_ppm, ..options };
        Expected::of(Simulator::new(shelves(), options).unwrap(), &shelves().files(CURRENCY))
    }

    #[test]
    fn every_sound_event_counts_and_every_redelivery_does_not() {
        let sound = count(0, 0);
        assert_eq!([sound.records, sound.applied, sound.rejects], [20_000, 20_000, 0]);
        let again = count(300_000, 0);
        assert_eq!(again.rejects, 0);
        assert!((13_000..15_000).contains(&again.applied), "{}", again.applied);
    }

    #[test]
    fn each_way_to_break_a_record_is_seen() {
        let broken = count(0, 1_000_000);
        assert_eq!([broken.applied, broken.rejects, broken.changes], [0, 20_000, 0]);
    }

    #[test]
    fn a_cancelled_order_gives_back_what_it_took() {
        let record = |value: &str| Record {
            topic: "online_orders",
            key: "o".to_owned(),
            value: Some(value.as_bytes().to_vec()),
            occurred_at: DateTime::default(),
        };
        let placed = r#"{"event_id":"a","type":"placed","order_id":"o","order_timestamp":"2025-06-01T00:00:00Z",
            "items":[{"product_id":"P00001","quantity":2},{"product_id":"P00001","quantity":3},{"product_id":"P00002","quantity":1}]}"#;
        let cancelled =
            r#"{"event_id":"b","type":"cancelled","order_id":"o","order_timestamp":"2025-06-01T00:00:00Z"}"#;
        let files = shelves().files(CURRENCY);
        let both = Expected::of([placed, placed, cancelled].map(record).into_iter(), &files);
        assert_eq!(both.stock, Expected::of(std::iter::empty(), &files).stock);
        assert_eq!([both.applied, both.rejects, both.changes, both.lines], [2, 0, 4, 6]);
        assert_eq!(both.units, 0);
        assert_eq!(Expected::of([cancelled].map(record).into_iter(), &files).rejects, 1);
    }
}
