//! What good records mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decode_support;

use decode_support::{applied, order, order_of, record};
use stocktide_domain::event::{OrderStatus, PaymentStatus, RestockKind};
use stocktide_domain::{Body, Money, Source};

fn money(text: &str) -> Money {
    Money::parse(text).unwrap()
}

#[test]
fn an_order_is_placed_online_unless_it_says_otherwise() {
    let Body::Sold(sale) = applied(Source::OnlineOrders, &order(&[])).body else { panic!("not a sale") };
    assert_eq!((sale.order_id.as_str(), sale.location_id.as_str(), sale.user_id), ("o-1", "online", None));
    assert_eq!((sale.items[0].quantity, sale.items[0].unit_price), (2, Some(money("2.55"))));
    let elsewhere = order(&[("location_id", "\"depot\""), ("type", "\"placed\"")]);
    let Body::Sold(sale) = applied(Source::OnlineOrders, &elsewhere).body else { panic!("not a sale") };
    assert_eq!(sale.location_id, "depot");
}

#[test]
fn each_type_of_online_order_has_its_meaning_and_only_some_need_lines() {
    let without_lines =
        |kind: &str| applied(Source::OnlineOrders, &order(&[("type", kind), ("items", "")])).body;
    let order_id = String::from("o-1");
    let progressed = |status| Body::Progressed { order_id: order_id.clone(), status };
    assert_eq!(without_lines("\"shipped\""), progressed(OrderStatus::Shipped));
    assert_eq!(without_lines("\"delivered\""), progressed(OrderStatus::Delivered));
    assert_eq!(without_lines("\"cancelled\""), Body::Cancelled { order_id: order_id.clone() });
    let returned = order(&[("type", "\"returned\""), ("original_id", "7")]);
    let Body::Returned(returned) = applied(Source::OnlineOrders, &returned).body else {
        panic!("not a return")
    };
    assert_eq!((returned.original_id.as_deref(), returned.location_id.as_str()), (Some("7"), "online"));
}

#[test]
fn a_store_sale_and_its_return_belong_to_the_store() {
    let Body::Sold(sale) = applied(Source::StoreSales, &record(Source::StoreSales, &[("total", "5.1")])).body
    else {
        panic!("not a sale")
    };
    assert_eq!((sale.order_id.as_str(), sale.location_id.as_str()), ("s-1", "leeds"));
    assert_eq!(sale.stated_value, Some(money("5.10")));
    let returned = record(Source::StoreSales, &[("type", "\"returned\"")]);
    assert!(
        matches!(applied(Source::StoreSales, &returned).body, Body::Returned(r) if r.original_id.is_none())
    );
}

#[test]
fn a_restock_is_a_delivery_unless_it_is_an_adjustment() {
    let delivery = record(Source::SupplierRestocks, &[("supplier_id", "\"S-1\"")]);
    let Body::Restocked(restock) = applied(Source::SupplierRestocks, &delivery).body else {
        panic!("not a restock")
    };
    assert_eq!((restock.kind, restock.supplier_id.as_deref()), (RestockKind::Received, Some("S-1")));
    let changes = [
        ("type", "\"adjustment\""),
        ("note", "\"2 broken\""),
        ("items", r#"[{"product_id":"p","quantity":-2}]"#),
    ];
    let adjustment = record(Source::SupplierRestocks, &changes);
    let Body::Restocked(restock) = applied(Source::SupplierRestocks, &adjustment).body else {
        panic!("not a restock")
    };
    assert_eq!((restock.kind, restock.note.as_deref()), (RestockKind::Adjustment, Some("2 broken")));
    assert_eq!((restock.items[0].quantity, restock.items[0].unit_cost), (-2, None));
}

#[test]
fn an_integer_id_is_taken_as_its_text_however_long() {
    let value = order(&[("order_id", "536365"), ("user_id", "123456789012345678901234567890")]);
    let Body::Sold(sale) = applied(Source::OnlineOrders, &value).body else { panic!("not a sale") };
    assert_eq!(
        (sale.order_id.as_str(), sale.user_id.as_deref()),
        ("536365", Some("123456789012345678901234567890"))
    );
}

#[test]
fn money_as_text_and_as_a_number_is_read_digit_by_digit() {
    // 0.1 + 0.2 and 922337203685.4775 have no exact binary form.
    for (json, exact) in
        [("922337203685.4775", "922337203685.4775"), ("\"0.1\"", "0.1"), ("2.550", "2.55"), ("1.1e1", "11")]
    {
        let line = format!(r#"{{"product_id":"p","quantity":1,"price_per_unit":{json}}}"#);
        let Body::Sold(sale) = applied(Source::OnlineOrders, &order_of(&line)).body else {
            panic!("not a sale")
        };
        assert_eq!(sale.items[0].unit_price, Some(money(exact)), "{json}");
    }
}

#[test]
fn a_product_may_stand_in_several_lines() {
    let line = r#"{"product_id":"p","quantity":1}"#;
    let Body::Sold(sale) = applied(Source::OnlineOrders, &order_of(&format!("{line},{line}"))).body else {
        panic!("not a sale")
    };
    assert_eq!(sale.items.len(), 2);
}

#[test]
fn an_address_is_kept_as_text_or_as_compact_json() {
    for (json, kept) in [
        (r#""1 High Street""#, "1 High Street"),
        (r#""caf\u00e9 \"x\"\n""#, "café \"x\"\n"),
        (r#"{ "street" : "a  \" b",  "no": 1.50 }"#, r#"{"street":"a  \" b","no":1.50}"#),
    ] {
        let value = order(&[("shipping_address", json)]);
        let Body::Sold(sale) = applied(Source::OnlineOrders, &value).body else { panic!("not a sale") };
        assert_eq!(sale.shipping_address.as_deref(), Some(kept));
    }
}

#[test]
fn a_moment_is_kept_in_utc_to_the_microsecond() {
    let value = order(&[("order_timestamp", "\"2026-11-21T12:30:00.123456789+01:00\"")]);
    assert_eq!(
        applied(Source::OnlineOrders, &value).occurred_at.to_rfc3339(),
        "2026-11-21T11:30:00.123456+00:00"
    );
}

#[test]
fn a_payment_is_read_field_by_field_and_its_status_in_any_case() {
    let fields = [
        ("payment_id", "7001"),
        ("order_id", "536365"),
        ("payment_method", r#""card""#),
        ("card_last_four", r#""0042""#),
        ("amount", "15.3"),
        ("currency", r#""gbp""#),
    ];
    let event = applied(Source::Payments, &record(Source::Payments, &fields));
    let Body::Paid(payment) = event.body else { panic!("not a payment") };
    assert_eq!((payment.payment_id.as_str(), payment.order_id.as_str()), ("7001", "536365"));
    assert_eq!(
        (payment.payment_method.as_deref(), payment.card_last_four.as_deref()),
        (Some("card"), Some("0042"))
    );
    assert_eq!(
        (payment.amount, payment.status),
        (Some(Money::from_ten_thousandths(153_000)), PaymentStatus::Captured)
    );

    let status = |word: &str| {
        let value = record(Source::Payments, &[("payment_status", &format!("\"{word}\""))]);
        let Body::Paid(payment) = applied(Source::Payments, &value).body else { panic!("not a payment") };
        assert_eq!((payment.amount, payment.card_last_four), (None, None));
        payment.status
    };
    for known in PaymentStatus::ALL {
        assert_eq!(status(known.as_str()), known);
        assert_eq!(status(&known.as_str().to_uppercase()), known);
        assert_eq!(PaymentStatus::from_name(known.as_str()), Some(known));
    }
    assert_eq!(status("Completed"), PaymentStatus::Captured);
    assert_eq!(status("AUTHORIZED"), PaymentStatus::Authorised);
    let four = record(Source::Payments, &[("card_last_four", "1111")]);
    assert!(
        matches!(applied(Source::Payments, &four).body, Body::Paid(p) if p.card_last_four.as_deref() == Some("1111"))
    );
}
