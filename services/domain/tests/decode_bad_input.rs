//! What each kind of bad record meets: its fate and its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decode_support;

use decode_support::{EVENT_ID, applied, decode_order, order, order_of, rejected, rejected_of, rules};
use stocktide_domain::decode::{Limits, decode};
use stocktide_domain::{Reason, Source};

#[test]
fn a_tombstone_or_an_empty_value_is_rejected_as_malformed_json() {
    for source in Source::ALL {
        let reject = decode(source, None, &rules()).unwrap_err();
        assert_eq!((reject.reason, reject.event_id), (Reason::MalformedJson, None));
        rejected_of(source, "", Reason::MalformedJson, "missing or empty");
    }
}

#[test]
fn what_is_no_json_is_rejected_as_malformed_json() {
    let cut = order(&[]);
    let trailing = format!("{} x", order(&[]));
    let two = format!("{0}{0}", order(&[]));
    let cases = [
        "nonsense",
        "{",
        "}",
        "[1,",
        "[1,2",
        " ",
        "{'order_id':1}",
        "{\"a\":1,}",
        "NaN",
        "\u{feff}{}",
        "5 5",
        "\"a\nb\"",
        &cut[..cut.len() - 1],
        &trailing,
        &two,
    ];
    for value in cases {
        assert_eq!(rejected(value, Reason::MalformedJson, "not JSON").event_id, None, "{value}");
    }
}

#[test]
fn a_bare_nan_or_infinity_is_malformed_json_and_a_quoted_one_an_invalid_price() {
    for word in ["NaN", "Infinity", "-Infinity", "nan"] {
        let line =
            |price: &str| order_of(&format!(r#"{{"product_id":"p","quantity":1,"price_per_unit":{price}}}"#));
        rejected(line(word), Reason::MalformedJson, "not JSON");
        rejected(line(&format!("\"{word}\"")), Reason::InvalidPrice, "items[0].price_per_unit");
        let quantity = format!(r#"{{"product_id":"p","quantity":{word}}}"#);
        rejected(order_of(&quantity), Reason::MalformedJson, "not JSON");
    }
}

#[test]
fn invalid_utf_8_is_rejected_as_malformed_json() {
    let mut value = order(&[]).into_bytes();
    let at = value.iter().position(|&b| b == b'o').unwrap();
    value[at] = 0xff;
    rejected(&value, Reason::MalformedJson, "not UTF-8 at byte");
    rejected([0xc0, 0x80], Reason::MalformedJson, "not UTF-8");
}

#[test]
fn half_a_surrogate_pair_in_a_text_that_is_kept_is_malformed_json() {
    rejected(order(&[("order_id", r#""\ud800""#)]), Reason::MalformedJson, "order_id");
    applied(Source::OnlineOrders, &order(&[("unknown", r#""\ud800""#)]));
}

#[test]
fn json_that_is_no_object_is_rejected_as_a_schema_violation() {
    let fields_in_order = format!(r#"["{EVENT_ID}",null,"o-1",null,"2026-11-21T11:00:00Z",[]]"#);
    for value in ["[]", "5", "\"text\"", "null", "true", &fields_in_order] {
        rejected(value, Reason::SchemaViolation, "must be a JSON object");
    }
}

#[test]
fn a_missing_or_null_required_field_is_rejected_by_name() {
    let required = [
        (Source::OnlineOrders, vec!["event_id", "order_id", "order_timestamp", "items"]),
        (Source::StoreSales, vec!["event_id", "sale_id", "store_id", "sold_at", "items"]),
        (Source::SupplierRestocks, vec!["event_id", "restock_id", "location_id", "received_at", "items"]),
        (Source::Payments, vec!["event_id", "payment_id", "order_id", "payment_status", "payment_datetime"]),
    ];
    for (source, names) in required {
        for name in names {
            for json in ["", "null"] {
                let value = decode_support::record(source, &[(name, json)]);
                rejected_of(
                    source,
                    &value,
                    Reason::SchemaViolation,
                    &format!("{name} is missing; it must be"),
                );
            }
        }
    }
    rejected(order_of(r#"{"quantity":1}"#), Reason::SchemaViolation, "items[0].product_id is missing");
    rejected(order_of(r#"{"product_id":"p"}"#), Reason::SchemaViolation, "items[0].quantity is missing");
}

#[test]
fn a_wrong_type_is_a_schema_violation_that_names_the_field() {
    let wrong = [
        ("event_id", vec!["7", "{}", "\"7\"", "\"01890a5dac96774bbcceb302099a8057\"", "true"]),
        ("order_id", vec!["1.5", "true", "[]", "{}", "\"\"", "1e3"]),
        ("user_id", vec!["false", "\"\"", "0.1"]),
        ("location_id", vec!["\"\"", "[]"]),
        (
            "order_timestamp",
            vec!["1700000000", "\"yesterday\"", "\"2026-11-21\"", "\"2026-11-21T11:00:00\"", "\"\""],
        ),
        ("items", vec!["{}", "\"p-1\"", "5", "[]"]),
        ("order_value", vec!["true", "[]", "{}"]),
        ("currency", vec!["5", "[]"]),
        ("payment_method", vec!["5", "{}"]),
        ("shipping_address", vec!["5", "[]", "true"]),
        ("type", vec!["5", "{\"placed\":null}"]),
    ];
    for (name, values) in wrong {
        for json in values {
            rejected(order(&[(name, json)]), Reason::SchemaViolation, name);
        }
    }
    rejected(
        order(&[("items", r#"[{"product_id":"p","quantity":1}, 7]"#)]),
        Reason::SchemaViolation,
        "items[1] is 7",
    );
    rejected(order(&[("items", r#"[["p",1,"2.55"]]"#)]), Reason::SchemaViolation, "items[0]");
    rejected(order_of(r#"{"product_id":"p","quantity":"3"}"#), Reason::SchemaViolation, "items[0].quantity");
}

#[test]
fn an_unknown_type_is_a_schema_violation_that_lists_the_known_ones() {
    rejected(order(&[("type", "\"lost\"")]), Reason::SchemaViolation, "`shipped`");
    rejected(order(&[("type", "\"Placed\"")]), Reason::SchemaViolation, "`placed`");
    let sale = decode_support::record(Source::StoreSales, &[("type", "\"placed\"")]);
    rejected_of(Source::StoreSales, sale, Reason::SchemaViolation, "`sold`");
    let restock = decode_support::record(Source::SupplierRestocks, &[("type", "\"sold\"")]);
    rejected_of(Source::SupplierRestocks, restock, Reason::SchemaViolation, "`adjustment`");
}

#[test]
fn unknown_fields_are_allowed_even_twice() {
    let value = order(&[("colour", "{\"a\":[1,null]}")]).replace('}', ", \"size\": 1, \"size\": 2}");
    applied(Source::OnlineOrders, &value);
}

#[test]
fn a_known_field_that_stands_twice_is_a_schema_violation() {
    let twice = order(&[]).replacen('{', "{\"order_id\": \"o-2\", ", 1);
    assert!(rejected(twice, Reason::SchemaViolation, "order_id").event_id.is_some());
    let line = r#"{"product_id":"p","quantity":1,"quantity":1}"#;
    rejected(order_of(line), Reason::SchemaViolation, "items[0]: duplicate field `quantity`");
    let ids = order(&[]).replacen('{', &format!("{{\"event_id\": \"{EVENT_ID}\", "), 1);
    assert_eq!(rejected(ids, Reason::SchemaViolation, "event_id").event_id, None);
}

#[test]
fn zero_negative_huge_and_broken_quantities_are_invalid() {
    for quantity in ["0", "-1", "-0", "10000001", "9223372036854775808", "1e400", "1.5", "3.0", "1e2"] {
        let value = order_of(&format!(r#"{{"product_id":"p","quantity":{quantity}}}"#));
        rejected(value, Reason::InvalidQuantity, "items[0].quantity");
    }
    applied(Source::OnlineOrders, &order_of(r#"{"product_id":"p","quantity":10000000}"#));
}

#[test]
fn an_adjustment_is_signed_but_not_zero_and_a_delivery_positive() {
    let restock = |kind: &str, quantity: &str| {
        let items = format!(r#"[{{"product_id":"p","quantity":{quantity}}}]"#);
        decode_support::record(Source::SupplierRestocks, &[("type", kind), ("items", &items)])
    };
    for quantity in ["-10000000", "-1", "1", "10000000"] {
        applied(Source::SupplierRestocks, &restock("\"adjustment\"", quantity));
    }
    for (kind, quantity) in
        [("\"adjustment\"", "0"), ("\"adjustment\"", "-10000001"), ("\"received\"", "-1"), ("", "0")]
    {
        rejected_of(
            Source::SupplierRestocks,
            restock(kind, quantity),
            Reason::InvalidQuantity,
            "items[0].quantity",
        );
    }
}

#[test]
fn negative_too_precise_too_large_and_broken_prices_are_invalid() {
    for price in [
        "-1",
        "-0.0001",
        "0.00001",
        "2.123456",
        "1000000000001",
        "1e99",
        "\"\"",
        "\"abc\"",
        "\"1,50\"",
        "\" 1\"",
    ] {
        let value = order_of(&format!(r#"{{"product_id":"p","quantity":1,"price_per_unit":{price}}}"#));
        rejected(value, Reason::InvalidPrice, "items[0].price_per_unit");
        rejected(order(&[("order_value", price)]), Reason::InvalidPrice, "order_value");
    }
    for price in ["0", "\"0.00\"", "0.1", "2.5500000", "1e2", "1000000000000", "null"] {
        applied(
            Source::OnlineOrders,
            &order_of(&format!(r#"{{"product_id":"p","quantity":1,"price_per_unit":{price}}}"#)),
        );
    }
}

#[test]
fn an_order_worth_more_than_money_can_hold_is_an_invalid_price() {
    let line = r#"{"product_id":"p","quantity":6,"price_per_unit":"100000000000"}"#;
    applied(Source::OnlineOrders, &order_of(line));
    rejected(order_of(&format!("{line},{line}")), Reason::InvalidPrice, "items[1].price_per_unit");
    let huge = r#"[{"product_id":"p","quantity":-10000000,"unit_cost":"1000000000000"}]"#;
    let value =
        decode_support::record(Source::SupplierRestocks, &[("type", "\"adjustment\""), ("items", huge)]);
    rejected_of(Source::SupplierRestocks, value, Reason::InvalidPrice, "items[0].unit_cost");
}

#[test]
fn another_currency_is_a_mismatch_and_case_does_not_matter() {
    for currency in ["\"GBP\"", "\"gbp\"", "null", ""] {
        applied(Source::OnlineOrders, &order(&[("currency", currency)]));
    }
    rejected(order(&[("currency", "\"EUR\"")]), Reason::CurrencyMismatch, "must be \"GBP\"");
    rejected(order(&[("currency", "\"XYZ\""), ("type", "\"shipped\"")]), Reason::CurrencyMismatch, "XYZ");
}

#[test]
fn times_before_2000_or_more_than_a_day_ahead_are_out_of_range() {
    for time in [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "1999-12-31T23:59:59.999999Z",
        "2026-11-22T12:00:00.000001Z",
    ] {
        rejected(
            order(&[("order_timestamp", &format!("\"{time}\""))]),
            Reason::TimestampOutOfRange,
            "order_timestamp",
        );
    }
    for time in
        ["2000-01-01T00:00:00Z", "1999-12-31T23:00:00-01:00", "2026-11-22T12:00:00Z", "2016-12-31T23:59:60Z"]
    {
        applied(Source::OnlineOrders, &order(&[("order_timestamp", &format!("\"{time}\""))]));
    }
    for time in ["2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "10000-01-01T00:00:00Z"] {
        rejected(
            order(&[("order_timestamp", &format!("\"{time}\""))]),
            Reason::SchemaViolation,
            "order_timestamp",
        );
    }
}

#[test]
fn a_value_of_a_mebibyte_is_taken_and_one_byte_more_is_too_large() {
    let limit = Limits::default().value_bytes;
    let padded = |length: usize| format!("{}{}", order(&[]), " ".repeat(length - order(&[]).len()));
    applied(Source::OnlineOrders, &padded(limit));
    let reject = rejected(padded(limit + 1), Reason::TooLarge, "at most 1048576");
    assert_eq!(reject.event_id, None, "beyond the limit nothing is parsed");
    rejected(padded(2_000_000), Reason::TooLarge, "2000000 bytes");
    rejected(vec![0xff; limit + 1], Reason::TooLarge, "bytes");
}

#[test]
fn nesting_deeper_than_the_limit_is_too_large() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    // The record itself is the first level.
    applied(Source::OnlineOrders, &order(&[("extra", &nested(31))]));
    let reject = rejected(order(&[("extra", &nested(32))]), Reason::TooLarge, "at most 32 levels");
    assert_eq!(reject.event_id.map(|id| id.to_string()).as_deref(), Some(EVENT_ID));
    rejected("[".repeat(1_000_000), Reason::TooLarge, "nested");
    rejected("{\"a\":".repeat(200_000), Reason::TooLarge, "nested");
}

#[test]
fn texts_longer_than_their_limit_are_too_large() {
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    for (name, limit) in [
        ("order_id", 256),
        ("user_id", 256),
        ("location_id", 256),
        ("payment_method", 256),
        ("shipping_address", 4096),
    ] {
        applied(Source::OnlineOrders, &order(&[(name, &text(limit))]));
        rejected(
            order(&[(name, &text(limit + 1))]),
            Reason::TooLarge,
            &format!("{name} has {} bytes", limit + 1),
        );
    }
    rejected(order(&[("order_id", &"9".repeat(300))]), Reason::TooLarge, "order_id");
    rejected(
        order_of(&format!(r#"{{"product_id":{},"quantity":1}}"#, text(257))),
        Reason::TooLarge,
        "items[0].product_id",
    );
    let note = decode_support::record(Source::SupplierRestocks, &[("note", &text(4097))]);
    rejected_of(Source::SupplierRestocks, note, Reason::TooLarge, "note");
}

#[test]
fn an_order_of_no_lines_is_refused_and_one_of_ten_thousand_is_taken() {
    let lines = |count: usize| format!("[{}]", vec![r#"{"product_id":"p","quantity":1}"#; count].join(","));
    rejected(order(&[("items", &lines(0))]), Reason::SchemaViolation, "items is []");
    applied(Source::OnlineOrders, &order(&[("items", &lines(10_000))]));
    rejected(order(&[("items", &lines(10_001))]), Reason::TooLarge, "items has 10001 lines; at most 10000");
}

#[test]
fn a_nul_character_in_a_text_that_is_kept_is_a_schema_violation() {
    for name in ["order_id", "user_id", "payment_method", "shipping_address", "location_id"] {
        rejected(order(&[(name, r#""a\u0000b""#)]), Reason::SchemaViolation, name);
    }
    rejected(
        order(&[("shipping_address", r#"{"street":"a\u0000b"}"#)]),
        Reason::SchemaViolation,
        "shipping_address",
    );
    applied(Source::OnlineOrders, &order(&[("shipping_address", r#"{"street":"a\\u0000b"}"#)]));
    applied(Source::OnlineOrders, &order(&[("unknown", r#""\u0000""#)]));
}

#[test]
fn a_rejected_record_that_is_json_still_tells_its_event_id() {
    for value in
        [order(&[("order_id", "")]), order(&[("items", "7")]), order(&[("card", "\"4111111111111111\"")])]
    {
        let reject = decode_order(&value).unwrap_err();
        assert_eq!(reject.event_id.map(|id| id.to_string()).as_deref(), Some(EVENT_ID), "{value}");
    }
    assert_eq!(decode_order(&order(&[("event_id", "\"x\"")])).unwrap_err().event_id, None);
}

#[test]
fn a_payment_that_is_not_as_documented_is_rejected_by_the_name_of_the_field() {
    let payment = |name, json| decode_support::record(Source::Payments, &[(name, json)]);
    let cases = [
        ("payment_status", vec!["\"lost\"", "\"\"", "5", "[]", "\"captured \""], Reason::SchemaViolation),
        (
            "card_last_four",
            vec!["\"123\"", "\"12345\"", "\"12a4\"", "\"١٢٣٤\"", "42", "-123", "12.3", "\"\"", "[]"],
            Reason::SchemaViolation,
        ),
        ("payment_id", vec!["\"\"", "1.5", "{}", "true"], Reason::SchemaViolation),
        ("order_id", vec!["\"\"", "1.5", "{}", "true"], Reason::SchemaViolation),
        ("payment_method", vec!["5", "[]"], Reason::SchemaViolation),
        ("amount", vec!["-1", "\"1.00001\"", "\"NaN\"", "1e300", "\"1,50\""], Reason::InvalidPrice),
        ("currency", vec!["\"XTS\"", "\"\""], Reason::CurrencyMismatch),
        ("payment_datetime", vec!["\"2026-11-21\"", "5"], Reason::SchemaViolation),
        (
            "payment_datetime",
            vec!["\"1999-12-31T23:59:59Z\"", "\"2026-11-22T12:00:01Z\""],
            Reason::TimestampOutOfRange,
        ),
    ];
    for (name, values, reason) in cases {
        for json in values {
            let reject = rejected_of(Source::Payments, payment(name, json), reason, name);
            assert_eq!(reject.event_id.map(|id| id.to_string()).as_deref(), Some(EVENT_ID), "{name}: {json}");
        }
    }
    let long = format!("\"{}\"", "x".repeat(257));
    for name in ["payment_id", "order_id", "payment_method"] {
        rejected_of(Source::Payments, payment(name, &long), Reason::TooLarge, name);
    }
    rejected_of(Source::Payments, payment("payment_id", r#""a\u0000b""#), Reason::SchemaViolation, "NUL");
}

#[test]
fn a_payment_that_carries_a_full_card_number_is_rejected_wherever_it_stands() {
    let card = decode_support::CARD;
    for (name, json) in [
        ("card_last_four", format!("\"{card}\"")),
        ("card_last_four", card.to_owned()),
        ("payment_method", format!("\"card {card}\"")),
        ("card_number", "\"4111-1111-1111-1111\"".to_owned()),
        ("extra", format!("{{\"pan\":[\"{card}\"]}}")),
    ] {
        let value = decode_support::record(Source::Payments, &[(name, &json)]);
        let reject = rejected_of(Source::Payments, value, Reason::CardNumber, "full card number");
        assert!(!reject.detail.contains("4111"), "{}", reject.detail);
    }
}
