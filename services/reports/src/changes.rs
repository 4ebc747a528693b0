//! What differs between two revisions of a report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most changes that a manifest names.
pub const MOST_CHANGES: usize = 50;

/// A figure that differs from the revision before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Where it stands among the figures, as a JSON pointer (RFC 6901).
    pub figure: String,
    /// What it was; null where it was not there.
    pub before: Value,
    /// What it is; null where it is gone.
    pub after: Value,
}

/// The figures that differ, in the order of their places.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found
}

fn compare(figure: String, before: &Value, after: &Value, found: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let place = format!("{figure}/{}", name.replace('~', "~0").replace('/', "~1"));
                let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(place, &value(old), &value(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for at in 0..old.len().max(new.len()) {
                let item = |list: &Vec<Value>| list.get(at).cloned().unwrap_or_default();
                compare(format!("{figure}/{at}"), &item(old), &item(new), found);
            }
        }
        (old, new) if old != new => {
            found.push(Change { figure, before: old.clone(), after: new.clone() });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_figure_that_differs_is_named_by_its_place() {
        let before = json!({"sales": {"gross": "10.00", "a/b": 1}, "rows": [1, 2], "same": true});
        let after = json!({"sales": {"gross": "12.00", "a/b": 2}, "rows": [1], "same": true, "new": 0});
        let change = |figure: &str, before, after| Change { figure: figure.to_owned(), before, after };
        assert_eq!(
            changes(&before, &after),
            [
                change("/new", Value::Null, json!(0)),
                change("/rows/1", json!(2), Value::Null),
                change("/sales/a~1b", json!(1), json!(2)),
                change("/sales/gross", json!("10.00"), json!("12.00")),
            ]
        );
        assert_eq!(changes(&after, &after), []);
    }
}
