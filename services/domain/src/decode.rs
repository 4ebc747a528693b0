//! Bytes of a record into an [`Event`], or the reason why not.
//!
//! The checks run from cheap to dear and stop at the first that fails: present, not too long, UTF-8, not too deep, no
//! card number, JSON, the shape of its topic, and last each field's own limits. The wire types ([`wire`]) hold every
//! field as the raw JSON text it was written in; [`field`] turns that into a value. So a number never passes through a
//! binary float, and whatever is wrong can be named by its path (`items[2].quantity`).

mod field;
mod topics;
pub(crate) mod wire;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{Event, Source};
use crate::reason::{Reason, Reject};
use crate::{card, decode::wire::Object};

/// What decoding needs to know of the installation and the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The installation's one currency, such as `GBP`; case does not matter.
    pub currency: String,
    /// The time of day: what happened more than a day after it is refused.
    pub now: DateTime<Utc>,
    /// How much of everything is too much.
    pub limits: Limits,
}

/// The explicit limits of a record. Every one is inclusive: what equals it is still allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The record's value, in bytes.
    pub value_bytes: usize,
    /// Objects and arrays inside one another; the record itself is the first.
    pub depth: usize,
    /// An id, a type, a currency or a payment method, in bytes of UTF-8.
    pub id_bytes: usize,
    /// An address or a note, in bytes of UTF-8.
    pub text_bytes: usize,
    /// Lines of one event.
    pub lines: usize,
    /// Units in one line, up or down.
    pub quantity: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            value_bytes: 1_048_576,
            depth: 32,
            id_bytes: 256,
            text_bytes: 4_096,
            lines: 10_000,
            quantity: 10_000_000,
        }
    }
}

/// Decodes and validates the value of one record; the catalogue and what happened before are not asked.
///
/// # Errors
/// A [`Reject`] with the first thing that is wrong. It carries the event_id wherever the value is JSON with a valid one.
/// Its detail never shows a full card number.
pub fn decode(source: Source, value: Option<&[u8]>, rules: &Rules) -> Result<Event, Reject> {
    let value = value.unwrap_or_default();
    admit(value, &rules.limits)
        .and_then(|text| topics::event(source, text, rules))
        .map_err(|wrong| wrong.into_reject(value, &rules.limits))
}

/// Something that is wrong with a record.
#[derive(Debug)]
struct Wrong {
    reason: Reason,
    detail: String,
}

impl Wrong {
    fn new(reason: Reason, detail: impl Into<String>) -> Wrong {
        Wrong { reason, detail: detail.into() }
    }

    fn schema(detail: impl Into<String>) -> Wrong {
        Wrong::new(Reason::SchemaViolation, detail)
    }

    fn into_reject(self, value: &[u8], limits: &Limits) -> Reject {
        // Beyond the limit the value is not parsed at all, not even for its id.
        let event_id = if value.len() <= limits.value_bytes { event_id_of(value) } else { None };
        Reject::new(self.reason, self.detail, event_id)
    }
}

/// The checks that need no parser.
fn admit<'v>(value: &'v [u8], limits: &Limits) -> Result<&'v str, Wrong> {
    if value.is_empty() {
        return Err(Wrong::new(
            Reason::MalformedJson,
            "the value is missing or empty; it must be a JSON object",
        ));
    }
    if value.len() > limits.value_bytes {
        let detail =
            format!("the value has {} bytes; at most {} are allowed", value.len(), limits.value_bytes);
        return Err(Wrong::new(Reason::TooLarge, detail));
    }
    let text = std::str::from_utf8(value).map_err(|e| {
        let detail = format!("the value is not UTF-8 at byte {}; it must be JSON in UTF-8", e.valid_up_to());
        Wrong::new(Reason::MalformedJson, detail)
    })?;
    if deeper_than(value, limits.depth) {
        let detail = format!("the value is nested too deeply; at most {} levels are allowed", limits.depth);
        return Err(Wrong::new(Reason::TooLarge, detail));
    }
    if card::contains(value) {
        let detail = "the value holds a full card number; at most its last four digits are allowed";
        return Err(Wrong::new(Reason::CardNumber, detail));
    }
    Ok(text)
}

/// Whether more than `depth` objects and arrays lie inside one another.
pub fn deeper_than(value: &[u8], depth: usize) -> bool {
    // Few brackets cannot nest deeply: that settles nearly every record.
    if opening_brackets(value) <= depth {
        return false;
    }
    let (mut level, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in value {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => level += 1,
            b'}' | b']' => level = level.saturating_sub(1),
            _ => {}
        }
        if level > depth {
            return true;
        }
    }
    false
}

fn opening_brackets(value: &[u8]) -> usize {
    // `[` and `{` differ in one bit. Counted in bytes, in pieces too short to overflow one: the compiler makes vector
    // instructions of that.
    let count = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    value.chunks(192).map(|piece| usize::from(count(piece))).sum()
}

/// Parses a record as the wire type of its topic.
fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Wrong> {
    serde_json::from_str::<Object<T>>(text).map(|object| object.0).map_err(|error| {
        // A type error may hide a syntax error further on, and what is no JSON is never called anything else.
        match serde_json::from_str::<IgnoredAny>(text) {
            Err(syntax) => Wrong::new(Reason::MalformedJson, format!("the value is not JSON: {syntax}")),
            Ok(_) if !text.trim_start().starts_with('{') => Wrong::schema("the value must be a JSON object"),
            Ok(_) => Wrong::schema(format!("{error}; each field may stand once")),
        }
    })
}

/// The event_id of a value that is JSON and has a valid one.
fn event_id_of(value: &[u8]) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow)]
        event_id: Option<&'a RawValue>,
    }
    let text = std::str::from_utf8(value).ok()?;
    let Object(probe) = serde_json::from_str::<Object<Probe<'_>>>(text).ok()?;
    field::uuid(probe.event_id, field::At::top("event_id")).ok()
}

#[cfg(test)]
mod tests {
    use super::deeper_than;

    #[test]
    fn brackets_inside_texts_are_no_nesting() {
        let flat = format!(r#"{{"a":"{}\"["}}"#, "[".repeat(100));
        assert!(!deeper_than(flat.as_bytes(), 32));
        assert!(!deeper_than(format!("{}1{}", "[".repeat(32), "]".repeat(32)).as_bytes(), 32));
        assert!(deeper_than("[".repeat(33).as_bytes(), 32));
        assert!(!deeper_than("[],".repeat(100).as_bytes(), 32));
    }
}
