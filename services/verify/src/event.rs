//! Reads an event from its bytes, by the words of the events' documentation and without the domain's decoder. Only
//! records that were applied are read, so nothing is validated here beyond what the comparison needs.

use std::borrow::Cow;
use std::fmt;

use chrono::DateTime;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::amount;
use crate::facts::{PaymentStatus, Source};

/// The location of an online order that names none.
const ONLINE: &str = "online";

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An online order was placed, or a store sold something.
    Sale,
    /// Items came back.
    Return,
    /// The order went out.
    Shipped,
    /// The order arrived.
    Delivered,
    /// The whole order was cancelled.
    Cancelled,
    /// A supplier delivered.
    Received,
    /// Stock was corrected.
    Adjustment,
}

/// An event as its producer wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// `event_id`
    pub id: Uuid,
    /// What it is about.
    pub kind: Kind,
    /// When it happened, in microseconds since 1970.
    pub occurred_at: i64,
    /// `order_id`, `sale_id` or `restock_id`
    pub business_id: Cow<'a, str>,
    /// Whose stock it moves.
    pub location: Cow<'a, str>,
    /// The user of an online order, or the supplier of a delivery.
    pub party: Option<Cow<'a, str>>,
    /// The order that a return undoes.
    pub original: Option<Cow<'a, str>>,
    /// `shipping_address`: a text, or an object as compact JSON.
    pub address: Option<Cow<'a, str>>,
    /// `payment_method`
    pub payment_method: Option<Cow<'a, str>>,
    /// `order_value` or `total`, in ten-thousandths.
    pub stated_value: Option<i128>,
    /// The lines; none for changes of status.
    pub items: Vec<Item<'a>>,
}

/// A line of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<'a> {
    /// The product.
    pub product: Cow<'a, str>,
    /// Units, as they stand in the event.
    pub quantity: i64,
    /// Price or cost per unit, in ten-thousandths.
    pub price: Option<i128>,
}

/// The `event_id` of a record of any topic, where it has one.
pub fn event_id(value: &[u8]) -> Option<Uuid> {
    Fields::parse(std::str::from_utf8(value).ok()?).ok()?.id().ok()
}

/// Reads an event.
///
/// # Errors
/// The name of the field that is not as documented.
pub fn read(source: Source, value: &[u8]) -> Result<Event<'_>, String> {
    let text = std::str::from_utf8(value).map_err(|e| e.to_string())?;
    let fields = Fields::parse(text).map_err(|e| e.to_string())?;
    let kind = kind(source, &fields)?;
    let (business_id, time, total, price) = match source {
        Source::OnlineOrders => ("order_id", "order_timestamp", "order_value", "price_per_unit"),
        Source::StoreSales => ("sale_id", "sold_at", "total", "price_per_unit"),
        Source::SupplierRestocks => ("restock_id", "received_at", "", "unit_cost"),
    };
    let mut event = Event {
        id: fields.id()?,
        kind,
        occurred_at: fields.moment(time)?,
        business_id: fields.required(business_id)?,
        location: ONLINE.into(),
        party: None,
        original: None,
        address: None,
        payment_method: None,
        stated_value: None,
        items: Vec::new(),
    };
    // Only what its kind has is read: whatever else stands there means nothing.
    if matches!(kind, Kind::Shipped | Kind::Delivered | Kind::Cancelled) {
        return Ok(event);
    }
    event.items = fields.items(price)?;
    match source {
        Source::OnlineOrders => {
            event.party = fields.text("user_id")?;
            event.location = fields.text("location_id")?.unwrap_or(ONLINE.into());
        }
        Source::StoreSales => event.location = fields.required("store_id")?,
        Source::SupplierRestocks => {
            event.party = fields.text("supplier_id")?;
            event.location = fields.required("location_id")?;
        }
    }
    match kind {
        Kind::Sale => {
            event.payment_method = fields.text("payment_method")?;
            event.stated_value = fields.amount(total)?;
            if source == Source::OnlineOrders {
                event.address = fields.address()?;
            }
        }
        Kind::Return => event.original = fields.text("original_id")?,
        _ => {}
    }
    Ok(event)
}

/// A payment's event as its producer wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentEvent<'a> {
    /// `event_id`
    pub id: Uuid,
    /// `payment_id`
    pub payment: Cow<'a, str>,
    /// `order_id`
    pub order: Cow<'a, str>,
    /// `payment_method`
    pub method: Option<Cow<'a, str>>,
    /// `card_last_four`
    pub last_four: Option<Cow<'a, str>>,
    /// `payment_status`
    pub status: PaymentStatus,
    /// `payment_datetime`, in microseconds since 1970.
    pub paid_at: i64,
    /// `amount`, in ten-thousandths.
    pub amount: Option<i128>,
}

/// Reads an event of the topic `payments`.
///
/// # Errors
/// The name of the field that is not as documented.
pub fn read_payment(value: &[u8]) -> Result<PaymentEvent<'_>, String> {
    let text = std::str::from_utf8(value).map_err(|e| e.to_string())?;
    let fields = Fields::parse(text).map_err(|e| e.to_string())?;
    let status = fields.required("payment_status")?.to_lowercase();
    let status = match status.as_str() {
        "authorized" => "authorised",
        "completed" => "captured",
        other => other,
    };
    Ok(PaymentEvent {
        id: fields.id()?,
        payment: fields.required("payment_id")?,
        order: fields.required("order_id")?,
        method: fields.text("payment_method")?,
        last_four: fields.text("card_last_four")?,
        status: PaymentStatus::of_name(status)
            .ok_or_else(|| format!("payment_status {status:?} is not known"))?,
        paid_at: fields.moment("payment_datetime")?,
        amount: fields.amount("amount")?,
    })
}

fn kind(source: Source, fields: &Fields<'_>) -> Result<Kind, String> {
    let named = fields.text("type")?;
    match (source, named.as_deref()) {
        (Source::OnlineOrders, None | Some("placed")) | (Source::StoreSales, None | Some("sold")) => {
            Ok(Kind::Sale)
        }
        (Source::OnlineOrders | Source::StoreSales, Some("returned")) => Ok(Kind::Return),
        (Source::OnlineOrders, Some("shipped")) => Ok(Kind::Shipped),
        (Source::OnlineOrders, Some("delivered")) => Ok(Kind::Delivered),
        (Source::OnlineOrders, Some("cancelled")) => Ok(Kind::Cancelled),
        (Source::SupplierRestocks, None | Some("received")) => Ok(Kind::Received),
        (Source::SupplierRestocks, Some("adjustment")) => Ok(Kind::Adjustment),
        (_, Some(other)) => Err(format!("type {other:?} is not known")),
    }
}

/// The fields of a JSON object, each as the text it was written in, so that no number passes through a binary float.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &'a str) -> serde_json::Result<Fields<'a>> {
        serde_json::from_str(text)
    }

    /// How often a field stands there.
    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(key, _)| key == name).count()
    }

    /// A field as raw JSON; null is as good as absent.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(key, _)| key == name)?.1.get();
        (found != "null").then_some(found)
    }

    /// A text; a number counts as the text of its digits.
    fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, String> {
        self.raw(name).map(|raw| unquoted(raw).map_err(|e| format!("{name}: {e}"))).transpose()
    }

    fn required(&self, name: &str) -> Result<Cow<'a, str>, String> {
        self.text(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn id(&self) -> Result<Uuid, String> {
        Uuid::try_parse(&self.required("event_id")?).map_err(|e| format!("event_id: {e}"))
    }

    fn moment(&self, name: &str) -> Result<i64, String> {
        let text = self.required(name)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|at| at.timestamp_micros())
            .map_err(|e| format!("{name}: {e}"))
    }

    fn amount(&self, name: &str) -> Result<Option<i128>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        amount::parse(&text).map(Some).ok_or_else(|| format!("{name} {text:?} is no amount"))
    }

    fn address(&self) -> Result<Option<Cow<'a, str>>, String> {
        match self.raw("shipping_address") {
            Some(object) if object.starts_with('{') => Ok(Some(without_white_space(object).into())),
            _ => self.text("shipping_address"),
        }
    }

    fn items(&self, price: &str) -> Result<Vec<Item<'a>>, String> {
        let raw = self.raw("items").ok_or("items is missing")?;
        let items: Vec<Fields<'a>> = serde_json::from_str(raw).map_err(|e| format!("items: {e}"))?;
        let item = |fields: Fields<'a>| {
            let quantity = fields.required("quantity")?;
            Ok(Item {
                product: fields.required("product_id")?,
                quantity: quantity.parse().map_err(|e| format!("quantity {quantity:?}: {e}"))?,
                price: fields.amount(price)?,
            })
        };
        items.into_iter().map(item).collect()
    }
}

fn unquoted(raw: &str) -> serde_json::Result<Cow<'_, str>> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if inner.contains('\\') => serde_json::from_str::<String>(raw).map(Cow::Owned),
        Some(inner) => Ok(Cow::Borrowed(inner)),
        None => Ok(Cow::Borrowed(raw)),
    }
}

/// JSON without the white space between its tokens.
fn without_white_space(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    // A quotation mark ends a string unless an odd number of backslashes stands before it.
    let (mut quoted, mut backslashes) = (false, 0);
    for c in json.chars() {
        if quoted || !c.is_ascii_whitespace() {
            compact.push(c);
        }
        if c == '"' && backslashes % 2 == 0 {
            quoted = !quoted;
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), String>;

    #[test]
    fn an_order_is_read_field_by_field() -> Outcome {
        let value = br#" {"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","order_id":536365,"user_id":null,
            "order_timestamp":"2010-12-01T08:26:00.1234567+01:00","order_value":"15.30","extra":[1,{"a":"b"}],
            "shipping_address":{"street": "a \" b","no": 1},"payment_method":"c\u0061rd",
            "items":[{"product_id":"22423","quantity":6,"price_per_unit":2.55},{"product_id":84879,"quantity":1}]}"#;
        let event = read(Source::OnlineOrders, value)?;
        assert_eq!((event.kind, &*event.business_id, &*event.location), (Kind::Sale, "536365", "online"));
        assert_eq!(event.occurred_at, 1_291_188_360_123_456);
        assert_eq!((event.party, event.stated_value), (None, Some(153_000)));
        assert_eq!(event.address.as_deref(), Some(r#"{"street":"a \" b","no":1}"#));
        assert_eq!(event.payment_method.as_deref(), Some("card"));
        let items: Vec<_> = event.items.iter().map(|i| (&*i.product, i.quantity, i.price)).collect();
        assert_eq!(items, [("22423", 6, Some(25_500)), ("84879", 1, None)]);
        assert_eq!(event_id(value), Some(event.id));
        Ok(())
    }

    #[test]
    fn a_change_of_status_has_no_items() -> Outcome {
        let value = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"cancelled","order_id":"A",
            "order_timestamp":"2010-12-01T08:26:00Z","items":"whatever"}"#;
        let event = read(Source::OnlineOrders, value)?;
        assert_eq!((event.kind, event.items.len()), (Kind::Cancelled, 0));
        Ok(())
    }

    #[test]
    fn a_payment_is_read_field_by_field() -> Outcome {
        let value = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","payment_id":7,"order_id":"A","amount":"15.30",
            "card_last_four":"0042","payment_status":"Completed","payment_datetime":"2010-12-01T08:26:00+01:00"}"#;
        let event = read_payment(value)?;
        assert_eq!((&*event.payment, &*event.order, event.amount), ("7", "A", Some(153_000)));
        assert_eq!((event.status, event.paid_at), (PaymentStatus::Captured, 1_291_188_360_000_000));
        assert_eq!((event.method, event.last_four.as_deref()), (None, Some("0042")));
        Ok(())
    }

    #[test]
    fn what_is_not_as_documented_is_named() {
        let value = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"lost","sale_id":"A"}"#;
        assert_eq!(read(Source::StoreSales, value), Err("type \"lost\" is not known".to_owned()));
        assert_eq!(event_id(b"{\"event_id\":7}"), None);
        assert_eq!(event_id(&[0xff]), None);
    }
}
