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
    /// The record's value: byte for byte what serde makes of it, and sooner made: serde would look at each
    /// character of the fields' names, in each record, for what must be escaped.
    pub fn to_json(&self) -> Vec<u8> {
        // Longer than most are, so that it need not grow.
        let mut json = Vec::with_capacity(288);
        json.extend_from_slice(b"{\"event_id\":\"");
        json.extend_from_slice(
            self.event_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(),
        );
        put(&mut json, "\",\"product_id\":", &self.product_id);
        put(&mut json, ",\"location_id\":", &self.location_id);
        put(&mut json, ",\"delta\":", &self.delta);
        put(&mut json, ",\"quantity_on_hand\":", &self.quantity_on_hand);
        put(&mut json, ",\"version\":", &self.version);
        put(&mut json, ",\"stock_status\":", &self.stock_status);
        put(&mut json, ",\"source\":", &self.source);
        put(&mut json, ",\"processed_at\":", &self.processed_at.to_rfc3339_opts(SecondsFormat::Micros, true));
        json.push(b'}');
        json
    }
}

/// What stands before a value, and the value.
fn put(json: &mut Vec<u8>, before: &str, value: &impl Serialize) {
    json.extend_from_slice(before.as_bytes());
    // Texts and integers always have a JSON form, and a vector takes all that is written into it.
    let _ = serde_json::to_writer(json, value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::TimeZone as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_what_serde_makes_of_it(
            id in any::<u128>(),
            texts in [any::<String>(), any::<String>(), any::<String>(), any::<String>()],
            numbers in any::<[i64; 3]>(),
            micros in 0..253_402_300_800_000_000_i64,
        ) {
            let [product, location, status, source] = &texts;
            let [delta, quantity_on_hand, version] = numbers;
            let update = InventoryUpdate {
                event_id: Uuid::from_u128(id),
                product_id: product.into(),
                location_id: location.into(),
                delta,
                quantity_on_hand,
                version,
                stock_status: status.into(),
                source: source.into(),
                processed_at: Utc.timestamp_micros(micros).unwrap(),
            };
            prop_assert_eq!(update.to_json(), serde_json::to_vec(&update).unwrap());
        }
    }
}
