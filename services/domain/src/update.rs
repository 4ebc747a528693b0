//! The record of `inventory_updates`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One changed stock row of one applied event. Its bytes follow from the database alone, so that a lost one can be made
/// again exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InventoryUpdate {
    /// The event that changed it.
    pub event_id: Uuid,
    /// The product; also the record's key.
    pub product_id: String,
    /// The location.
    pub location_id: String,
    /// Units added (positive) or taken (negative).
    pub delta: i64,
    /// Units on hand afterwards.
    pub quantity_on_hand: i64,
    /// Starts at 1 and rises by one per change of this stock row.
    pub version: i64,
    /// `in_stock`, `low`, `out` or `oversold`.
    pub stock_status: String,
    /// The input topic of the event.
    pub source: String,
    /// When it was applied: RFC 3339 in UTC, with microseconds.
    #[serde(serialize_with = "micros")]
    pub processed_at: DateTime<Utc>,
}

fn micros<S: serde::Serializer>(at: &DateTime<Utc>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
