//! What is wrong with a record by its bytes alone: read off `docs/events`, and without the domain's decoder, so that a slip in
//! one of them shows as a difference. All that is wrong is found, not only the first thing.

mod card;
mod shape;

use std::borrow::Cow;

use chrono::DateTime;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::amount;
use crate::event::Fields;

use self::shape::Shape;

/// Most levels of a value.
const DEPTH: usize = 32;
/// The least that `processor.event_max_bytes` may be: a longer value may have been too large when it was settled.
const LEAST_LIMIT: usize = 1_024;
/// Most bytes of an id or a word.
const ID_BYTES: usize = 256;
/// Most bytes of a longer text.
const TEXT_BYTES: usize = 4_096;
/// Most lines of an event.
const LINES: usize = 10_000;
/// Most units of a line.
const UNITS: i64 = 10_000_000;
/// The largest amount, in ten-thousandths.
const AMOUNT: i128 = 1_000_000_000_000 * 10_000;
/// 2000-01-01, in microseconds since 1970.
const EARLIEST: i64 = 946_684_800_000_000;
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A reason that a record's bytes can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// No JSON in UTF-8.
    Malformed,
    /// Not of its topic's shape.
    Schema,
    /// A number of units that no line can have.
    Quantity,
    /// An amount that none can be.
    Price,
    /// Another currency.
    Currency,
    /// Too long ago, or too far ahead.
    Time,
    /// A full card number.
    Card,
    /// Something is too long, too deep or too many.
    Large,
}

impl Defect {
    const CODES: [(Defect, &str); 8] = [
        (Defect::Malformed, "malformed_json"),
        (Defect::Schema, "schema_violation"),
        (Defect::Quantity, "invalid_quantity"),
        (Defect::Price, "invalid_price"),
        (Defect::Currency, "currency_mismatch"),
        (Defect::Time, "timestamp_out_of_range"),
        (Defect::Card, "card_number"),
        (Defect::Large, "too_large"),
    ];

    /// The code of its reason.
    pub fn code(self) -> &'static str {
        Self::CODES.into_iter().find(|(defect, _)| *defect == self).map_or("", |(_, code)| code)
    }

    /// The one whose reason has a code, if a record's bytes can give it.
    pub fn of_code(code: &str) -> Option<Defect> {
        Self::CODES.into_iter().find(|(_, known)| *known == code).map(|(defect, _)| defect)
    }
}

/// What the installation asks of a record, and when the record was settled.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    /// The installation's currency.
    pub currency: &'r str,
    /// In microseconds since 1970, by the processor's clock; none where nothing says so.
    pub settled_at: Option<i64>,
}

/// What is certainly wrong with a record of a topic.
pub fn certain(topic: &str, value: Option<&[u8]>, rules: Rules<'_>) -> Vec<Defect> {
    let mut found = Found { rules, defects: Vec::new() };
    found.value(topic, value.unwrap_or_default());
    found.defects.sort_unstable();
    found.defects.dedup();
    found.defects
}

/// Whether a record may have been rejected for a defect, by its bytes. What is certain is told by [`certain`]; beside it the
/// length that was allowed is not known, nor the exact moment, and what looks like a card number is judged by a cruder rule.
pub fn possible(defect: Defect, topic: &str, value: Option<&[u8]>, rules: Rules<'_>) -> bool {
    let bytes = value.unwrap_or_default();
    let perhaps = match defect {
        Defect::Large => bytes.len() > LEAST_LIMIT,
        Defect::Card => card::is_like_one(bytes),
        Defect::Price => leaves_a_price_open(topic, bytes),
        Defect::Time => {
            // A day ahead is allowed when it is decoded, which is at most a day before it is settled.
            let now = Rules { settled_at: rules.settled_at.map(|at| at.saturating_sub(2 * DAY)), ..rules };
            certain(topic, value, now).contains(&Defect::Time)
        }
        _ => false,
    };
    perhaps || certain(topic, value, rules).contains(&defect)
}

struct Found<'r> {
    rules: Rules<'r>,
    defects: Vec<Defect>,
}

impl Found<'_> {
    fn add(&mut self, defect: Defect) {
        self.defects.push(defect);
    }

    fn value(&mut self, topic: &str, value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else { return self.add(Defect::Malformed) };
        if too_deep(text) {
            self.add(Defect::Large);
        }
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            return self.add(Defect::Malformed);
        }
        let Ok(fields) = Fields::parse(text) else { return self.add(Defect::Schema) };
        let shape = shape::of(topic);
        self.once(&fields, shape.known);
        if shape.known.iter().any(|name| fields.raw(name).is_some_and(card::is_plain)) {
            self.add(Defect::Card);
        }
        self.event_id(fields.raw("event_id"));
        self.id(fields.raw(shape.business_id), true);
        self.time(fields.raw(shape.time));
        self.currency(fields.raw("currency"));
        match topic {
            "payments" => self.payment(&fields),
            _ => self.of_a_kind(topic, &fields, shape),
        }
    }

    /// Known fields stand once, though it be as null.
    fn once(&mut self, fields: &Fields<'_>, known: &[&str]) {
        if known.iter().any(|name| fields.count(name) > 1) {
            self.add(Defect::Schema);
        }
    }

    fn payment(&mut self, fields: &Fields<'_>) {
        const STATUSES: [&str; 7] =
            ["pending", "authorised", "authorized", "captured", "completed", "failed", "refunded"];
        self.id(fields.raw("order_id"), true);
        self.text(fields.raw("payment_method"), ID_BYTES);
        self.amount(fields.raw("amount"));
        match fields.raw("payment_status") {
            Some(raw) => {
                let status = self.string(raw).map(|status| status.to_ascii_lowercase());
                if status.is_some_and(|status| !STATUSES.contains(&status.as_str())) {
                    self.add(Defect::Schema);
                }
            }
            None => self.add(Defect::Schema),
        }
        if let Some(raw) = fields.raw("card_last_four") {
            let digits = if is_integer(raw) { Some(Cow::Borrowed(raw)) } else { self.string(raw) };
            if digits.is_some_and(|text| text.len() != 4 || !text.bytes().all(|b| b.is_ascii_digit())) {
                self.add(Defect::Schema);
            }
        }
    }

    fn of_a_kind(&mut self, topic: &str, fields: &Fields<'_>, shape: &Shape) {
        let kind = match fields.raw("type") {
            None => Some(Cow::Borrowed(shape.types[0])),
            Some(raw) => self.string(raw),
        };
        let Some(kind) = kind else { return };
        if !shape.types.contains(&&*kind) {
            return self.add(Defect::Schema);
        }
        match topic {
            "online_orders" if matches!(&*kind, "shipped" | "delivered" | "cancelled") => return,
            "online_orders" => {
                self.id(fields.raw("user_id"), false);
                self.id(fields.raw("location_id"), false);
                if kind == "returned" {
                    self.id(fields.raw("original_id"), false);
                } else {
                    self.text(fields.raw("payment_method"), ID_BYTES);
                    self.address(fields.raw("shipping_address"));
                    self.amount(fields.raw("order_value"));
                }
            }
            "store_sales" => {
                self.id(fields.raw("store_id"), true);
                if kind == "returned" {
                    self.id(fields.raw("original_id"), false);
                } else {
                    self.text(fields.raw("payment_method"), ID_BYTES);
                    self.amount(fields.raw("total"));
                }
            }
            _ => {
                self.id(fields.raw("supplier_id"), false);
                self.id(fields.raw("location_id"), true);
                self.text(fields.raw("note"), TEXT_BYTES);
            }
        }
        self.lines(fields.raw("items"), shape.line, kind == "adjustment");
    }

    fn lines(&mut self, raw: Option<&str>, known: [&'static str; 3], signed: bool) {
        let Some(raw) = raw else { return self.add(Defect::Schema) };
        let Some(lines) = elements(raw) else { return self.add(Defect::Schema) };
        match lines.len() {
            0 => self.add(Defect::Schema),
            1..=LINES => {}
            _ => self.add(Defect::Large),
        }
        let [product, quantity, price] = known;
        let mut sum = 0_i128;
        // One at a time: they may be a million.
        for line in lines {
            let Ok(line) = Fields::parse(line.get()) else {
                self.add(Defect::Schema);
                continue;
            };
            self.once(&line, &known);
            self.id(line.raw(product), true);
            let units = self.quantity(line.raw(quantity), signed);
            let price = self.amount(line.raw(price));
            sum = sum.saturating_add(i128::from(units.unwrap_or(0).abs()).saturating_mul(price.unwrap_or(0)));
        }
        if sum > AMOUNT {
            self.add(Defect::Price);
        }
    }

    /// A JSON text. Half of a surrogate pair makes it none.
    fn string<'v>(&mut self, raw: &'v str) -> Option<Cow<'v, str>> {
        let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            self.add(Defect::Schema);
            return None;
        };
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        let Ok(text) = serde_json::from_str::<String>(raw) else {
            self.add(Defect::Malformed);
            return None;
        };
        if text.contains('\0') {
            self.add(Defect::Schema);
        }
        Some(Cow::Owned(text))
    }

    fn event_id(&mut self, raw: Option<&str>) {
        let Some(raw) = raw else { return self.add(Defect::Schema) };
        if self.string(raw).is_some_and(|text| text.len() != 36 || Uuid::try_parse(&text).is_err()) {
            self.add(Defect::Schema);
        }
    }

    fn id(&mut self, raw: Option<&str>, required: bool) {
        let Some(raw) = raw else {
            if required {
                self.add(Defect::Schema);
            }
            return;
        };
        let text = if is_integer(raw) { Some(Cow::Borrowed(raw)) } else { self.string(raw) };
        match text.map_or(1, |text| text.len()) {
            0 => self.add(Defect::Schema),
            1..=ID_BYTES => {}
            _ => self.add(Defect::Large),
        }
    }

    fn text(&mut self, raw: Option<&str>, most: usize) -> Option<String> {
        let text = self.string(raw?)?;
        if text.len() > most {
            self.add(Defect::Large);
        }
        Some(text.into_owned())
    }

    fn address(&mut self, raw: Option<&str>) {
        let Some(object) = raw.filter(|raw| raw.starts_with('{')) else {
            self.text(raw, TEXT_BYTES);
            return;
        };
        let (length, holds_nul) = compact(object);
        if holds_nul {
            self.add(Defect::Schema);
        }
        if length > TEXT_BYTES {
            self.add(Defect::Large);
        }
    }

    fn currency(&mut self, raw: Option<&str>) {
        if self.text(raw, ID_BYTES).is_some_and(|given| !given.eq_ignore_ascii_case(self.rules.currency)) {
            self.add(Defect::Currency);
        }
    }

    fn time(&mut self, raw: Option<&str>) {
        let Some(raw) = raw else { return self.add(Defect::Schema) };
        let Some(text) = self.string(raw) else { return };
        let Ok(moment) = DateTime::parse_from_rfc3339(&text) else { return self.add(Defect::Schema) };
        let moment = moment.timestamp_micros();
        let is_ahead = self.rules.settled_at.is_some_and(|at| moment > at.saturating_add(2 * DAY));
        if moment < EARLIEST || is_ahead {
            self.add(Defect::Time);
        }
    }

    fn quantity(&mut self, raw: Option<&str>, signed: bool) -> Option<i64> {
        let Some(raw) = raw.filter(|raw| raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())) else {
            self.add(Defect::Schema);
            return None;
        };
        let units = if is_integer(raw) { raw.parse::<i64>().ok() } else { None };
        let least = if signed { -UNITS } else { 1 };
        let units = units.filter(|units| *units != 0 && (least..=UNITS).contains(units));
        if units.is_none() {
            self.add(Defect::Quantity);
        }
        units
    }

    fn amount(&mut self, raw: Option<&str>) -> Option<i128> {
        let raw = raw?;
        let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let text = if is_number { Cow::Borrowed(raw) } else { self.string(raw)? };
        let amount = Some(&*text).filter(|text| is_decimal(text)).and_then(amount::parse);
        let amount = amount.filter(|amount| (0..=AMOUNT).contains(amount));
        if amount.is_none() {
            self.add(Defect::Price);
        }
        amount
    }
}

fn elements(list: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(list).ok()
}

/// Whether a line of a sale or a return leaves its price to the catalogue, which may then be too much.
fn leaves_a_price_open(topic: &str, value: &[u8]) -> bool {
    let fields = std::str::from_utf8(value).ok().and_then(|text| Fields::parse(text).ok());
    let lines = fields.as_ref().and_then(|fields| elements(fields.raw("items")?)).unwrap_or_default();
    let is_open =
        |line: &&RawValue| Fields::parse(line.get()).is_ok_and(|line| line.raw("price_per_unit").is_none());
    matches!(topic, "online_orders" | "store_sales") && lines.iter().any(is_open)
}

fn is_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Optional minus, digits, optional fraction, optional exponent. (Unlike in JSON, zeros may lead: it may be a text.)
fn is_decimal(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    is_digits(whole)
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

fn too_deep(text: &str) -> bool {
    let mut level = 0_usize;
    let mut deepest = 0;
    outside_of_texts(text, |c| match c {
        '{' | '[' => {
            level += 1;
            deepest = deepest.max(level);
        }
        '}' | ']' => level = level.saturating_sub(1),
        _ => {}
    });
    deepest > DEPTH
}

/// How long an object is without the white space between its tokens, and whether one of its texts spells a NUL.
fn compact(object: &str) -> (usize, bool) {
    let mut white = 0;
    outside_of_texts(object, |c| white += usize::from(c.is_ascii_whitespace()));
    let holds_nul = object.match_indices("\\u0000").any(|(at, _)| {
        // The backslash is an escape's own where an even number of others stands before it.
        object[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0
    });
    (object.len() - white, holds_nul)
}

fn outside_of_texts(json: &str, mut each: impl FnMut(char)) {
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        if !quoted {
            each(c);
        }
        let escapes = quoted && !escaped && c == '\\';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = escapes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules<'_> = Rules { currency: "GBP", settled_at: Some(1_795_262_400_000_000) };
    const ORDER: &str = r#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","order_id":1,"order_timestamp":"2026-11-20T10:00:00Z",
        "currency":"gbp","shipping_address":{"city": "York"},"items":[{"product_id":"22423","quantity":6,"price_per_unit":"2.55"}]}"#;

    fn of_order(from: &str, to: &str) -> Vec<Defect> {
        assert!(ORDER.contains(from));
        certain("online_orders", Some(ORDER.replace(from, to).as_bytes()), RULES)
    }

    #[test]
    fn nothing_is_wrong_with_a_sound_event() {
        assert_eq!(of_order("York", "Leeds"), []);
        assert_eq!(
            of_order("\"currency\"", "\"type\":\"cancelled\",\"items\":7,\"currency\""),
            [Defect::Schema]
        );
        let cancelled = ORDER.replace("\"items\"", "\"type\":\"cancelled\",\"lines\"");
        assert_eq!(certain("online_orders", Some(cancelled.as_bytes()), RULES), []);
    }

    #[test]
    fn each_defect_is_found() {
        for (from, to, defect) in [
            ("\"22423\"", "", Defect::Malformed),
            ("\"order_id\":1", "\"order_id\":\"\\ud800\"", Defect::Malformed),
            ("\"order_id\":1", "\"order_id\":\"\"", Defect::Schema),
            ("\"order_id\":1", "\"order_id\":1.5", Defect::Schema),
            ("\"order_id\":1", "\"order_id\":null", Defect::Schema),
            ("\"order_id\":1", "\"order_id\":1,\"order_id\":1", Defect::Schema),
            ("\"order_id\":1", "\"order_id\":\"a\\u0000\"", Defect::Schema),
            ("York", "\\u0000", Defect::Schema),
            ("2026-11-20T10:00:00Z", "2026-11-20", Defect::Schema),
            ("[{", "[1,{", Defect::Schema),
            (":6", ":6.0", Defect::Quantity),
            (":6", ":-6", Defect::Quantity),
            (":6", ":10000001", Defect::Quantity),
            ("2.55", "-2.55", Defect::Price),
            ("2.55", "2.55001", Defect::Price),
            ("2.55", "2.", Defect::Price),
            ("2.55", "166666666667", Defect::Price),
            ("gbp", "EUR", Defect::Currency),
            ("2026-11-20T10", "1999-11-20T10", Defect::Time),
            ("2026-11-20T10", "2027-11-20T10", Defect::Time),
            (
                "York\"",
                "York\",\"card\":\"\"},\"payment_method\":\"4111111111111111\",\"x\":{\"y\":\"\"",
                Defect::Card,
            ),
        ] {
            assert_eq!(of_order(from, to), [defect], "{to}");
        }
        assert_eq!(of_order("York", &"k".repeat(5_000)), [Defect::Large]);
        let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
        assert_eq!(of_order("\"York\"", &deep), [Defect::Large]);
        assert_eq!(certain("online_orders", None, RULES), [Defect::Malformed]);
    }

    #[test]
    fn what_depends_on_settings_and_clocks_is_possible_only() {
        let possible = |defect: Defect, to: &str| {
            let value = ORDER.replace("2026-11-20T10:00:00Z", to);
            super::possible(defect, "online_orders", Some(value.as_bytes()), RULES)
        };
        assert!(possible(Defect::Time, "2026-11-22T13:00:00Z"));
        assert!(!possible(Defect::Time, "2026-11-20T10:00:00Z"));
        let open = ORDER.replace(",\"price_per_unit\":\"2.55\"", "");
        assert!(super::possible(Defect::Price, "online_orders", Some(open.as_bytes()), RULES));
        assert!(!possible(Defect::Price, ""));
        assert!(possible(Defect::Card, "\\u+4111111111111111"));
        assert!(possible(Defect::Large, &"0".repeat(2_000)) && !possible(Defect::Large, ""));
        assert!(
            possible(Defect::Card, "3530 1113-3330\\u0030000") && !possible(Defect::Card, "3530 1113 3330")
        );
    }

    #[test]
    fn every_code_leads_back_to_its_defect() {
        for (defect, code) in Defect::CODES {
            assert_eq!((Defect::of_code(code), defect.code()), (Some(defect), code));
        }
        assert_eq!(Defect::of_code("unknown_product"), None);
    }
}
