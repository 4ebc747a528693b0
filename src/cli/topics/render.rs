//! A record, for people and for programs. Its bytes come from anybody: nothing of them may reach a terminal as a command, and no
//! full card number is shown.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use serde_json::{Map, Value, json};
use stocktide_domain::card;
use stocktide_runtime::terminal::{defuse, escape};

/// Bytes as they are shown.
type Bytes<'a> = Cow<'a, [u8]>;

/// A record as it is shown.
#[derive(Debug, Default)]
pub struct Record<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// Milliseconds since 1970.
    timestamp: Option<i64>,
    key: Option<Bytes<'a>>,
    headers: Vec<(Cow<'a, str>, Option<Bytes<'a>>)>,
    value: Option<Bytes<'a>>,
}

impl<'a> Record<'a> {
    /// The record of a message.
    pub fn of(message: &'a BorrowedMessage<'_>) -> Record<'a> {
        Record {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(clean),
            headers: stocktide_runtime::kafka::headers(message)
                .into_iter()
                .map(|(name, value)| (card::masked(&name).into_owned().into(), value.map(clean)))
                .collect(),
            value: message.payload().map(clean),
        }
    }

    /// One line: where, when, key, headers, value.
    pub fn line(&self) -> String {
        let headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name.as_bytes()), shown(value.as_deref())))
            .collect();
        let headers = if headers.is_empty() { String::new() } else { format!(" [{}]", headers.join(" ")) };
        let time = self.time().unwrap_or_else(|| "-".to_owned());
        let (key, value) = (shown(self.key.as_deref()), shown(self.value.as_deref()));
        format!("{} {time} {key}{headers} {value}", self.coordinates())
    }

    /// One JSON object. Bytes that are not UTF-8 are in `…_hex`, in place of the text.
    pub fn json(&self) -> serde_json::Result<String> {
        let mut object = Map::new();
        object.insert("topic".to_owned(), json!(self.topic));
        object.insert("partition".to_owned(), json!(self.partition));
        object.insert("offset".to_owned(), json!(self.offset));
        object.insert("timestamp".to_owned(), json!(self.time()));
        put(&mut object, "key", self.key.as_deref());
        let headers = self.headers.iter().map(|(name, value)| {
            let mut header = Map::from_iter([("name".to_owned(), json!(name))]);
            put(&mut header, "value", value.as_deref());
            Value::Object(header)
        });
        object.insert("headers".to_owned(), headers.collect());
        put(&mut object, "value", self.value.as_deref());
        Ok(defuse(&serde_json::to_string(&object)?))
    }

    /// Where it is: topic/partition@offset.
    pub fn coordinates(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    /// Its key, escaped.
    pub fn key(&self) -> String {
        shown(self.key.as_deref())
    }

    /// A header's value, escaped; empty if there is no such header.
    pub fn header(&self, name: &str) -> String {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map_or_else(String::new, |(_, value)| shown(value.as_deref()))
    }

    /// Its value, as it is, where that is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.value.as_deref()?).ok()
    }

    /// The beginning of its value, escaped, at most `width` characters of it, with an ellipsis where more follow.
    pub fn beginning(&self, width: usize) -> String {
        let whole = shown(self.value.as_deref());
        match whole.char_indices().nth(width) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }

    fn time(&self) -> Option<String> {
        let time = DateTime::from_timestamp_millis(self.timestamp?)?;
        Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// The bytes without a full card number.
fn clean(bytes: &[u8]) -> Bytes<'_> {
    card::redact(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// Sets bytes: as text, or, where they are none, in hexadecimal under `…_hex`.
pub fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), json!(text)),
        Some((bytes, Err(_))) => {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            object.insert(format!("{name}_hex"), json!(hex))
        }
    };
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), escape)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hostile() -> Record<'static> {
        Record {
            topic: "dlq",
            partition: 2,
            offset: 15,
            timestamp: Some(1_290_000_000_123),
            key: Some(clean(b"k\x1b[31m")),
            headers: vec![("stocktide.reason".into(), Some(clean(b"a\nb"))), ("empty".into(), None)],
            value: Some(clean("\u{9b}2J\u{202e}\u{7f}{\"a\":\"é\"}".as_bytes())),
        }
    }

    #[test]
    fn a_line_shows_everything_and_no_control_character() {
        assert_eq!(
            hostile().line(),
            "dlq/2@15 2010-11-17T13:20:00.123Z k\\u{1b}[31m [stocktide.reason=a\\nb empty=null] \
             \\u{9b}2J\\u{202e}\\u{7f}{\"a\":\"é\"}"
        );
    }

    #[test]
    fn json_is_lossless_and_shows_no_control_character() {
        let json = hostile().json().unwrap();
        assert!(!json.chars().any(stocktide_runtime::terminal::is_unsafe), "{json}");
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["value"], json!("\u{9b}2J\u{202e}\u{7f}{\"a\":\"é\"}"));
        assert_eq!(read["headers"][0], json!({"name": "stocktide.reason", "value": "a\nb"}));
        assert_eq!(read["timestamp"], json!("2010-11-17T13:20:00.123Z"));
    }

    #[test]
    fn a_full_card_number_is_masked_wherever_it_stands() {
        let card = clean(b"4111 1111 1111 1111");
        let record = Record { key: Some(card.clone()), value: Some(card), ..hostile() };
        for shown in [record.line(), record.json().unwrap(), record.beginning(80)] {
            assert!(shown.contains("**** **** **** 1111") && !shown.contains("4111"), "{shown}");
        }
    }

    #[test]
    fn the_beginning_is_cut_between_characters_and_says_so() {
        let record = Record { value: Some(clean("é\x1b!".as_bytes())), ..hostile() };
        let (key, reason) = (record.key(), record.header("stocktide.reason"));
        assert_eq!((key.as_str(), reason.as_str()), ("k\\u{1b}[31m", "a\\nb"));
        assert_eq!(record.beginning(1), "é…");
        assert_eq!(record.beginning(8), "é\\u{1b}!");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let record = Record { key: None, value: Some(clean(b"a\xff\x00")), ..hostile() };
        assert!(
            record.line().ends_with(" null [stocktide.reason=a\\nb empty=null] a\\xff\\u{0}"),
            "{}",
            record.line()
        );
        let read: Value = serde_json::from_str(&record.json().unwrap()).unwrap();
        assert_eq!(
            (read["value_hex"].as_str(), read.get("value"), &read["key"]),
            (Some("61ff00"), None, &Value::Null)
        );
    }
}
