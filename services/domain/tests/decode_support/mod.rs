//! Records to decode, made of fields as raw JSON, so that a test says only what it changes.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::{DateTime, Utc};
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::{Event, Reason, Reject, Source};

pub const EVENT_ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
pub const CARD: &str = "4111111111111111";

/// In pounds, at noon of 21 November 2026.
pub fn rules() -> Rules {
    let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    Rules { currency: "GBP".into(), now, limits: Limits::default() }
}

/// A record of each topic that is in order, but for the given fields: raw JSON, or `""` for none.
pub fn record(source: Source, changes: &[(&str, &str)]) -> String {
    let id = format!("\"{EVENT_ID}\"");
    let time = r#""2026-11-21T11:00:00Z""#;
    let mut fields: Vec<(&str, &str)> = match source {
        Source::OnlineOrders => vec![
            ("event_id", &id),
            ("order_id", r#""o-1""#),
            ("order_timestamp", time),
            ("items", r#"[{"product_id":"p-1","quantity":2,"price_per_unit":"2.55"}]"#),
        ],
        Source::StoreSales => vec![
            ("event_id", &id),
            ("sale_id", r#""s-1""#),
            ("store_id", r#""leeds""#),
            ("sold_at", time),
            ("items", r#"[{"product_id":"p-1","quantity":2,"price_per_unit":"2.55"}]"#),
        ],
        Source::SupplierRestocks => vec![
            ("event_id", &id),
            ("restock_id", r#""r-1""#),
            ("location_id", r#""online""#),
            ("received_at", time),
            ("items", r#"[{"product_id":"p-1","quantity":2,"unit_cost":"1.10"}]"#),
        ],
        Source::Payments => vec![
            ("event_id", &id),
            ("payment_id", r#""pay-1""#),
            ("order_id", r#""o-1""#),
            ("payment_status", r#""captured""#),
            ("payment_datetime", time),
        ],
    };
    for &(name, json) in changes {
        fields.retain(|(field, _)| *field != name);
        if !json.is_empty() {
            fields.push((name, json));
        }
    }
    let fields: Vec<String> = fields.iter().map(|(name, json)| format!("\"{name}\": {json}")).collect();
    format!("{{{}}}", fields.join(", "))
}

pub fn order(changes: &[(&str, &str)]) -> String {
    record(Source::OnlineOrders, changes)
}

/// An order of one line, which is given.
pub fn order_of(line: &str) -> String {
    order(&[("items", &format!("[{line}]"))])
}

pub fn decode_order(value: &str) -> Result<Event, Reject> {
    decode(Source::OnlineOrders, Some(value.as_bytes()), &rules())
}

pub fn applied(source: Source, value: &str) -> Event {
    decode(source, Some(value.as_bytes()), &rules()).unwrap_or_else(|reject| panic!("{value}: {reject:?}"))
}

/// Asserts the fate and the reason of an order, and that the detail names `names`; whether the event_id was read is
/// the caller's to ask.
#[track_caller]
pub fn rejected(value: impl AsRef<[u8]>, reason: Reason, names: &str) -> Reject {
    rejected_of(Source::OnlineOrders, value, reason, names)
}

#[track_caller]
pub fn rejected_of(source: Source, value: impl AsRef<[u8]>, reason: Reason, names: &str) -> Reject {
    let value = value.as_ref();
    let shown = String::from_utf8_lossy(&value[..value.len().min(300)]).into_owned();
    match decode(source, Some(value), &rules()) {
        Ok(event) => panic!("{shown} was taken as {event:?}"),
        Err(reject) => {
            assert_eq!(reject.reason, reason, "{shown}: {}", reject.detail);
            assert!(reject.detail.contains(names), "{shown}: {:?} does not name {names:?}", reject.detail);
            reject
        }
    }
}
