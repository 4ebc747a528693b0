//! The events as they stand on the wire: which fields there are, and what each may hold.
//!
//! A field is kept as the raw JSON text it was written in; `schemars(with = …)` names the kind that [`super::field`]
//! reads from it, so the JSON Schemas in `docs/events/` come from these very structs. A kind inside `Option` may be
//! absent or null, any other is required. The doc comments below are the schemas' descriptions.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

type Raw<'a> = Option<&'a RawValue>;

/// An event of an online order: it is placed, moves on, is cancelled, or items of it come back.
///
/// Key of the record: order_id. Unknown fields are allowed.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "online_orders")]
#[schemars(extend(
    "if" = { "properties": { "type": { "enum": ["shipped", "delivered", "cancelled"] } }, "required": ["type"] },
    "else" = { "properties": { "items": { "type": "array" } }, "required": ["items"] },
))]
pub struct OnlineOrder<'a> {
    /// Its identity: the same event_id is applied once, whichever topic it comes by. Version 7 is advised.
    #[serde(borrow)]
    #[schemars(with = "EventId")]
    pub event_id: Raw<'a>,
    /// What happened. `shipped` and `delivered` change the order's status only; `cancelled` is the whole order.
    #[serde(borrow, rename = "type")]
    #[schemars(with = "Option<OrderType>", extend("default" = "placed"))]
    pub kind: Raw<'a>,
    /// The order; of a `returned` event its own number, or the order's.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub order_id: Raw<'a>,
    /// The customer; absent for a guest.
    #[serde(borrow)]
    #[schemars(with = "Option<Id>")]
    pub user_id: Raw<'a>,
    /// When it happened.
    #[serde(borrow)]
    #[schemars(with = "Timestamp")]
    pub order_timestamp: Raw<'a>,
    /// The lines; required for `placed` and `returned`, ignored for the others.
    #[serde(borrow)]
    #[schemars(with = "Option<Lines<SaleLine>>")]
    pub items: Raw<'a>,
    /// The order's value as the producer has it; the true one is Σ quantity × price.
    #[serde(borrow)]
    #[schemars(with = "Option<Amount>")]
    pub order_value: Raw<'a>,
    /// The installation's currency, or absent.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub currency: Raw<'a>,
    /// How it is paid.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub payment_method: Raw<'a>,
    /// Where it goes.
    #[serde(borrow)]
    #[schemars(with = "Option<Address>")]
    pub shipping_address: Raw<'a>,
    /// Whose stock serves it.
    #[serde(borrow)]
    #[schemars(with = "Option<Id>", extend("default" = "online"))]
    pub location_id: Raw<'a>,
    /// Of a `returned` event: the order that the items were sold by. Only when it is given is it checked that no more
    /// comes back than was sold.
    #[serde(borrow)]
    #[schemars(with = "Option<Id>")]
    pub original_id: Raw<'a>,
}

/// A sale in a store, or items that come back to it.
///
/// Key of the record: sale_id. Unknown fields are allowed.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "store_sales")]
pub struct StoreSale<'a> {
    /// Its identity: the same event_id is applied once, whichever topic it comes by. Version 7 is advised.
    #[serde(borrow)]
    #[schemars(with = "EventId")]
    pub event_id: Raw<'a>,
    /// What happened.
    #[serde(borrow, rename = "type")]
    #[schemars(with = "Option<SaleType>", extend("default" = "sold"))]
    pub kind: Raw<'a>,
    /// The sale; of a `returned` event its own number, or the sale's.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub sale_id: Raw<'a>,
    /// The store: a location_id.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub store_id: Raw<'a>,
    /// When it happened.
    #[serde(borrow)]
    #[schemars(with = "Timestamp")]
    pub sold_at: Raw<'a>,
    /// The lines.
    #[serde(borrow)]
    #[schemars(with = "Lines<SaleLine>")]
    pub items: Raw<'a>,
    /// The sale's value as the store has it; the true one is Σ quantity × price.
    #[serde(borrow)]
    #[schemars(with = "Option<Amount>")]
    pub total: Raw<'a>,
    /// The installation's currency, or absent.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub currency: Raw<'a>,
    /// How it is paid.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub payment_method: Raw<'a>,
    /// Of a `returned` event: the sale that the items were sold by. Only when it is given is it checked that no more
    /// comes back than was sold.
    #[serde(borrow)]
    #[schemars(with = "Option<Id>")]
    pub original_id: Raw<'a>,
}

/// A delivery from a supplier, or a correction of stock after a count, breakage or a write-off.
///
/// Key of the record: restock_id. Unknown fields are allowed.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "supplier_restocks")]
#[schemars(extend(
    "if" = { "properties": { "type": { "const": "adjustment" } }, "required": ["type"] },
    "else" = { "properties": { "items": { "items": { "properties": { "quantity": { "minimum": 1 } } } } } },
))]
pub struct SupplierRestock<'a> {
    /// Its identity: the same event_id is applied once, whichever topic it comes by. Version 7 is advised.
    #[serde(borrow)]
    #[schemars(with = "EventId")]
    pub event_id: Raw<'a>,
    /// What happened: the quantities of `received` are positive, those of `adjustment` are signed.
    #[serde(borrow, rename = "type")]
    #[schemars(with = "Option<RestockType>", extend("default" = "received"))]
    pub kind: Raw<'a>,
    /// The delivery or correction.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub restock_id: Raw<'a>,
    /// Who delivered; must be in the catalogue when it is given.
    #[serde(borrow)]
    #[schemars(with = "Option<Id>")]
    pub supplier_id: Raw<'a>,
    /// Whose stock it changes.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub location_id: Raw<'a>,
    /// When it happened.
    #[serde(borrow)]
    #[schemars(with = "Timestamp")]
    pub received_at: Raw<'a>,
    /// The lines.
    #[serde(borrow)]
    #[schemars(with = "Lines<RestockLine>")]
    pub items: Raw<'a>,
    /// The installation's currency, or absent.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub currency: Raw<'a>,
    /// Why, in free text.
    #[serde(borrow)]
    #[schemars(with = "Option<Note>")]
    pub note: Raw<'a>,
}

/// A payment of an online order, or what became of one. Full card numbers are refused; their last four digits are allowed.
///
/// Key of the record: payment_id. Unknown fields are allowed.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "payments")]
#[allow(clippy::struct_field_names, reason = "the names of the event's fields")]
pub struct Payment<'a> {
    /// Its identity: the same event_id is applied once, whichever topic it comes by. Version 7 is advised.
    #[serde(borrow)]
    #[schemars(with = "EventId")]
    pub event_id: Raw<'a>,
    /// The payment: the same one comes again, under a new event_id, with each status. It belongs to one order.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub payment_id: Raw<'a>,
    /// The online order. One that is not known yet is waited for.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub order_id: Raw<'a>,
    /// How it is paid.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub payment_method: Raw<'a>,
    /// The card's last four digits.
    #[serde(borrow)]
    #[schemars(with = "Option<LastFour>")]
    pub card_last_four: Raw<'a>,
    /// How far it is: `pending`, `authorised` (or `authorized`), `captured` (or `completed`), `failed` or `refunded`; case
    /// does not matter. Of two events of the same moment the one that is later in this order holds.
    #[serde(borrow)]
    #[schemars(with = "Status")]
    pub payment_status: Raw<'a>,
    /// When it happened: the newest event of a payment says how it stands.
    #[serde(borrow)]
    #[schemars(with = "Timestamp")]
    pub payment_datetime: Raw<'a>,
    /// The amount; one that is not the order's value is flagged and counted.
    #[serde(borrow)]
    #[schemars(with = "Option<Amount>")]
    pub amount: Raw<'a>,
    /// The installation's currency, or absent.
    #[serde(borrow)]
    #[schemars(with = "Option<Word>")]
    pub currency: Raw<'a>,
}

/// A line of a sale or a return. The same product may stand in several lines.
#[derive(Deserialize, JsonSchema)]
pub struct SaleLine<'a> {
    /// The product.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub product_id: Raw<'a>,
    /// Units.
    #[serde(borrow)]
    #[schemars(with = "Units")]
    pub quantity: Raw<'a>,
    /// Price per unit; where absent, the original order's or the catalogue's price holds. 0 is valid.
    #[serde(borrow)]
    #[schemars(with = "Option<Amount>")]
    pub price_per_unit: Raw<'a>,
}

/// A line of a delivery or a correction. The same product may stand in several lines.
#[derive(Deserialize, JsonSchema)]
pub struct RestockLine<'a> {
    /// The product.
    #[serde(borrow)]
    #[schemars(with = "Id")]
    pub product_id: Raw<'a>,
    /// Units: positive for `received`, signed and not zero for `adjustment`.
    #[serde(borrow)]
    #[schemars(with = "SignedUnits")]
    pub quantity: Raw<'a>,
    /// Cost per unit.
    #[serde(borrow)]
    #[schemars(with = "Option<Amount>")]
    pub unit_cost: Raw<'a>,
}

/// `type` of an online order's event.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OrderType {
    #[default]
    Placed,
    Shipped,
    Delivered,
    Cancelled,
    Returned,
}

/// `type` of a store's event.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SaleType {
    #[default]
    Sold,
    Returned,
}

/// `type` of a restock's event.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RestockType {
    #[default]
    Received,
    Adjustment,
}

/// A struct that only a JSON object may fill: serde's own structs also take an array of their fields in order.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMaps<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMaps<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OnlyMaps(PhantomData))
    }
}

macro_rules! kinds {
    ($($name:ident = $schema:tt,)*) => {$(
        /// A kind of field; see its schema.
        pub enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    )*};
}

// The figures are those of `Limits::default()` and `money::MAX_UNITS`; `tests/decode_docs.rs` holds them together.
kinds! {
    EventId = { "type": "string", "format": "uuid" },
    Id = { "type": ["string", "integer"], "minLength": 1, "maxLength": 256 },
    Word = { "type": "string", "maxLength": 256 },
    Note = { "type": "string", "maxLength": 4096 },
    Address = { "type": ["string", "object"], "maxLength": 4096 },
    LastFour = { "type": ["string", "integer"], "pattern": "^[0-9]{4}$", "minimum": 1000, "maximum": 9999 },
    Status = { "type": "string", "pattern": in_any_case() },
    Timestamp = { "type": "string", "format": "date-time" },
    Units = { "type": "integer", "minimum": 1, "maximum": 10_000_000 },
    SignedUnits = { "type": "integer", "minimum": -10_000_000, "maximum": 10_000_000, "not": { "const": 0 } },
    Amount = {
        "type": ["string", "number"],
        "pattern": r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
        "minimum": 0,
        "maximum": 1_000_000_000_000_i64,
        // No `multipleOf`: many validators would test it with binary floats and refuse 2.55.
        "$comment": "Read digit by digit, never as a binary float; at most 4 decimals.",
    },
}

/// A pattern of all statuses of a payment. JSON Schema's patterns know no flag for the case.
fn in_any_case() -> String {
    let either = |c: char| format!("[{}{c}]", c.to_ascii_uppercase());
    let names = ["pending", "authorised", "authorized", "captured", "completed", "failed", "refunded"];
    let patterns: Vec<String> = names.iter().map(|name| name.chars().map(either).collect()).collect();
    format!("^({})$", patterns.join("|"))
}

/// One line or more.
pub struct Lines<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Lines<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Lines_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<T>(),
            "minItems": 1,
            "maxItems": 10_000,
        })
    }
}
