//! `docs/events/` is what the types say, and the schemas there are what decoding does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decode_support;

use std::path::Path;

use decode_support::{applied, rejected_of, rules};
use serde_json::{Value, json};
use stocktide_domain::decode::{Limits, decode};
use stocktide_domain::update::InventoryUpdate;
use stocktide_domain::{Body, Reason, Source, money, schema};

#[test]
fn docs_events_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events");
    for (name, content) in schema::documents() {
        let path = folder.join(&name);
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &content).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        // Compared as values: the order of keys depends on what else is compiled in.
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert!(
            parsed(&stored) == parsed(&content),
            "docs/events/{name} is not what the types say; UPDATE_DOCS=1 cargo test -p stocktide-domain --test decode_docs writes it anew"
        );
    }
}

#[test]
fn every_example_is_an_event_and_every_type_has_one() {
    for source in Source::ALL {
        let schema = schema::input(source);
        let mut types: Vec<Value> = Vec::new();
        for example in schema["examples"].as_array().unwrap() {
            applied(source, &example.to_string());
            types.push(example["type"].clone());
        }
        if source == Source::Payments {
            assert!(types.iter().all(Value::is_null), "a payment has a status and no type");
            continue;
        }
        types.push(Value::Null);
        assert_eq!(schema["properties"]["type"]["enum"], Value::Array(types), "{source}");
    }
    let update = schema::inventory_update()["examples"][0].clone();
    let typed: InventoryUpdate<'_> = serde_json::from_value(update.clone()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&typed.to_json()).unwrap(), update);
}

#[test]
fn a_field_is_required_in_the_schema_exactly_if_decoding_misses_it() {
    for source in Source::ALL {
        let schema = schema::input(source);
        let no_line = serde_json::Map::new();
        let line = &schema["properties"]["items"]["items"];
        let full = schema["examples"][0].clone();
        for name in schema["properties"].as_object().unwrap().keys() {
            let mut event = full.clone();
            event.as_object_mut().unwrap().remove(name);
            // The first example is of a type that needs its lines.
            let required = lists(&schema["required"], name) || lists(&schema["else"]["required"], name);
            check(source, &event, name, required);
        }
        for name in line["properties"].as_object().unwrap_or(&no_line).keys() {
            let mut event = full.clone();
            event["items"][0].as_object_mut().unwrap().remove(name);
            check(source, &event, name, lists(&line["required"], name));
        }
    }
}

fn lists(names: &Value, name: &str) -> bool {
    names.as_array().is_some_and(|names| names.contains(&json!(name)))
}

fn check(source: Source, event: &Value, name: &str, required: bool) {
    if required {
        rejected_of(source, event.to_string(), Reason::SchemaViolation, &format!("{name} is missing"));
    } else {
        applied(source, &event.to_string());
    }
}

#[test]
fn the_schemas_limits_and_defaults_are_those_of_decoding() {
    let limits = Limits::default();
    let order = schema::input(Source::OnlineOrders);
    let field = |name: &str| &order["properties"][name];
    assert_eq!(field("order_id")["maxLength"], json!(limits.id_bytes));
    assert_eq!(field("payment_method")["maxLength"], json!(limits.id_bytes));
    assert_eq!(field("shipping_address")["maxLength"], json!(limits.text_bytes));
    assert_eq!(field("items")["maxItems"], json!(limits.lines));
    let line = &field("items")["items"]["properties"];
    assert_eq!(line["quantity"]["maximum"], json!(limits.quantity));
    assert_eq!(line["price_per_unit"]["maximum"], json!(money::MAX_UNITS));
    let restock = schema::input(Source::SupplierRestocks);
    assert_eq!(restock["properties"]["note"]["maxLength"], json!(limits.text_bytes));
    assert_eq!(
        restock["properties"]["items"]["items"]["properties"]["quantity"]["minimum"],
        json!(-limits.quantity)
    );

    for source in Source::ALL {
        let schema = schema::input(source);
        let mut bare = schema["examples"][0].clone();
        for (name, property) in schema["properties"].as_object().unwrap() {
            if !property["default"].is_null() {
                bare[name] = property["default"].clone();
            }
        }
        let explicit = applied(source, &bare.to_string());
        for name in ["type", "location_id"] {
            if !schema["properties"][name]["default"].is_null() {
                bare.as_object_mut().unwrap().remove(name);
            }
        }
        assert_eq!(applied(source, &bare.to_string()), explicit);
    }
}

#[test]
fn what_the_order_schema_says_of_progress_holds() {
    let order = schema::input(Source::OnlineOrders);
    for kind in order["if"]["properties"]["type"]["enum"].as_array().unwrap() {
        let mut event = order["examples"][0].clone();
        event["type"] = kind.clone();
        event.as_object_mut().unwrap().remove("items");
        let body = decode(Source::OnlineOrders, Some(event.to_string().as_bytes()), &rules()).unwrap().body;
        assert!(matches!(body, Body::Progressed { .. } | Body::Cancelled { .. }), "{kind}");
    }
}

#[test]
fn the_asyncapi_document_names_every_topic_and_its_references_lead_somewhere() {
    let document = schema::asyncapi();
    let names: Vec<String> = schema::documents().into_iter().map(|(name, _)| name).collect();
    let topics =
        ["online_orders", "store_sales", "supplier_restocks", "payments", "inventory_updates", "dlq"];
    for topic in topics {
        assert_eq!(document["channels"][topic]["address"], json!(topic));
        assert!(document["components"]["messages"][topic]["bindings"]["kafka"]["key"].is_object(), "{topic}");
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        match reference.strip_prefix('#') {
            Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
            None => assert!(names.iter().any(|name| format!("./{name}") == reference), "{reference}"),
        }
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
