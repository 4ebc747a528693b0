//! The events as JSON, written the way a careful source would: money as decimal text, times in UTC.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use stocktide_domain::Money;
use uuid::Uuid;

/// An event of `online_orders`.
#[derive(Serialize)]
pub(crate) struct OnlineOrder<'a> {
    pub event_id: Uuid,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub order_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    pub order_timestamp: Time,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub items: &'a [SaleLine<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_value: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location_id: Option<&'a str>,
}

/// An event of `store_sales`.
#[derive(Serialize)]
pub(crate) struct StoreSale<'a> {
    pub event_id: Uuid,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub sale_id: &'a str,
    pub store_id: &'a str,
    pub sold_at: Time,
    pub items: &'a [SaleLine<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<&'a str>,
}

/// A line of a sale or a return.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SaleLine<'a> {
    pub product_id: &'a str,
    pub quantity: i64,
    pub price_per_unit: Amount,
}

/// An event of `supplier_restocks`.
#[derive(Serialize)]
pub(crate) struct SupplierRestock<'a> {
    pub event_id: Uuid,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub restock_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplier_id: Option<&'a str>,
    pub location_id: &'a str,
    pub received_at: Time,
    pub items: &'a [RestockLine<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'a str>,
}

/// A line of a delivery or an adjustment.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestockLine<'a> {
    pub product_id: &'a str,
    pub quantity: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_cost: Option<Amount>,
}

/// An event of `payments`.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the event's fields")]
pub(crate) struct Payment<'a> {
    pub event_id: Uuid,
    pub payment_id: &'a str,
    pub order_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_last_four: Option<&'a str>,
    pub payment_status: &'static str,
    pub payment_datetime: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
}

/// A moment: RFC 3339 in UTC, with no more decimals than it needs.
pub(crate) struct Time(pub DateTime<Utc>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// Money as decimal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub Money);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// The event's bytes.
pub(crate) fn bytes<T: Serialize>(event: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    // The structs above hold texts and numbers only, and a Vec takes every byte: there is nothing that could fail.
    if serde_json::to_writer(&mut out, event).is_err() {
        out.clear();
    }
    out
}
