//! Takes a person out of a record that is kept: what remains is what the books need.
//!
//! Of a record that names the person, or one of their orders, the fields of the event stay (`masked.rs` has the list), without the
//! address and with another word in place of the user_id; every other field goes, as it may hold anything. A record that cannot
//! be read field by field, and names the person, goes as a whole.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::masked::FIELDS;

/// Who is to be forgotten.
#[derive(Debug, Clone)]
pub struct Person<'a> {
    /// Their user_id.
    pub user_id: &'a str,
    /// Their online orders.
    pub orders: &'a HashSet<String>,
    /// What stands in place of the user_id.
    pub token: &'a str,
}

/// What stands in place of a record that cannot be read field by field.
pub const WHOLLY: &[u8] = b"[erased]";

/// Names of fields that hold a user's id, at any depth.
const NAMES: [&str; 8] =
    ["user_id", "userid", "user", "customer_id", "customerid", "customer", "client_id", "account_id"];
/// Fields of items; another may hold anything.
const ITEM_FIELDS: [&str; 4] = ["product_id", "quantity", "price_per_unit", "unit_cost"];

impl Person<'_> {
    /// The record's value without the person; none: it does not speak of them.
    pub fn erased_from(&self, value: &[u8]) -> Option<Vec<u8>> {
        let read =
            std::str::from_utf8(value).ok().and_then(|text| serde_json::from_str::<Fields<'_>>(text).ok());
        let Some(fields) = read else {
            return self.is_mentioned(value).then(|| WHOLLY.to_vec());
        };
        let is_theirs = fields.0.iter().any(|(name, raw)| {
            (matches!(name.as_str(), "order_id" | "original_id")
                && text_of(raw.get()).is_some_and(|id| self.orders.contains(&id)))
                || self.is_named_by(name, raw)
        });
        is_theirs.then(|| self.rewritten(&fields))
    }

    /// A text without the person, such as a reason in words.
    pub fn erased_from_text(&self, text: &str) -> String {
        if self.user_id.is_empty() { text.to_owned() } else { text.replace(self.user_id, self.token) }
    }

    fn rewritten(&self, fields: &Fields<'_>) -> Vec<u8> {
        let mut text = String::from("{");
        for (name, raw) in &fields.0 {
            let new = match name.as_str() {
                "user_id" => quoted(self.token),
                // Free words may be about anybody.
                "shipping_address" | "note" => "null".to_owned(),
                "items" => items(raw),
                known if FIELDS.contains(&known) => raw.get().to_owned(),
                _ => continue,
            };
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&quoted(name));
            text.push(':');
            text.push_str(&new);
        }
        text.push('}');
        text.into_bytes()
    }

    fn is_named_by(&self, name: &str, raw: &RawValue) -> bool {
        if NAMES.contains(&name.to_lowercase().as_str())
            && text_of(raw.get()).is_some_and(|id| id == self.user_id)
        {
            return true;
        }
        if let Ok(inner) = serde_json::from_str::<Fields<'_>>(raw.get()) {
            // Of `"customer": {"id": …}` the inner name says less than the outer one.
            let outer = NAMES.contains(&name.to_lowercase().as_str());
            return inner.0.iter().any(|(inner, raw)| {
                let name = if outer && inner == "id" { name } else { inner };
                self.is_named_by(name, raw)
            });
        }
        let elements = serde_json::from_str::<Vec<&RawValue>>(raw.get());
        elements.is_ok_and(|elements| elements.iter().any(|raw| self.is_named_by(name, raw)))
    }

    /// Whether bytes that are no JSON object have the user_id in them as a word of its own, or that of an order.
    fn is_mentioned(&self, value: &[u8]) -> bool {
        let has = |word: &str| {
            let word = word.as_bytes();
            !word.is_empty()
                && value.windows(word.len()).enumerate().any(|(at, window)| {
                    let is_part = |byte: Option<&u8>| {
                        byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                    };
                    window == word
                        && !is_part(at.checked_sub(1).and_then(|before| value.get(before)))
                        && !is_part(value.get(at + word.len()))
                })
        };
        has(self.user_id) || self.orders.iter().any(|order| has(order))
    }
}

/// The items with the fields of items only; what is no list of objects is none.
fn items(raw: &RawValue) -> String {
    let Ok(items) = serde_json::from_str::<Vec<Fields<'_>>>(raw.get()) else { return "null".to_owned() };
    let item = |fields: Fields<'_>| {
        let known = fields.0.iter().filter(|(name, _)| ITEM_FIELDS.contains(&name.as_str()));
        let known: Vec<String> = known.map(|(name, raw)| format!("{}:{}", quoted(name), raw.get())).collect();
        format!("{{{}}}", known.join(","))
    };
    let items: Vec<String> = items.into_iter().map(item).collect();
    format!("[{}]", items.join(","))
}

/// A text as it is, a number by its digits; anything else is no id.
fn text_of(raw: &str) -> Option<String> {
    if raw.starts_with('"') {
        return serde_json::from_str(raw).ok();
    }
    raw.bytes().next().filter(|b| b.is_ascii_digit() || *b == b'-').map(|_| raw.to_owned())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object's fields in their order, those that stand twice included.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erased(value: &str) -> Option<String> {
        let orders = HashSet::from(["o-1".to_owned()]);
        let person = Person { user_id: "17850", orders: &orders, token: "forgotten:x" };
        person.erased_from(value.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn what_the_books_need_stays_and_the_person_goes() {
        let value = r#"{"event_id":"e", "user_id":17850,"order_value":1.10,"shipping_address":{"street":"x"},"email":"a@b.c",
            "items":[{"product_id":"a","quantity":1,"price_per_unit":"1.10","engraving":"Ann"}],"note":"call Ann"}"#;
        let expected = r#"{"event_id":"e","user_id":"forgotten:x","order_value":1.10,"shipping_address":null,"items":[{"product_id":"a","quantity":1,"price_per_unit":"1.10"}],"note":null}"#;
        assert_eq!(erased(value).as_deref(), Some(expected));
    }

    #[test]
    fn a_record_is_theirs_by_the_user_by_their_order_or_by_a_name_within() {
        for theirs in [
            r#"{"user_id":"17850"}"#,
            r#"{"user_id":"\u00317850"}"#,
            r#"{"order_id":"o-1","card_last_four":"0042"}"#,
            r#"{"original_id":"o-1"}"#,
            r#"{"customer":{"id":17850}}"#,
            r#"{"by":[{"Customer_Id":"17850"}]}"#,
        ] {
            assert!(erased(theirs).is_some(), "{theirs}");
        }
        for another in [
            r#"{"user_id":"178501"}"#,
            r#"{"order_id":"17850"}"#,
            r#"{"items":[{"product_id":"17850"}]}"#,
            "{\"user_id\":\"178501\"",
            "no. 217850",
        ] {
            assert_eq!(erased(another), None, "{another}");
        }
    }

    #[test]
    fn what_cannot_be_read_goes_as_a_whole_where_it_names_them() {
        for theirs in ["{\"user_id\":\"17850\"", "[\"17850\"]", "order o-1 of Ann"] {
            assert_eq!(erased(theirs).as_deref(), Some("[erased]"), "{theirs}");
        }
    }
}
