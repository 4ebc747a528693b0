//! The record of `inventory_updates`.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One changed stock row of one applied event. Its bytes follow from the database alone, so that a lost one can be made
/// again exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InventoryUpdate<'a> {
    /// The event that changed it.
    pub event_id: Uuid,
    /// The product; also the record's key.
    pub product_id: Cow<'a, str>,
    /// The location.
    pub location_id: Cow<'a, str>,
    /// Units added (positive) or taken (negative).
    pub delta: i64,
    /// Units on hand afterwards.
    pub quantity_on_hand: i64,
    /// Starts at 1 and rises by one per change of this stock row.
    pub version: i64,
    /// `in_stock`, `low`, `out` or `oversold`.
    pub stock_status: Cow<'a, str>,
    /// The input topic of the event.
    pub source: Cow<'a, str>,
    /// When it was applied: RFC 3339 in UTC, with microseconds.
    #[serde(serialize_with = "micros")]
    pub processed_at: DateTime<Utc>,
}

fn micros<S: serde::Serializer>(at: &DateTime<Utc>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

impl InventoryUpdate<'_> {
    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        // Longer than most are, so that it need not grow.
        let mut json = Vec::with_capacity(288);
        // Strings, integers and times always have a JSON form; an empty value would be caught by the reader.
        if serde_json::to_writer(&mut json, self).is_err() {
            json.clear();
        }
        json
    }
}
