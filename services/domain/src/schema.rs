//! The wire formats for other people's programs: JSON Schemas made from the types, and an AsyncAPI document over them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::decode::wire::{OnlineOrder, Payment, StoreSale, SupplierRestock};
use crate::event::Source;
use crate::reason::Reason;
use crate::stock::StockStatus;
use crate::update::InventoryUpdate;

/// Everything under `docs/events/` that is generated: each file's name and its text.
pub fn documents() -> Vec<(String, String)> {
    let mut documents = vec![("asyncapi.json".to_owned(), pretty(&asyncapi()))];
    for source in Source::ALL {
        documents.push((file_name(source.topic()), pretty(&input(source))));
    }
    documents.push((file_name(INVENTORY_UPDATES), pretty(&inventory_update())));
    documents
}

const INVENTORY_UPDATES: &str = "inventory_updates";

/// JSON Schema (2020-12) of an input topic's value: what [`decode`](crate::decode::decode) takes.
pub fn input(source: Source) -> Value {
    let schema = match source {
        Source::OnlineOrders => schema_of::<OnlineOrder<'_>>(false),
        Source::StoreSales => schema_of::<StoreSale<'_>>(false),
        Source::SupplierRestocks => schema_of::<SupplierRestock<'_>>(false),
        Source::Payments => schema_of::<Payment<'_>>(false),
    };
    with(schema, "examples", examples(source))
}

/// JSON Schema (2020-12) of the value of `inventory_updates`.
pub fn inventory_update() -> Value {
    let schema = with(schema_of::<InventoryUpdate<'_>>(true), "title", json!(INVENTORY_UPDATES));
    let statuses = [StockStatus::InStock, StockStatus::Low, StockStatus::Out, StockStatus::Oversold];
    let mut schema = with(schema, "examples", json!([update_example()]));
    schema["properties"]["stock_status"]["enum"] = json!(statuses.map(StockStatus::as_str));
    schema["properties"]["source"]["enum"] = json!(Source::STOCK.map(Source::topic));
    schema
}

fn schema_of<T: JsonSchema>(written: bool) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let settings = if written { settings.for_serialize() } else { settings.for_deserialize() };
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn with(mut schema: Value, key: &str, value: Value) -> Value {
    schema[key] = value;
    schema
}

fn file_name(topic: &str) -> String {
    format!("{topic}.schema.json")
}

fn pretty(value: &Value) -> String {
    // A `Value` always has a JSON form.
    format!("{value:#}\n")
}

/// Valid events of an input topic, one of every type.
fn examples(source: Source) -> Value {
    let lines = json!([{ "product_id": "85123A", "quantity": 6, "price_per_unit": "2.55" }]);
    match source {
        Source::OnlineOrders => json!([
            {
                "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a1", "type": "placed", "order_id": "536365",
                "user_id": "17850", "order_timestamp": "2025-01-01T08:26:00Z", "items": lines, "order_value": "15.30",
                "currency": "GBP", "payment_method": "card", "shipping_address": "1 High Street, Leeds",
                "location_id": "online",
            },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a2", "type": "shipped", "order_id": "536365",
              "order_timestamp": "2025-01-01T15:00:00Z" },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a3", "type": "delivered", "order_id": "536365",
              "order_timestamp": "2025-01-03T10:12:00Z" },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a4", "type": "cancelled", "order_id": "536366",
              "order_timestamp": "2025-01-01T09:00:00Z" },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a5", "type": "returned", "order_id": "C536365",
              "original_id": "536365", "order_timestamp": "2025-01-09T12:00:00+01:00",
              "items": [{ "product_id": "85123A", "quantity": 1 }] },
        ]),
        Source::StoreSales => json!([
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000b1", "type": "sold", "sale_id": 70001,
              "store_id": "leeds", "sold_at": "2025-01-01T11:03:27.250Z", "items": lines, "total": 15.3,
              "payment_method": "cash" },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000b2", "type": "returned", "sale_id": 70002,
              "store_id": "leeds", "sold_at": "2025-01-02T11:03:00Z", "items": lines, "original_id": 70001 },
        ]),
        Source::SupplierRestocks => json!([
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000c1", "type": "received", "restock_id": "R-1",
              "supplier_id": "S-7", "location_id": "online", "received_at": "2025-01-01T06:00:00Z",
              "items": [{ "product_id": "85123A", "quantity": 480, "unit_cost": "1.10" }] },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000c2", "type": "adjustment", "restock_id": "A-1",
              "location_id": "online", "received_at": "2025-01-01T18:00:00Z", "note": "2 broken",
              "items": [{ "product_id": "85123A", "quantity": -2 }] },
        ]),
        Source::Payments => json!([
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000d1", "payment_id": "PAY-1", "order_id": "536365",
              "payment_method": "card", "card_last_four": "0042", "payment_status": "Authorised",
              "payment_datetime": "2025-01-01T08:26:05Z", "amount": "15.30", "currency": "GBP" },
            { "event_id": "01941f29-7c00-7aaa-8aaa-0000000000d2", "payment_id": "PAY-1", "order_id": 536_365,
              "payment_status": "completed", "payment_datetime": "2025-01-01T08:27:00+00:00" },
        ]),
    }
}

fn update_example() -> Value {
    json!({
        "event_id": "01941f29-7c00-7aaa-8aaa-0000000000a1", "product_id": "85123A", "location_id": "online",
        "delta": -6, "quantity_on_hand": 474, "version": 2, "stock_status": "in_stock", "source": "online_orders",
        "processed_at": "2025-01-01T08:26:00.012345Z",
    })
}

/// The AsyncAPI 3.0 document: which topics there are, who writes and reads them, their keys, headers and values.
pub fn asyncapi() -> Value {
    let topics = [
        (
            "online_orders",
            "receive",
            "Online orders: placed, shipped, delivered, cancelled, returned.",
            message("online_orders", "order_id"),
        ),
        (
            "store_sales",
            "receive",
            "Sales in stores, and what comes back to them.",
            message("store_sales", "sale_id"),
        ),
        (
            "supplier_restocks",
            "receive",
            "Deliveries, and corrections of stock.",
            message("supplier_restocks", "restock_id"),
        ),
        (
            "payments",
            "receive",
            "Payments of online orders, with each change of their status. One that comes before its order waits for it, for \
             payments.wait (10 minutes by default).",
            message("payments", "payment_id"),
        ),
        (
            INVENTORY_UPDATES,
            "send",
            "Each changed stock row of each applied event, once (read it with isolation.level=read_committed). With several \
             processors the records of one stock row may arrive out of version order: keep the highest version. \
             cleanup.policy=delete.",
            inventory_updates(),
        ),
        (
            "dlq",
            "send",
            "Each rejected record, once (read it with isolation.level=read_committed).",
            dead_letters(),
        ),
    ];
    let (channels, operations, messages) = parts(topics);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stocktide",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Real-time inventory from Kafka. One event a record, JSON in UTF-8. Actions are as seen from Stocktide.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    })
}

/// A topic: its name, what is done with it, what it holds, and its message.
type Topic = (&'static str, &'static str, &'static str, Value);

/// Channels, operations and messages.
fn parts(topics: impl IntoIterator<Item = Topic>) -> (Value, Value, Value) {
    let (mut channels, mut operations, mut messages) = (json!({}), json!({}), json!({}));
    for (topic, action, description, message) in topics {
        channels[topic] = json!({
            "address": topic,
            "description": description,
            "messages": { topic: { "$ref": format!("#/components/messages/{topic}") } },
        });
        operations[format!("{action}_{topic}")] = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{topic}") },
            "messages": [{ "$ref": format!("#/channels/{topic}/messages/{topic}") }],
        });
        messages[topic] = message;
    }
    (channels, operations, messages)
}

fn message(topic: &str, key: &str) -> Value {
    json!({
        "name": topic,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": { "$ref": format!("./{}", file_name(topic)) },
        },
        "bindings": kafka_key(key),
    })
}

fn kafka_key(description: &str) -> Value {
    json!({ "kafka": { "key": { "type": "string", "description": description }, "bindingVersion": "0.5.0" } })
}

/// Headers are UTF-8 text, numbers in decimal.
fn headers(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn inventory_updates() -> Value {
    let names = ["stocktide.source.topic", "stocktide.source.partition", "stocktide.source.offset"];
    let properties = json!({
        names[0]: { "type": "string", "enum": Source::STOCK.map(Source::topic), "description": "Topic of the event." },
        names[1]: { "type": "string", "pattern": "^[0-9]+$", "description": "Its partition." },
        names[2]: { "type": "string", "pattern": "^[0-9]+$", "description": "Its offset." },
    });
    with(message(INVENTORY_UPDATES, "product_id"), "headers", headers(&names, properties))
}

fn dead_letters() -> Value {
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("- `{}`: {}", reason.code(), reason.describe().trim()))
        .collect();
    let reasons = format!("Why, as a stable code.\n{}", reasons.join("\n"));
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let properties = json!({
        "__connect.errors.topic": { "type": "string", "description": "Topic that the record came by." },
        "__connect.errors.partition": { "type": "string", "pattern": "^[0-9]+$", "description": "Its partition." },
        "__connect.errors.offset": { "type": "string", "pattern": "^[0-9]+$", "description": "Its offset." },
        "__connect.errors.stage": { "type": "string", "const": "TRANSFORMATION" },
        "__connect.errors.exception.class.name": { "type": "string", "description": "`stocktide.` and the reason." },
        "__connect.errors.exception.message": { "type": "string", "description": "What exactly was wrong, for people." },
        "stocktide.reason": { "type": "string", "enum": codes, "description": reasons },
        "stocktide.redacted": { "type": "string", "const": "true",
            "description": "Full card numbers in the record were masked; absent where nothing was." },
        "stocktide.truncated": { "type": "string", "pattern": "^[0-9]+$",
            "description": "The record was too large for this topic and is cut; the original value's length in bytes." },
    });
    let required = [
        "__connect.errors.topic",
        "__connect.errors.partition",
        "__connect.errors.offset",
        "__connect.errors.stage",
        "__connect.errors.exception.class.name",
        "__connect.errors.exception.message",
        "stocktide.reason",
    ];
    json!({
        "name": "dlq",
        "contentType": "application/octet-stream",
        "summary": "A rejected record: its own key, value and headers untouched, and the headers below.",
        "payload": { "description": "The original bytes, which need not be JSON; a tombstone has none." },
        "headers": headers(&required, properties),
        "bindings": kafka_key("The original key."),
    })
}
