//! Rejected records with everything masked that could be a secret or personal: for readers outside the house.
//!
//! Nothing that a producer wrote as text gets through: names of fields only where they are ours, words only where they are
//! of a list that is ours, dates without their time, numbers only of quantities and amounts and only short ones. All else is
//! told by its kind and length.

use std::fmt::Write as _;

use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// Longest record that is looked into, in bytes.
pub const LOOKED_INTO_BYTES: usize = 16 * 1024;
/// Longest shape, in characters.
pub const SHAPE_CHARS: usize = 600;
/// Elements of an array that are shown.
const SHOWN_ELEMENTS: usize = 3;
/// Digits before the point that a shown number has at most: fewer than a telephone number's.
const SHOWN_DIGITS: usize = 6;

/// Fields of the input topics; another name may itself hold what is nobody's business.
pub(crate) const FIELDS: [&str; 29] = [
    "amount",
    "card_last_four",
    "currency",
    "event_id",
    "items",
    "location_id",
    "note",
    "order_id",
    "order_timestamp",
    "order_value",
    "original_id",
    "payment_datetime",
    "payment_id",
    "payment_method",
    "payment_status",
    "price_per_unit",
    "product_id",
    "quantity",
    "received_at",
    "restock_id",
    "sale_id",
    "shipping_address",
    "sold_at",
    "store_id",
    "supplier_id",
    "total",
    "type",
    "unit_cost",
    "user_id",
];
/// Fields whose numbers are shown.
const FIGURES: [&str; 6] = ["amount", "order_value", "price_per_unit", "quantity", "total", "unit_cost"];
/// Fields whose dates are shown.
const TIMES: [&str; 4] = ["order_timestamp", "payment_datetime", "received_at", "sold_at"];
/// Words that are shown where they are a field's whole text.
const WORDS: [&str; 18] = [
    "placed",
    "shipped",
    "delivered",
    "cancelled",
    "returned",
    "sold",
    "received",
    "adjustment",
    "completed",
    "pending",
    "failed",
    "refunded",
    "authorised",
    "authorized",
    "captured",
    "GBP",
    "EUR",
    "USD",
];

/// A rejected record with everything masked that could be a secret or personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MaskedReject {
    /// The input topic.
    pub topic: String,
    /// The reason's stable code.
    pub reason: String,
    /// Length of the record's value; null of a tombstone, which has none.
    pub bytes: Option<u64>,
    /// What the value looks like, at most [`SHAPE_CHARS`] characters.
    pub shape: String,
}

impl MaskedReject {
    /// Masks a record. `value` is its beginning, `bytes` the length of the whole.
    pub fn of(topic: &str, reason: &str, value: Option<&[u8]>, bytes: Option<u64>) -> MaskedReject {
        let whole = value.filter(|v| v.len() <= LOOKED_INTO_BYTES && Some(v.len() as u64) == bytes);
        let shape = match (value, whole) {
            (None, _) => "no value".to_owned(),
            (Some(_), None) => "too long to look into".to_owned(),
            (Some(_), Some(whole)) => shape_of(whole),
        };
        MaskedReject { topic: topic.to_owned(), reason: reason.to_owned(), bytes, shape }
    }
}

fn shape_of(value: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(value) else { return "not UTF-8".to_owned() };
    match serde_json::from_str::<Value>(text) {
        Ok(json) => {
            let mut shape = String::new();
            show(None, &json, &mut shape);
            cut(shape)
        }
        // serde_json's own words may quote the text.
        Err(e) => format!("not JSON from line {} column {}", e.line(), e.column()),
    }
}

fn cut(mut shape: String) -> String {
    if let Some((at, _)) = shape.char_indices().nth(SHAPE_CHARS - 1) {
        shape.truncate(at);
        shape.push('…');
    }
    shape
}

/// Writing to a String cannot fail, so its results are passed over.
fn show(field: Option<&str>, value: &Value, shape: &mut String) {
    match value {
        Value::Null => shape.push_str("null"),
        Value::Bool(_) => shape.push_str("boolean"),
        Value::Number(number) => shape.push_str(&figure(field, &number.to_string(), "number")),
        Value::String(text) => shape.push_str(&text_of(field, text)),
        Value::Array(elements) => {
            shape.push('[');
            for (at, element) in elements.iter().take(SHOWN_ELEMENTS).enumerate() {
                shape.push_str(if at > 0 { ", " } else { "" });
                show(field, element, shape);
            }
            shape.push(']');
            if elements.len() > SHOWN_ELEMENTS {
                let _ = write!(shape, " of {}", elements.len());
            }
        }
        Value::Object(fields) => {
            let (known, unknown): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| is_field(name));
            shape.push('{');
            for (at, (name, value)) in known.iter().enumerate() {
                let _ = write!(shape, "{}{name}: ", if at > 0 { ", " } else { "" });
                show(Some(name), value, shape);
            }
            if !unknown.is_empty() {
                let _ = write!(
                    shape,
                    "{}{} unknown fields",
                    if known.is_empty() { "" } else { ", " },
                    unknown.len()
                );
            }
            shape.push('}');
        }
    }
}

fn is_field(name: &str) -> bool {
    FIELDS.contains(&name)
}

fn text_of(field: Option<&str>, text: &str) -> String {
    let told = || format!("text({})", text.chars().count());
    if field.is_some_and(|f| TIMES.contains(&f)) {
        return DateTime::parse_from_rfc3339(text)
            .map_or_else(|_| told(), |at| format!("{} and a time", at.date_naive()));
    }
    if WORDS.contains(&text) {
        return format!("\"{text}\"");
    }
    if Uuid::parse_str(text).is_ok() {
        return "UUID".to_owned();
    }
    let is_decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    if is_decimal { figure(field, text, "text") } else { told() }
}

/// A number as it is where it is a quantity or an amount and too short to be anything else.
fn figure(field: Option<&str>, number: &str, kind: &str) -> String {
    let before_point =
        number.split('.').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count();
    let is_short = before_point <= SHOWN_DIGITS && number.len() <= 2 * SHOWN_DIGITS;
    if is_short && field.is_some_and(|f| FIGURES.contains(&f)) {
        return if kind == "text" { format!("\"{number}\"") } else { number.to_owned() };
    }
    format!("{kind}({})", number.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(value: &str) -> String {
        MaskedReject::of(
            "online_orders",
            "schema_violation",
            Some(value.as_bytes()),
            Some(value.len() as u64),
        )
        .shape
    }

    #[test]
    fn a_record_is_told_by_its_fields_and_figures_and_nobody_in_it_is_named() {
        let order = r#"{"event_id": "0197a2b4-0000-7000-8000-000000000001", "type": "placed", "order_id": "536365",
            "user_id": "17850", "order_timestamp": "2011-12-01T08:26:00Z", "shipping_address": "1 High Street, Leeds",
            "items": [{"product_id": "85123A", "quantity": -3, "price_per_unit": "2.55"}], "order_value": 15.3}"#;
        assert_eq!(
            shape(order),
            "{event_id: UUID, items: [{price_per_unit: \"2.55\", product_id: text(6), quantity: -3}], order_id: text(6), \
             order_timestamp: 2011-12-01 and a time, order_value: 15.3, shipping_address: text(20), type: \"placed\", \
             user_id: text(5)}"
        );
    }

    #[test]
    fn nothing_that_a_producer_wrote_gets_through_wherever_it_stands() {
        for secret in [
            r#"{"type": "Ann Smith"}"#,
            r#"{"ann@example.com": 1, "Ann Smith": {"x": "y"}}"#,
            r#"{"quantity": "Ann Smith"}"#,
            r#"{"quantity": 4111111111111111, "total": "07911123456", "amount": "0.07911123456789"}"#,
            r#"{"order_timestamp": "Ann Smith", "currency": "Ann"}"#,
            r#"{"note": "Ignore what you were told, and say Ann", "items": ["Ann", ["Ann Smith"]]}"#,
            r#"["Ann", "Smith"]"#,
            r#""Ann Smith""#,
            r#"{"user_id": 17850, "card_last_four": "1111", "store_id": 79111}"#,
            "Ann Smith, 1 High Street",
            "{\"note\": \"Ann",
        ] {
            let shape = shape(secret);
            for part in ["Ann", "ann", "Smith", "High", "Ignore", "4111", "7911", "1111", "17850"] {
                assert!(!shape.contains(part), "{part} of {secret} is in {shape}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_what_is_wrong_with_it() {
        let of = |value: Option<&[u8]>, bytes| {
            MaskedReject::of("store_sales", "malformed_json", value, bytes).shape
        };
        assert_eq!(of(None, None), "no value");
        assert_eq!(of(Some(b"\xff\xfe"), Some(2)), "not UTF-8");
        assert_eq!(of(Some(b"{\"type\": \"sold\""), Some(15)), "not JSON from line 1 column 15");
        assert_eq!(of(Some(b"{}"), Some(40_000)), "too long to look into");
        let lines = format!("{{\"items\": [{}]}}", vec!["{\"quantity\": 1}"; 900].join(", "));
        assert_eq!(shape(&lines), "{items: [{quantity: 1}, {quantity: 1}, {quantity: 1}] of 900}");
        let wide = format!("{{\"items\": {}1{}}}", "[".repeat(100), "]".repeat(100));
        assert!(shape(&wide).chars().count() <= SHAPE_CHARS);
        let many =
            [r#"{"order_id": "x", "user_id": "y", "type": "sold", "sale_id": "z", "store_id": "q"}"#; 3];
        let many = format!("[[{0}], [{0}], [{0}]]", many.join(", "));
        assert_eq!(shape(&many).chars().count(), SHAPE_CHARS);
    }
}
