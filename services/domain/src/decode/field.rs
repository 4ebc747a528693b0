//! One field's raw JSON text into a value, or what is wrong with it, by name.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::wire::Object;
use super::{Limits, Wrong};
use crate::event::PaymentStatus;
use crate::reason::Reason;
use crate::{Money, card, money};

/// Where a field stands: `order_id`, or `items[2].quantity`.
#[derive(Debug, Clone, Copy)]
pub struct At {
    line: Option<usize>,
    name: &'static str,
}

impl At {
    /// A field of the record itself.
    pub const fn top(name: &'static str) -> At {
        At { line: None, name }
    }

    /// A field of a line; the first line is 0.
    pub const fn line(line: usize, name: &'static str) -> At {
        At { line: Some(line), name }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "items[{line}].{}", self.name),
            None => f.write_str(self.name),
        }
    }
}

type Raw<'a> = Option<&'a RawValue>;

/// A UUID in its hyphenated form.
pub fn uuid(raw: Raw<'_>, at: At) -> Result<Uuid, Wrong> {
    const ALLOWED: &str = "a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057";
    let raw = present(raw, at, ALLOWED)?;
    let text = string(raw, at, ALLOWED)?;
    let hyphenated = (text.len() == 36).then(|| Uuid::try_parse(&text).ok()).flatten();
    hyphenated.ok_or_else(|| mismatch(raw, at, ALLOWED))
}

/// An id: a text that is not empty, or an integer taken as text.
pub fn id(raw: Raw<'_>, at: At, limits: &Limits) -> Result<String, Wrong> {
    const ALLOWED: &str = "a text that is not empty, or an integer";
    let raw = present(raw, at, ALLOWED)?;
    if is_integer(raw.get()) {
        return bounded(raw.get().into(), at, limits.id_bytes);
    }
    let text = string(raw, at, ALLOWED)?;
    if text.is_empty() {
        return Err(mismatch(raw, at, ALLOWED));
    }
    bounded(text, at, limits.id_bytes)
}

/// An id that may be absent.
pub fn optional_id(raw: Raw<'_>, at: At, limits: &Limits) -> Result<Option<String>, Wrong> {
    raw.map(|_| id(raw, at, limits)).transpose()
}

/// A text of at most `limit` bytes that may be absent.
pub fn optional_text(raw: Raw<'_>, at: At, limit: usize) -> Result<Option<String>, Wrong> {
    raw.map(|raw| bounded(string(raw, at, "a text")?, at, limit)).transpose()
}

/// An address that may be absent: a text as it is, an object as compact JSON.
pub fn optional_address(raw: Raw<'_>, at: At, limits: &Limits) -> Result<Option<String>, Wrong> {
    raw.map(|raw| {
        let text = if raw.get().starts_with('{') {
            let compact = compact(raw.get());
            if holds_nul_escape(&compact) {
                return Err(nul(at));
            }
            compact.into()
        } else {
            string(raw, at, "a text or an object")?
        };
        bounded(text, at, limits.text_bytes)
    })
    .transpose()
}

/// One of the names of an enum; its default where absent.
pub fn word<'de, T: Deserialize<'de> + Default>(raw: Raw<'_>, at: At) -> Result<T, Wrong> {
    let Some(raw) = raw else { return Ok(T::default()) };
    let text = string(raw, at, "a text")?;
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(&text))
        // serde's own words: unknown variant `x`, expected one of `y`, `z`.
        .map_err(|error| Wrong::schema(format!("{at}: {error}")))
}

/// The last four digits of a card number, which may be absent. A JSON integer has lost its leading zeros, so only one that
/// cannot have had any is taken.
pub fn optional_last_four(raw: Raw<'_>, at: At) -> Result<Option<String>, Wrong> {
    const ALLOWED: &str = "the last four digits of a card number, as text";
    let Some(raw) = raw else { return Ok(None) };
    let digits: Cow<'_, str> =
        if is_integer(raw.get()) { raw.get().into() } else { string(raw, at, ALLOWED)? };
    if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Some(digits.into_owned()));
    }
    Err(mismatch(raw, at, ALLOWED))
}

/// A payment's status, whatever its case.
pub fn payment_status(raw: Raw<'_>, at: At) -> Result<PaymentStatus, Wrong> {
    const ALLOWED: &str =
        "pending, authorised, captured, failed or refunded (completed is captured; case does not matter)";
    let raw = present(raw, at, ALLOWED)?;
    PaymentStatus::from_name(&string(raw, at, ALLOWED)?).ok_or_else(|| mismatch(raw, at, ALLOWED))
}

/// A moment, in microseconds, which is what PostgreSQL keeps.
pub fn timestamp(raw: Raw<'_>, at: At, now: DateTime<Utc>) -> Result<DateTime<Utc>, Wrong> {
    const ALLOWED: &str = "a time in RFC 3339 with an offset, such as 2026-01-31T12:00:00Z";
    let raw = present(raw, at, ALLOWED)?;
    let text = string(raw, at, ALLOWED)?;
    let moment = DateTime::parse_from_rfc3339(&text)
        .ok()
        .and_then(|moment| DateTime::from_timestamp_micros(moment.timestamp_micros()))
        .ok_or_else(|| mismatch(raw, at, ALLOWED))?;
    let latest = now.checked_add_days(Days::new(1)).unwrap_or(now);
    if moment >= earliest() && moment <= latest {
        return Ok(moment);
    }
    let detail = format!("{at} is {}; it must lie between 2000-01-01 and a day ahead of now", shown(raw));
    Err(Wrong::new(Reason::TimestampOutOfRange, detail))
}

fn earliest() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN).and_utc()
}

/// Which quantities a line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// From 1.
    Positive,
    /// Up or down, but not zero.
    Signed,
}

/// Units of a line.
pub fn quantity(raw: Raw<'_>, at: At, sign: Sign, limits: &Limits) -> Result<i64, Wrong> {
    let raw = present(raw, at, "a whole number")?;
    if !is_number(raw.get()) {
        return Err(mismatch(raw, at, "a whole number"));
    }
    // Beyond 64 bits, or written with a fraction or an exponent: a number, but none that can be counted in units.
    let units = if is_integer(raw.get()) { raw.get().parse::<i64>().ok() } else { None };
    let most = limits.quantity;
    let least = if sign == Sign::Positive { 1 } else { -most };
    units.filter(|&units| units != 0 && units >= least && units <= most).ok_or_else(|| {
        let but = if sign == Sign::Signed { " but 0" } else { "" };
        let detail = format!("{at} is {}; it must be a whole number from {least} to {most}{but}", shown(raw));
        Wrong::new(Reason::InvalidQuantity, detail)
    })
}

/// An amount that may be absent: a decimal as text or as a JSON number, read digit by digit.
pub fn optional_amount(raw: Raw<'_>, at: At) -> Result<Option<Money>, Wrong> {
    raw.map(|raw| {
        const ALLOWED: &str = "a decimal number, as text or as a JSON number";
        let digits: Cow<'_, str> =
            if is_number(raw.get()) { raw.get().into() } else { string(raw, at, ALLOWED)? };
        let problem = match Money::parse(&digits) {
            Ok(amount) if !amount.is_negative() => return Ok(amount),
            Ok(_) => "negative".to_owned(),
            Err(error) => error.to_string(),
        };
        let detail = format!(
            "{at} is {}: {problem}; it must be a decimal from 0 to {} with at most 4 decimals",
            shown(raw),
            money::MAX_UNITS
        );
        Err(Wrong::new(Reason::InvalidPrice, detail))
    })
    .transpose()
}

/// The lines of an event, at least one.
pub fn lines<'a, T: Deserialize<'a>>(raw: Raw<'a>, limits: &Limits) -> Result<Vec<Object<T>>, Wrong> {
    let at = At::top("items");
    let raw = present(raw, at, "a list of one line or more")?;
    let lines: Vec<Object<T>> = match serde_json::from_str(raw.get()) {
        Ok(lines) => lines,
        Err(error) => return Err(broken_line::<T>(raw, &error)),
    };
    if lines.is_empty() {
        return Err(mismatch(raw, at, "a list of one line or more"));
    }
    if lines.len() > limits.lines {
        let detail = format!("items has {} lines; at most {} are allowed", lines.len(), limits.lines);
        return Err(Wrong::new(Reason::TooLarge, detail));
    }
    Ok(lines)
}

/// Which line serde stumbled over: it says only where in the text.
fn broken_line<'a, T: Deserialize<'a>>(raw: &'a RawValue, error: &serde_json::Error) -> Wrong {
    let Ok(elements) = serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) else {
        return mismatch(raw, At::top("items"), "a list of one line or more");
    };
    for (line, element) in elements.into_iter().enumerate() {
        if !element.get().starts_with('{') {
            return Wrong::schema(format!("items[{line}] is {}; it must be an object", shown(element)));
        }
        if let Err(error) = serde_json::from_str::<Object<T>>(element.get()) {
            return Wrong::schema(format!("items[{line}]: {error}; each field may stand once"));
        }
    }
    Wrong::schema(format!("items: {error}"))
}

fn present<'a>(raw: Raw<'a>, at: At, allowed: &str) -> Result<&'a RawValue, Wrong> {
    raw.ok_or_else(|| Wrong::schema(format!("{at} is missing; it must be {allowed}")))
}

/// The text of a JSON string; a NUL, which PostgreSQL cannot store, is refused.
fn string<'a>(raw: &'a RawValue, at: At, allowed: &str) -> Result<Cow<'a, str>, Wrong> {
    let quoted = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = quoted.ok_or_else(|| mismatch(raw, at, allowed))?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // Only here are the escapes read: half of a surrogate pair is a syntax error that the parser passed over till now.
    let text: String = serde_json::from_str(raw.get())
        .map_err(|error| Wrong::new(Reason::MalformedJson, format!("{at} is not a JSON text: {error}")))?;
    if text.contains('\0') {
        return Err(nul(at));
    }
    Ok(Cow::Owned(text))
}

fn nul(at: At) -> Wrong {
    Wrong::schema(format!("{at} holds a NUL character (\\u0000); any other character is allowed"))
}

fn bounded(text: Cow<'_, str>, at: At, limit: usize) -> Result<String, Wrong> {
    if text.len() <= limit {
        return Ok(text.into_owned());
    }
    let detail = format!("{at} has {} bytes; at most {limit} are allowed", text.len());
    Err(Wrong::new(Reason::TooLarge, detail))
}

fn mismatch(raw: &RawValue, at: At, allowed: &str) -> Wrong {
    Wrong::schema(format!("{at} is {}; it must be {allowed}", shown(raw)))
}

/// The start of a value for a detail; masked first, lest a card number is cut to a shape that is not known as one.
fn shown(raw: &RawValue) -> String {
    const LIMIT: usize = 60;
    let masked = card::masked(raw.get());
    match masked.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}…", &masked[..at]),
        None => masked.into_owned(),
    }
}

fn is_number(json: &str) -> bool {
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// JSON without the white space between its tokens.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let white = !in_string && c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        !white
    };
    json.chars().filter(keep).collect()
}

/// Whether JSON spells a NUL; `\\u0000` (an escaped backslash and five letters) is none.
fn holds_nul_escape(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with("u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}
