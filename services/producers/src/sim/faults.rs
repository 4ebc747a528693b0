//! What goes wrong at the sources: broken records, and records that are sent twice.

use std::collections::VecDeque;

use serde_json::{Value, json};
use stocktide_domain::Reason;

use super::dice::Dice;
use crate::record::Record;

/// How the lines begin, as the sources write them.
const LINES: &[u8] = b"\"items\":[";

/// A way to break a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformation {
    /// It stops in the middle.
    Truncated,
    /// It holds a byte that is no UTF-8.
    InvalidUtf8,
    /// It has a key and no value.
    Tombstone,
    /// Its value has no bytes.
    Empty,
    /// A required field is missing.
    MissingField,
    /// Its lines are no list.
    WrongType,
    /// It names a product that nobody sells.
    UnknownProduct,
    /// It names a location that is none.
    UnknownLocation,
    /// A line of nothing.
    ZeroQuantity,
    /// A price with five decimals, below zero, or no number.
    BadPrice,
    /// It happened in a year that lies too far back, or ahead.
    BadTime,
    /// It is in another currency.
    WrongCurrency,
    /// Arrays in arrays in arrays.
    DeepNesting,
    /// It carries a full card number (one that card issuers reserve for tests).
    CardNumber,
}

impl Malformation {
    /// Every one.
    pub const ALL: [Malformation; 14] = [
        Malformation::Truncated,
        Malformation::InvalidUtf8,
        Malformation::Tombstone,
        Malformation::Empty,
        Malformation::MissingField,
        Malformation::WrongType,
        Malformation::UnknownProduct,
        Malformation::UnknownLocation,
        Malformation::ZeroQuantity,
        Malformation::BadPrice,
        Malformation::BadTime,
        Malformation::WrongCurrency,
        Malformation::DeepNesting,
        Malformation::CardNumber,
    ];

    /// Those that fit whatever a record says.
    const ANYWHERE: [Malformation; 6] = [
        Malformation::Truncated,
        Malformation::InvalidUtf8,
        Malformation::Tombstone,
        Malformation::Empty,
        Malformation::DeepNesting,
        Malformation::CardNumber,
    ];

    /// Those that fit a payment.
    const OF_PAYMENTS: [Malformation; 9] = [
        Malformation::Truncated,
        Malformation::InvalidUtf8,
        Malformation::Tombstone,
        Malformation::Empty,
        Malformation::MissingField,
        Malformation::BadTime,
        Malformation::WrongCurrency,
        Malformation::DeepNesting,
        Malformation::CardNumber,
    ];

    /// Those that fit a sound record: an order that is shipped, delivered or cancelled has no lines to be wrong.
    pub fn fitting(record: &Record) -> &'static [Malformation] {
        let value = record.value.as_deref().unwrap_or_default();
        if record.topic == "payments" {
            &Malformation::OF_PAYMENTS
        } else if value.windows(LINES.len()).any(|window| window == LINES) {
            &Malformation::ALL
        } else {
            &Malformation::ANYWHERE
        }
    }

    /// Why the processor rejects it.
    pub const fn reason(self) -> Reason {
        match self {
            Malformation::Truncated
            | Malformation::InvalidUtf8
            | Malformation::Tombstone
            | Malformation::Empty => Reason::MalformedJson,
            Malformation::MissingField | Malformation::WrongType => Reason::SchemaViolation,
            Malformation::UnknownProduct => Reason::UnknownProduct,
            Malformation::UnknownLocation => Reason::UnknownLocation,
            Malformation::ZeroQuantity => Reason::InvalidQuantity,
            Malformation::BadPrice => Reason::InvalidPrice,
            Malformation::BadTime => Reason::TimestampOutOfRange,
            Malformation::WrongCurrency => Reason::CurrencyMismatch,
            Malformation::DeepNesting => Reason::TooLarge,
            Malformation::CardNumber => Reason::CardNumber,
        }
    }

    /// Breaks a sound record that it fits.
    pub fn apply(self, mut record: Record, dice: &mut Dice) -> Record {
        let bytes = record.value.take().unwrap_or_default();
        record.value = match self {
            Malformation::Truncated => {
                let keep = bytes.len() / 4 + dice.below(bytes.len() as u64 / 2) as usize;
                Some(bytes.into_iter().take(keep).collect())
            }
            Malformation::InvalidUtf8 => {
                let mut bytes = bytes;
                // Inside the first string, right after `{"`.
                bytes.splice(2..2, [0xff, 0xfe]);
                Some(bytes)
            }
            Malformation::Tombstone => None,
            Malformation::Empty => Some(Vec::new()),
            _ => {
                let mut event: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                self.alter(&mut event, record.topic, dice);
                Some(event.to_string().into_bytes())
            }
        };
        record
    }

    fn alter(self, event: &mut Value, topic: &str, dice: &mut Dice) {
        let (time, location, price) = match topic {
            "online_orders" => ("order_timestamp", "location_id", "price_per_unit"),
            "store_sales" => ("sold_at", "store_id", "price_per_unit"),
            "payments" => ("payment_datetime", "", ""),
            _ => ("received_at", "location_id", "unit_cost"),
        };
        match self {
            Malformation::MissingField => {
                let third = if topic == "payments" { "order_id" } else { "items" };
                let field = dice.pick(&["event_id", time, third]).copied().unwrap_or(time);
                event.as_object_mut().and_then(|event| event.remove(field));
            }
            Malformation::WrongType => event["items"] = json!("three of the red ones"),
            Malformation::UnknownProduct => event["items"][0]["product_id"] = json!("no-such-product"),
            Malformation::UnknownLocation => event[location] = json!("no-such-place"),
            Malformation::ZeroQuantity => event["items"][0]["quantity"] = json!(0),
            Malformation::BadPrice => {
                let bad = dice.pick(&["1.23456", "-4.99", "NaN", "1,50"]).copied();
                event["items"][0][price] = json!(bad);
            }
            Malformation::BadTime => {
                let bad = dice
                    .pick(&["1999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
                    .copied();
                event[time] = json!(bad);
            }
            // The code that ISO 4217 reserves for tests: no installation has it.
            Malformation::WrongCurrency => event["currency"] = json!("XTS"),
            Malformation::DeepNesting => event["extra"] = (0..100).fold(json!([]), |inner, _| json!([inner])),
            Malformation::CardNumber => event["card"] = json!("4111 1111 1111 1111"),
            Malformation::Truncated
            | Malformation::InvalidUtf8
            | Malformation::Tombstone
            | Malformation::Empty => {}
        }
    }
}

/// Records that may be sent again.
#[derive(Debug, Default)]
pub struct Redeliveries(VecDeque<Record>);

/// How far back a redelivery reaches, in records.
const MEMORY: usize = 10_000;
/// How far back a soon one reaches.
const SOON: u64 = 50;
/// Soon ones among the redeliveries, in millionths.
const SOON_PPM: u32 = 700_000;

impl Redeliveries {
    /// Keeps a sound record.
    pub fn remember(&mut self, record: &Record) {
        if self.0.len() >= MEMORY {
            self.0.pop_front();
        }
        self.0.push_back(record.clone());
    }

    /// One of them, key and bytes as they were: mostly a recent one, as after a retry, sometimes an old one.
    pub fn pick(&self, dice: &mut Dice) -> Option<Record> {
        let known = self.0.len() as u64;
        let reach = if dice.chance(SOON_PPM) { known.min(SOON) } else { known };
        let back = dice.below(reach) + 1;
        self.0.get(known.checked_sub(back)? as usize).cloned()
    }
}

/// Mixes broken records and redeliveries into a stream of sound ones, which all come through.
#[derive(Debug)]
pub struct Faulty<I> {
    records: I,
    dice: Dice,
    duplicates_ppm: u32,
    malformed_ppm: u32,
    redeliveries: Redeliveries,
    /// The sound record whose broken copy has just been sent.
    held_back: Option<Record>,
}

impl<I: Iterator<Item = Record>> Faulty<I> {
    /// Before each record of `records` perhaps an earlier one again, or a broken copy of it (before, because afterwards it would
    /// be a duplicate): so many in a million of each.
    pub fn new(records: I, seed: u64, duplicates_ppm: u32, malformed_ppm: u32) -> Faulty<I> {
        let dice = Dice::new([seed, u64::from(duplicates_ppm), u64::from(malformed_ppm), 0]);
        Faulty {
            records,
            dice,
            duplicates_ppm,
            malformed_ppm,
            redeliveries: Redeliveries::default(),
            held_back: None,
        }
    }
}

impl<I: Iterator<Item = Record>> Iterator for Faulty<I> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.dice.chance(self.duplicates_ppm)
            && let Some(record) = self.redeliveries.pick(&mut self.dice)
        {
            return Some(record);
        }
        if let Some(record) = self.held_back.take() {
            self.redeliveries.remember(&record);
            return Some(record);
        }
        let record = self.records.next()?;
        if self.dice.chance(self.malformed_ppm) {
            let kind = self.dice.pick(Malformation::fitting(&record)).copied()?;
            let broken = kind.apply(record.clone(), &mut self.dice);
            self.held_back = Some(record);
            return Some(broken);
        }
        self.redeliveries.remember(&record);
        Some(record)
    }
}
