//! Text to values, and what is allowed in words.

use std::time::Duration;

use figment::value::Value;

use super::keys::Kind;

impl Kind {
    /// Reads a value, or says nothing more than that it is not allowed.
    pub(super) fn parse(&self, text: &str) -> Option<Value> {
        let as_text = |ok: bool| ok.then(|| Value::from(text));
        match *self {
            Kind::Text | Kind::File => as_text(!text.trim().is_empty()),
            Kind::Secret => as_text(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())),
            Kind::DatabaseUrl => {
                as_text(["postgres://", "postgresql://"].iter().any(|s| text.starts_with(s)))
            }
            Kind::Url(schemes) => as_text(schemes.iter().any(|scheme| names_place(text, scheme))),
            Kind::Integer(least, most) => {
                let number: i64 = text.replace('_', "").parse().ok()?;
                (least..=most).contains(&number).then(|| Value::from(number))
            }
            Kind::Bytes(least, most) => {
                let number = parse_bytes(text)?;
                (least..=most).contains(&number).then(|| Value::from(number))
            }
            Kind::Duration(least, most) => {
                let millis = parse_duration(text)?.as_millis();
                as_text((u128::from(least)..=u128::from(most)).contains(&millis))
            }
            Kind::OneOf(words) => as_text(words.contains(&text)),
            Kind::Timezone => as_text(text.parse::<chrono_tz::Tz>().is_ok()),
            Kind::Identifier => as_text(is_identifier(text)),
            Kind::Currency => as_text(text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase())),
            Kind::LogFilter => as_text(tracing_subscriber::EnvFilter::builder().parse(text).is_ok()),
            Kind::Addresses => as_text(text.split(',').all(|a| is_address(a.trim()))),
            Kind::Listen => as_text(is_address(text)),
        }
    }

    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        match *self {
            Kind::Text => "a text".to_owned(),
            Kind::Secret => "a text of visible ASCII characters without blanks".to_owned(),
            Kind::DatabaseUrl => "a URL that starts with postgres:// or postgresql://".to_owned(),
            Kind::Url(schemes) => {
                let schemes: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
                format!("a URL that starts with {}, and a place behind it", schemes.join(", "))
            }
            Kind::File => "the path of a file".to_owned(),
            Kind::Integer(least, i64::MAX) => format!("a whole number from {least}"),
            Kind::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Bytes(least, most) => {
                format!(
                    "a number of bytes like 500000 or 32MiB, from {} to {}",
                    show_bytes(least),
                    show_bytes(most)
                )
            }
            Kind::Duration(least, most) => {
                let show = |ms: u64| match ms {
                    0 => "0".to_owned(),
                    ms => humantime::format_duration(Duration::from_millis(ms)).to_string().replace(' ', ""),
                };
                format!("a duration like 250ms, 10s or 10m, from {} to {}", show(least), show(most))
            }
            Kind::OneOf(words) => words.join(" or "),
            Kind::Timezone => "the name of an IANA time zone like UTC or Europe/London".to_owned(),
            Kind::Identifier => "up to 40 small letters, digits and underscores, a letter first".to_owned(),
            Kind::Currency => "an ISO 4217 code of three capital letters like GBP".to_owned(),
            Kind::LogFilter => {
                "error, warn, info, debug, trace, or directives like info,stocktide_processor=debug"
                    .to_owned()
            }
            Kind::Addresses => "host:port, several with commas between".to_owned(),
            Kind::Listen => "host:port like 127.0.0.1:9100 (port 0: a free one)".to_owned(),
        }
    }
}

/// Whether a URL of that scheme goes on after it: with a path where it is a file's, else with a host or a bucket.
fn names_place(url: &str, scheme: &str) -> bool {
    let place = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    place.is_some_and(|place| !place.is_empty() && (scheme == "file" || !place.starts_with('/')))
}

fn is_identifier(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok()
    })
}

const UNITS: [(&str, i64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn parse_bytes(text: &str) -> Option<i64> {
    let (number, unit) =
        UNITS.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, *size))).unwrap_or((text, 1));
    let number = number.trim_end().replace('_', "");
    // Digits only: `parse` would take a sign as well.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// A number of bytes as it is written in a configuration.
pub(super) fn show_bytes(bytes: i64) -> String {
    let fits = UNITS.iter().find(|(_, size)| *size > 1 && bytes >= *size && bytes % size == 0);
    fits.map_or_else(|| bytes.to_string(), |(name, size)| format!("{}{name}", bytes / size))
}

/// A duration like `250ms`, `10s`, `1h 30m`, or plain `0`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    humantime::parse_duration(text).ok()
}

/// A duration as it is written in a configuration.
pub(super) fn show_duration(duration: Duration) -> String {
    if duration.is_zero() { "0".to_owned() } else { humantime::format_duration(duration).to_string() }
}

/// Durations as text, for serde.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration")))
    }

    /// A duration that need not be set.
    pub mod optional {
        use super::{Deserializer, Duration};

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
