//! What differs between two revisions of a report, the most telling first.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stocktide_domain::report::Figures;

/// The most changes that a manifest names.
pub const MOST_CHANGES: usize = 50;

/// A figure that differs from the revision before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Where it stands in `report.json`: the names on the way to it, each after a `/`; within a name `~` stands as `~0` and `/`
    /// as `~1`. A list's row is named by its key, not by its place: `/low_stock/rows/product_id=22423,location_id=online`.
    pub figure: String,
    /// What it was; null where it was not there. Of a row that vanished the whole row.
    pub before: Value,
    /// What it is; null where it is gone. Of a row that is new the whole row.
    pub after: Value,
}

impl Change {
    /// The figure for people: `sales · total · gross`.
    pub fn name(&self) -> String {
        let names = self.figure.split('/').skip(1).map(|name| match name.split_once('=') {
            Some(_) => name.split(',').map(|part| part.split_once('=').map_or(part, |(_, of)| of)).collect(),
            None => vec![name],
        });
        let names =
            names.map(|parts| parts.join(" ").replace('_', " ").replace("~1", "/").replace("~0", "~"));
        names.collect::<Vec<String>>().join(" · ")
    }

    /// What it was and what it is, for people.
    pub fn values(&self) -> [String; 2] {
        [&self.before, &self.after].map(|value| match value {
            Value::Null => "–".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(_) | Value::Array(_) => "listed".to_owned(),
            other => other.to_string(),
        })
    }
}

/// How a revision differs from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised {
    /// Why, as far as the figures say.
    pub reason: String,
    /// All figures that differ, the most telling first.
    pub changes: Vec<Change>,
}

impl Revised {
    /// How `after` differs from `before`.
    ///
    /// # Errors
    /// When figures have no JSON form: a mistake in the program.
    pub fn of(before: &Figures, after: &Figures) -> Result<Revised, serde_json::Error> {
        let changes = changes(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
        Ok(Revised { reason: reason(before, after), changes })
    }

    /// In a sentence, for people.
    pub fn sentence(&self, revision: u32) -> String {
        let figures = if self.changes.len() == 1 { "figure differs" } else { "figures differ" };
        let (reason, before) = (&self.reason, revision.saturating_sub(1));
        format!("Revision {revision}: {reason}. {} {figures} from revision {before}.", self.changes.len())
    }
}

/// Only late events are seen in the figures themselves.
fn reason(before: &Figures, after: &Figures) -> String {
    let (was, is) = (&before.data_quality.late_events, &after.data_quality.late_events);
    match is.events - was.events {
        1 if is.grace_seconds == was.grace_seconds => "a late event of the day came in".to_owned(),
        more @ 2.. if is.grace_seconds == was.grace_seconds => {
            format!("{more} late events of the day came in")
        }
        _ => "the ledger, the catalogue or the report's settings changed".to_owned(),
    }
}

/// The figures that differ: those outside of lists first, sales before the data's quality, then the lists' rows.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), (before, after), false, &mut found);
    // Stable: what weighs the same stays in the order of its place.
    found.sort_by_cached_key(|(in_list, change)| weight(*in_list, &change.figure));
    found.into_iter().map(|(_, change)| change).collect()
}

const SECTIONS: [&str; 4] = ["sales", "top_sellers", "low_stock", "data_quality"];
const PARTS: [&str; 4] = ["total", "found", "late_events", "outliers"];
const LEAVES: [&str; 5] = ["gross", "net", "orders", "units", "found"];

fn weight(in_list: bool, figure: &str) -> (bool, usize, usize, usize) {
    let mut names = figure.split('/').skip(1);
    let place = |known: &[&str], name: Option<&str>| {
        known.iter().position(|known| Some(*known) == name).unwrap_or(known.len())
    };
    let (section, part) = (names.next(), names.next());
    (in_list, place(&SECTIONS, section), place(&PARTS, part), place(&LEAVES, figure.rsplit('/').next()))
}

type Found = Vec<(bool, Change)>;

fn compare(figure: String, (before, after): (&Value, &Value), in_list: bool, found: &mut Found) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            // A row's rank follows from its place among the others.
            let names: BTreeSet<&String> =
                old.keys().chain(new.keys()).filter(|name| !in_list || *name != "rank").collect();
            for name in names {
                let value =
                    |map: &'_ serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(format!("{figure}/{}", escaped(name)), (&value(old), &value(new)), in_list, found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let (old, new) = (by_key(old), by_key(new));
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let row =
                    |rows: &BTreeMap<String, &Value>| rows.get(key).copied().unwrap_or(&Value::Null).clone();
                compare(format!("{figure}/{key}"), (&row(&old), &row(&new)), true, found);
            }
        }
        (old, new) if old != new => {
            found.push((in_list, Change { figure, before: old.clone(), after: new.clone() }));
        }
        _ => {}
    }
}

/// What tells a list's rows apart, of which each list has some.
const KEYS: [&str; 9] =
    ["key", "topic", "reason", "source", "order_id", "kind", "line_no", "product_id", "location_id"];

/// The rows of a list by their keys; rows without one, or of the same one, by their number.
fn by_key(rows: &[Value]) -> BTreeMap<String, &Value> {
    let mut keyed = BTreeMap::new();
    for row in rows {
        let part = |name: &&str| {
            let value = match row.get(name)? {
                Value::String(text) => escaped(text),
                other => other.to_string(),
            };
            Some(format!("{name}={value}"))
        };
        let key = KEYS.iter().filter_map(part).collect::<Vec<String>>().join(",");
        let numbered = (2..).map(|number: usize| format!("{key}#{number}"));
        let free = std::iter::once(key.clone()).chain(numbered).find(|key| !keyed.contains_key(key));
        keyed.insert(free.unwrap_or(key), row);
    }
    keyed
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(figure: &str, before: Value, after: Value) -> Change {
        Change { figure: figure.to_owned(), before, after }
    }

    #[test]
    fn totals_come_first_and_sales_before_the_datas_quality() {
        let before = json!({"data_quality": {"fates": 1}, "sales": {"by": [{"key": "a", "n": 1}],
            "total": {"a/b": 1, "gross": "10.00"}}, "same": true});
        let after = json!({"data_quality": {"fates": 2}, "sales": {"by": [{"key": "a", "n": 2}],
            "total": {"a/b": 2, "gross": "12.00"}}, "same": true, "new": 0});
        assert_eq!(
            changes(&before, &after),
            [
                change("/sales/total/gross", json!("10.00"), json!("12.00")),
                change("/sales/total/a~1b", json!(1), json!(2)),
                change("/data_quality/fates", json!(1), json!(2)),
                change("/new", Value::Null, json!(0)),
                change("/sales/by/key=a/n", json!(1), json!(2)),
            ]
        );
        assert_eq!(changes(&after, &after), []);
    }

    #[test]
    fn a_row_that_comes_in_between_is_one_change() {
        let row = |id: &str, rank: i64| json!({"product_id": id, "location_id": "x/y", "rank": rank});
        let before = json!({"rows": [row("a", 1), row("c", 2)]});
        let after = json!({"rows": [row("b", 1), row("a", 2), row("c", 3)]});
        let place = "/rows/product_id=b,location_id=x~1y";
        let inserted = changes(&before, &after);
        assert_eq!(inserted, [change(place, Value::Null, row("b", 1))]);
        assert_eq!(inserted[0].name(), "rows · b x/y");
        assert_eq!(inserted[0].values(), ["–", "listed"]);
        assert_eq!(changes(&after, &before), [change(place, row("b", 1), Value::Null)]);
    }

    #[test]
    fn rows_of_the_same_key_are_told_apart_by_their_number() {
        let row = |n: i64| json!({"order_id": "7", "n": n});
        let before = json!([row(1), row(1)]);
        assert_eq!(
            changes(&before, &json!([row(1), row(2)])),
            [change("/order_id=7#2/n", json!(1), json!(2))]
        );
        assert_eq!(changes(&before, &json!([row(1)])), [change("/order_id=7#2", row(1), Value::Null)]);
    }
}
