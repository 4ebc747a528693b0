//! Takes a person out of a record that is kept: what remains is what the books need.
//!
//! Of a record that names the person, or one of their orders, the fields of the event stay (`masked.rs` has the list), without the
//! address and with another word in place of the user_id; every other field goes, as it may hold anything. A record that cannot
//! be read field by field, and names the person, in UTF-8 or UTF-16, goes as a whole.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::decode::{Limits, deeper_than};
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
    /// The record's value without the person; none: neither it nor its key speaks of them. A record that says itself whose it is is
    /// not theirs because it is about an order of theirs.
    pub fn erased_from(&self, key: Option<&[u8]>, value: &[u8]) -> Option<Vec<u8>> {
        let is_key = key == Some(self.user_id.as_bytes());
        let Some(fields) = fields_of(value) else {
            return (is_key || self.is_mentioned(value)).then(|| WHOLLY.to_vec());
        };
        let own = fields.user();
        let is_another = own.as_deref().is_some_and(|user| user != self.user_id);
        // A record's key is its order's id, as a rule.
        let is_the_events = fields.0.iter().any(|(name, raw)| {
            name != "user_id"
                && FIELDS.contains(&name.as_str())
                && text_of(raw.get()).is_some_and(|id| id == self.user_id)
        });
        let is_about = |name: &str, raw: &RawValue| {
            matches!(name, "order_id" | "original_id")
                && text_of(raw.get()).is_some_and(|id| self.orders.contains(&id))
        };
        let is_theirs = !is_another
            && ((is_key && !is_the_events) || fields.0.iter().any(|(name, raw)| is_about(name, raw)));
        let names_them = || fields.0.iter().any(|(name, raw)| self.is_named_by(name, raw));
        (is_theirs || names_them()).then(|| self.rewritten(&fields, is_another))
    }

    /// The order that a record is about which is the person's own, under their id or under the token that stands for it.
    pub fn order_in(&self, value: &[u8]) -> Option<String> {
        let fields = fields_of(value)?;
        let is_theirs = fields.user().is_some_and(|user| user == self.user_id || user == self.token);
        let id = fields.0.iter().find(|(name, _)| is_theirs && name == "order_id");
        id.and_then(|(_, raw)| text_of(raw.get()))
    }

    /// A text, such as a reason in words, unless it has the user_id in it: what else it says could tell who they are, whatever
    /// stood in their place.
    pub fn erased_from_text(&self, text: &str) -> String {
        if has(text.as_bytes(), self.user_id, false) { "[erased]".to_owned() } else { text.to_owned() }
    }

    /// The bytes by which records may name the person: the user_id in UTF-8, and in UTF-16 of both byte orders.
    pub fn spellings(&self) -> [Vec<u8>; 3] {
        spellings(self.user_id)
    }

    /// `of_another`: what it is in the first place stays theirs.
    fn rewritten(&self, fields: &Fields<'_>, of_another: bool) -> Vec<u8> {
        let mut text = String::from("{");
        for (name, raw) in &fields.0 {
            let new = match name.as_str() {
                "user_id" if !of_another => quoted(self.token),
                // Free words may be about anybody.
                "shipping_address" | "note" if !of_another => "null".to_owned(),
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

    /// Whether bytes that cannot be read field by field name the person: the user_id stands in them as a word of its own. A short
    /// or a small number may be anything, such as a quantity: it counts behind the name of a field for users only.
    fn is_mentioned(&self, value: &[u8]) -> bool {
        let digits = self.user_id.bytes().all(|byte| byte.is_ascii_digit());
        let could_be_anything = self.user_id.len() < if digits { 8 } else { 3 };
        has(value, self.user_id, could_be_anything)
    }
}

/// How far before a user's id its field's name may begin.
const NAME_REACH: usize = 24;

/// Whether a word stands in some bytes, in UTF-8 or UTF-16; if asked for, only behind the name of a user's field.
fn has(value: &[u8], word: &str, behind_a_name: bool) -> bool {
    // In UTF-16 the neighbours of a character are two bytes away.
    spellings(word).iter().zip([1, 2, 2]).any(|(word, width)| {
        let is_part = |byte: Option<&u8>| {
            byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        !word.is_empty()
            && value.windows(word.len()).enumerate().filter(|(_, window)| window == word).any(|(at, _)| {
                let end = at + word.len();
                let before = (1..=width).map(|back| at.checked_sub(back).and_then(|at| value.get(at)));
                let after = (0..width).map(|ahead| value.get(end + ahead));
                let is_named = || {
                    let near: Vec<u8> = value[at.saturating_sub(NAME_REACH * width)..at]
                        .iter()
                        .filter(|byte| **byte != 0)
                        .map(u8::to_ascii_lowercase)
                        .collect();
                    NAMES.iter().any(|name| near.windows(name.len()).any(|part| part == name.as_bytes()))
                };
                !before.chain(after).any(is_part) && (!behind_a_name || is_named())
            })
    })
}

/// A word in UTF-8, and in UTF-16 of both byte orders.
fn spellings(word: &str) -> [Vec<u8>; 3] {
    let wide = |bytes: fn(u16) -> [u8; 2]| word.encode_utf16().flat_map(bytes).collect();
    [word.as_bytes().to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)]
}

/// What is nested more deeply than an event may be is not read: it would be read again on each level.
fn fields_of(value: &[u8]) -> Option<Fields<'_>> {
    let text = std::str::from_utf8(value).ok().filter(|_| !deeper_than(value, Limits::default().depth))?;
    serde_json::from_str(text).ok()
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

impl Fields<'_> {
    /// Whose the record says it is.
    fn user(&self) -> Option<String> {
        let own = self.0.iter().find(|(name, _)| name == "user_id");
        own.and_then(|(_, raw)| text_of(raw.get()))
    }
}

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
        person.erased_from(None, value.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
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
            "{\"items\": [{\"quantity\": 17850",
            r#"{"user_id":"bob","order_id":"o-1"}"#,
        ] {
            assert_eq!(erased(another), None, "{another}");
        }
    }

    #[test]
    fn what_cannot_be_read_goes_as_a_whole_where_it_names_them() {
        for theirs in ["{\"user_id\":\"17850\"", "{\"customer\": {\"id\": 17850", "USER_ID=17850"] {
            assert_eq!(erased(theirs).as_deref(), Some("[erased]"), "{theirs}");
        }
    }

    fn ann(orders: &HashSet<String>) -> Person<'_> {
        Person { user_id: "ann", orders, token: "forgotten:x" }
    }

    #[test]
    fn a_record_of_another_that_names_them_stays_the_other_ones() {
        let value = r#"{"user_id":"bob","shipping_address":"1 High St","gift":{"customer":17850}}"#;
        assert_eq!(erased(value).as_deref(), Some(r#"{"user_id":"bob","shipping_address":"1 High St"}"#));
    }

    #[test]
    fn what_is_nested_too_deeply_is_not_read_by_field() {
        let deep = format!("{}1{}", "{\"a\":".repeat(60_000), "}".repeat(60_000));
        assert_eq!(erased(&deep), None);
        assert_eq!(erased(&deep.replace('1', "{\"user\":17850}")).as_deref(), Some("[erased]"));
    }

    #[test]
    fn a_record_is_theirs_by_its_key_and_in_utf_16_too() {
        let orders = HashSet::new();
        let ann = ann(&orders);
        assert_eq!(ann.erased_from(Some(b"ann"), b"hello").as_deref(), Some(WHOLLY));
        assert_eq!(
            ann.erased_from(Some(b"ann"), br#"{"email":"x","order_id":"1"}"#).as_deref(),
            Some(br#"{"order_id":"1"}"#.as_slice())
        );
        assert_eq!(ann.erased_from(Some(b"anna"), b"hello"), None);
        assert_eq!(ann.erased_from(Some(b"ann"), br#"{"order_id":"ann","user_id":"bob"}"#), None);
        for (text, theirs) in [("of ann!", true), ("of anna", false)] {
            for bytes in spellings(text) {
                assert_eq!(ann.erased_from(None, &bytes).is_some(), theirs, "{bytes:?}");
            }
        }
    }

    #[test]
    fn an_order_that_was_rejected_is_known_by_its_user_or_the_token() {
        let orders = HashSet::new();
        let ann = ann(&orders);
        assert_eq!(ann.order_in(br#"{"order_id":"o-7","user_id":"ann"}"#).as_deref(), Some("o-7"));
        assert_eq!(ann.order_in(br#"{"order_id":8,"user_id":"forgotten:x"}"#).as_deref(), Some("8"));
        assert_eq!(ann.order_in(br#"{"order_id":"o-7","user_id":"bob"}"#), None);
        assert_eq!(ann.order_in(b"ann"), None);
    }

    #[test]
    fn a_text_that_names_them_goes_and_another_stays_as_it_is() {
        let orders = HashSet::from(["o-1".to_owned()]);
        let person = Person { user_id: "5", orders: &orders, token: "forgotten:x" };
        assert_eq!(
            person.erased_from_text("product 85123A is not in the catalogue"),
            "product 85123A is not in the catalogue"
        );
        assert_eq!(person.erased_from_text("user 5 is unknown"), "[erased]");
    }
}
