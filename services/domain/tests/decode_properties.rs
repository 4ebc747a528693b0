//! What holds for every record, whatever is in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decode_support;

use chrono::DateTime;
use decode_support::rules;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use stocktide_domain::card::{contains, masked, redact};
use stocktide_domain::decode::decode;
use stocktide_domain::event::{
    Item, Payment, PaymentStatus, Restock, RestockItem, RestockKind, Return, Sale,
};
use stocktide_domain::reason::DETAIL_LIMIT;
use stocktide_domain::{Body, Event, Money, Reason, Source, schema};
use uuid::Uuid;

/// Decodes it as every topic's and checks what holds of any answer.
fn decode_as_all(value: &[u8]) {
    for source in Source::ALL {
        match decode(source, Some(value), &rules()) {
            Ok(_) => assert!(!contains(value)),
            Err(reject) => {
                assert!(reject.detail.len() <= DETAIL_LIMIT && !reject.detail.is_empty());
                assert!(!contains(reject.detail.as_bytes()), "{}", reject.detail);
                assert_eq!(
                    reject.reason == Reason::CardNumber,
                    contains(value) && utf8(value),
                    "{}",
                    reject.detail
                );
            }
        }
    }
    assert_eq!(redact(value).is_some(), contains(value));
}

fn utf8(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok()
}

fn source() -> impl Strategy<Value = Source> {
    prop::sample::select(Source::ALL.to_vec())
}

/// A valid event, as the schemas' examples have them.
fn example() -> impl Strategy<Value = Value> {
    let examples: Vec<Value> = Source::ALL
        .iter()
        .flat_map(|&source| schema::input(source)["examples"].as_array().unwrap().clone())
        .collect();
    prop::sample::select(examples)
}

/// Any JSON, and often what a careless producer would write.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "NaN",
            "-1",
            "0001-01-01T00:00:00Z",
            "\0",
            "4111 1111 1111 1111",
            "placed",
            "1e9"
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(4_111_111_111_111_111_i64)
        ]),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,12}|.*", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts `with` in the place of the `at`-th value that is met on the way through.
fn replace(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, at, with)),
        Value::Object(map) => map.values_mut().for_each(|value| replace(value, at, with)),
        _ => {}
    }
}

fn text() -> impl Strategy<Value = String> {
    // No digits: by chance they would make card numbers, which are another test's matter.
    r#"[a-zA-Zé漢"\\/ _.-]{1,20}"#
}

fn money() -> impl Strategy<Value = Money> {
    (0..=100_000_000_i64).prop_map(Money::from_ten_thousandths)
}

fn item() -> impl Strategy<Value = Item> {
    (text(), 1..=10_000_000_i64, prop::option::of((0..=100_000_i64).prop_map(Money::from_ten_thousandths)))
        .prop_map(|(product_id, quantity, unit_price)| Item { product_id, quantity, unit_price })
}

fn sale() -> impl Strategy<Value = Sale> {
    let texts =
        (text(), text(), prop::option::of(text()), prop::option::of(text()), prop::option::of(text()));
    (texts, prop::option::of(money()), vec(item(), 1..5)).prop_map(
        |((order_id, location_id, user_id, payment_method, shipping_address), stated_value, items)| Sale {
            order_id,
            user_id,
            location_id,
            payment_method,
            shipping_address,
            stated_value,
            items,
        },
    )
}

fn restock() -> impl Strategy<Value = Restock> {
    let line = |adjusts: bool| {
        (
            text(),
            1..=10_000_000_i64,
            any::<bool>(),
            prop::option::of((0..=100_000_i64).prop_map(Money::from_ten_thousandths)),
        )
            .prop_map(move |(product_id, quantity, down, unit_cost)| RestockItem {
                product_id,
                quantity: if adjusts && down { -quantity } else { quantity },
                unit_cost,
            })
    };
    (any::<bool>(), text(), text(), prop::option::of(text()), prop::option::of(text())).prop_flat_map(
        move |(adjusts, restock_id, location_id, supplier_id, note)| {
            vec(line(adjusts), 1..5).prop_map(move |items| Restock {
                restock_id: restock_id.clone(),
                supplier_id: supplier_id.clone(),
                location_id: location_id.clone(),
                kind: if adjusts { RestockKind::Adjustment } else { RestockKind::Received },
                note: note.clone(),
                items,
            })
        },
    )
}

fn payment() -> impl Strategy<Value = Payment> {
    let texts = (text(), text(), prop::option::of(text()), prop::option::of("[0-9]{4}"));
    let status = prop::sample::select(PaymentStatus::ALL.to_vec());
    (texts, status, prop::option::of(money())).prop_map(
        |((payment_id, order_id, payment_method, card_last_four), status, amount)| Payment {
            payment_id,
            order_id,
            payment_method,
            card_last_four,
            status,
            amount,
        },
    )
}

fn event() -> impl Strategy<Value = (Source, Event)> {
    let body = prop_oneof![
        sale().prop_map(|sale| (Source::OnlineOrders, Body::Sold(sale))),
        sale().prop_map(|sale| {
            (Source::StoreSales, Body::Sold(Sale { user_id: None, shipping_address: None, ..sale }))
        }),
        (sale(), prop::option::of(text())).prop_map(
            |(Sale { order_id, user_id, location_id, items, .. }, original_id)| {
                (
                    Source::OnlineOrders,
                    Body::Returned(Return { order_id, original_id, user_id, location_id, items }),
                )
            }
        ),
        text().prop_map(|order_id| (Source::OnlineOrders, Body::Cancelled { order_id })),
        restock().prop_map(|restock| (Source::SupplierRestocks, Body::Restocked(restock))),
        payment().prop_map(|payment| (Source::Payments, Body::Paid(payment))),
    ];
    let micros = 946_684_800_000_000..1_700_000_000_000_000_i64;
    (any::<u128>(), micros, body).prop_map(|(id, micros, (source, body))| {
        let occurred_at = DateTime::from_timestamp_micros(micros).unwrap();
        (source, Event { event_id: Uuid::from_u128(id), occurred_at, body })
    })
}

/// An event as a producer would write it.
fn encode(source: Source, event: &Event) -> String {
    let (id, at, store) = match source {
        Source::OnlineOrders => ("order_id", "order_timestamp", "location_id"),
        Source::StoreSales => ("sale_id", "sold_at", "store_id"),
        Source::SupplierRestocks => ("restock_id", "received_at", "location_id"),
        Source::Payments => ("payment_id", "payment_datetime", "-"),
    };
    let mut fields = match &event.body {
        Body::Sold(sale) => json!({
            id: sale.order_id, store: sale.location_id, "user_id": sale.user_id, "payment_method": sale.payment_method,
            "shipping_address": sale.shipping_address, "items": sale.items.iter().map(line).collect::<Vec<_>>(),
            (if source == Source::StoreSales { "total" } else { "order_value" }): sale.stated_value.map(|m| m.to_string()),
        }),
        Body::Returned(back) => json!({
            "type": "returned", id: back.order_id, store: back.location_id, "user_id": back.user_id,
            "original_id": back.original_id, "items": back.items.iter().map(line).collect::<Vec<_>>(),
        }),
        Body::Progressed { order_id, status } => json!({ "type": status.as_str(), id: order_id }),
        Body::Cancelled { order_id } => json!({ "type": "cancelled", id: order_id }),
        Body::Restocked(restock) => json!({
            "type": restock.kind.as_str(), id: restock.restock_id, store: restock.location_id,
            "supplier_id": restock.supplier_id, "note": restock.note,
            "items": restock.items.iter().map(|item| json!({
                "product_id": item.product_id, "quantity": item.quantity, "unit_cost": item.unit_cost.map(|m| m.to_string()),
            })).collect::<Vec<_>>(),
        }),
        Body::Paid(payment) => json!({
            id: payment.payment_id, "order_id": payment.order_id, "payment_method": payment.payment_method,
            "card_last_four": payment.card_last_four, "payment_status": payment.status.as_str(),
            "amount": payment.amount.map(|m| m.to_string()),
        }),
    };
    fields["event_id"] = json!(event.event_id);
    fields[at] = json!(event.occurred_at.to_rfc3339());
    fields.to_string()
}

fn line(item: &Item) -> Value {
    json!({ "product_id": item.product_id, "quantity": item.quantity, "price_per_unit": item.unit_price.map(|m| m.to_string()) })
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(value in vec(any::<u8>(), 0..200)) {
        decode_as_all(&value);
    }

    #[test]
    fn no_text_of_json_like_tokens_makes_decoding_panic(
        value in r#"([\[\]{}:,"\\ 0-9.eE+-]|true|null|event_id|items|"order_id":|\\u00|\\ud800|41111111111111112){0,60}"#
    ) {
        decode_as_all(value.as_bytes());
    }

    #[test]
    fn no_json_makes_decoding_panic(value in any_json()) {
        decode_as_all(value.to_string().as_bytes());
    }

    #[test]
    fn no_change_to_a_valid_event_makes_decoding_panic(mut event in example(), at in 0..30_usize, with in any_json()) {
        replace(&mut event, &mut at.clone(), &with);
        decode_as_all(event.to_string().as_bytes());
    }

    #[test]
    fn no_broken_byte_in_a_valid_event_makes_decoding_panic(event in example(), at: prop::sample::Index, with: u8, cut: bool) {
        let mut bytes = event.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        decode_as_all(&bytes);
    }

    #[test]
    fn a_valid_event_comes_out_as_it_went_in((source, event) in event()) {
        prop_assert_eq!(decode(source, Some(encode(source, &event).as_bytes()), &rules()).unwrap(), event);
    }

    #[test]
    fn fields_that_nobody_knows_change_nothing(
        (source, event) in event(), name in "x_[a-z]{1,8}", extra in text().prop_map(Value::from), front: bool
    ) {
        let plain = encode(source, &event);
        let field = Map::from_iter([(name, extra)]);
        let field = Value::Object(field).to_string();
        let field = &field[1..field.len() - 1];
        let value = if front { plain.replacen('{', &format!("{{{field},"), 1) } else { format!("{},{field}}}", &plain[..plain.len() - 1]) };
        prop_assert_eq!(decode(source, Some(value.as_bytes()), &rules()).unwrap(), event);
    }

    #[test]
    fn a_uuid_is_never_taken_for_a_card_number(digits in "[0-9]{32}", mixed: u128, json: bool) {
        let decimal = format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
        for id in [decimal, Uuid::from_u128(mixed).to_string(), format!("{mixed:032x}")] {
            let value = if json { format!("{{\"x\":\"{id}\"}}") } else { format!("{id} {id}") };
            prop_assert!(!contains(value.as_bytes()), "{}", value);
        }
    }

    #[test]
    fn masked_text_holds_no_card_number(text in r"([0-9]{1,20}|4111111111111111|5500 0000 0000 0004|[ -]|[a-z.+])", more in "[0-9 -]{0,80}", source in source()) {
        for text in [format!("{text}{more}"), format!("{more} {text}"), format!("4111111111111111 {more} {text}")] {
            let once = masked(&text).into_owned();
            prop_assert_eq!(masked(&once).into_owned(), once.clone());
            prop_assert!(!matches!(decode(source, Some(once.as_bytes()), &rules()), Err(r) if r.reason == Reason::CardNumber));
        }
    }
}
