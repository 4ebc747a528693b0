//! Full card numbers: what counts as one, what becomes of it, and what is no card number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decode_support;

use decode_support::{CARD, applied, order, order_of, rejected};
use stocktide_domain::card::{masked, redact};
use stocktide_domain::{Reason, Reject, Source};

/// Test numbers that the schemes and their processors publish, of 13 to 19 digits.
const NUMBERS: [&str; 10] = [
    "4222222222222",
    "30569309025904",
    "378282246310005",
    CARD,
    "5500000000000004",
    "6011111111111117",
    "3530111333300000",
    "2223003122003222",
    "6304000000000000",
    "6799990100000000019",
];

fn redacted(value: &str) -> Option<String> {
    redact(value.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_record_with_a_full_card_number_is_rejected_and_its_detail_does_not_show_it() {
    for number in NUMBERS {
        for value in [
            order(&[("card", &format!("\"{number}\""))]),
            order(&[("card", number)]),
            order(&[("payment_method", &format!("\"card {number}, 12/27\""))]),
            order(&[("nested", &format!(r#"{{"list":[{{"pan":"{number}"}}]}}"#))]),
            order(&[("shipping_address", &format!(r#"{{"note":"{number} 12/27"}}"#))]),
            order(&[(number, "1")]),
        ] {
            let reject = rejected(&value, Reason::CardNumber, "full card number");
            assert!(!reject.detail.contains(number));
            let clean = redacted(&value).expect("masked");
            assert!(!clean.contains(number), "{clean}");
            assert!(clean.contains(&format!("*{}", &number[number.len() - 4..])), "{clean}");
        }
    }
}

#[test]
fn a_card_number_in_broken_json_comes_first_too() {
    rejected(format!("{{\"card\": \"{CARD}\""), Reason::CardNumber, "full card number");
    rejected(format!("order {CARD}"), Reason::CardNumber, "full card number");
}

#[test]
fn all_but_the_last_four_digits_are_masked_and_nothing_else_changes() {
    let cases = [
        ("4111111111111111", "************1111"),
        ("card 4111 1111 1111 1111!", "card **** **** **** 1111!"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("3782 822463 10005", "**** ****** *0005"),
        ("é4111111111111111é", "é************1111é"),
        ("a\\n4111111111111111", "a\\n************1111"),
        (r"\u0034111111111111111", "************1111"),
        (r"4111\u00201111\u00201111\u00201111", r"****\u0020****\u0020****\u00201111"),
        ("4111111111111111 5500000000000004", "************1111 ************0004"),
        ("4111 1111 1111 1111 12/27", "**** **** **** 1111 12/27"),
        ("4111111111111111 123", "************1111 123"),
        ("exp 12/27 4111 1111 1111 1111", "exp 12/27 **** **** **** 1111"),
        ("4111111111111111.0", "************1111.0"),
        ("4111  1111  1111  1111", "****  ****  ****  1111"),
        ("4111.1111.1111.1111", "****.****.****.1111"),
        ("4111_1111_1111_1111", "****_****_****_1111"),
        ("4111/1111/1111/1111", "****/****/****/1111"),
        (r"4111\/1111\/1111\/1111", r"****\/****\/****\/1111"),
        ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "****\u{a0}****\u{a0}****\u{a0}1111"),
        (r"4111\u00a01111\u00a01111\u00a01111", r"****\u00a0****\u00a0****\u00a01111"),
        ("４１１１ 1111 1111 1111", "**** **** **** 1111"),
        (r"\uff14111111111111111", "************1111"),
    ];
    for (value, clean) in cases {
        assert_eq!(redacted(value).as_deref(), Some(clean), "{value}");
    }
    let mut bytes = CARD.as_bytes().to_vec();
    bytes.push(0xff);
    assert_eq!(redact(&bytes).unwrap(), b"************1111\xff");
}

#[test]
fn what_only_looks_like_a_card_number_is_left_alone() {
    let others = [
        "4111111111111112",     // the checksum fails
        "411111111111",         // twelve digits
        "41111111111111111111", // twenty
        "1111111111111117",     // starts with 1
        "4444444444444444",     // one digit only, though the checksum holds
        "x4111111111111111",
        "4111111111111111x",         // part of a word
        "4111   1111   1111   1111", // three spaces
        "2345.6700000000001",        // a decimal number
        "41.11.11.11.11.11.11.11",   // short groups with dots
        "41  11  11  11  11  11  11  11",
        "abcdabcd-abcd-abcd-4111-111111111111", // UUIDs
        "41111111-1111-1111-abcd-abcdefabcdef",
        "abcdefab-4111-1111-1111-1111aaaaaaaa",
        "abcdabcd-abcd-abcd-abcd-411111111111 1111",
        "41111111111111111111111111111111", // a UUID without dashes
        "0.4111111111111111",               // a fraction
        "+4222222222222",                   // a telephone number
        "2026-11-21T11:00:00.123456789Z",
        "",
    ];
    for value in others {
        assert_eq!(redacted(value), None, "{value}");
    }
}

/// Passes the checksum and has no issuer's prefix and length.
const ID: &str = "4222222222222";

#[test]
fn ids_article_codes_and_times_of_json_are_told_by_their_key_unless_an_issuer_made_them() {
    for value in [
        order(&[("order_id", ID)]),
        order(&[("user_id", &format!("\"{ID}\""))]),
        order(&[("legacy", &format!("{{\"id\" : {ID} , \"ean\":\"4222222222222\"}}"))]),
        order(&[("exported_at", ID)]),
        order_of(&format!(r#"{{"product_id":"{ID}","quantity":1}}"#)),
    ] {
        assert_eq!(redacted(&value), None, "{value}");
        applied(Source::OnlineOrders, &value);
        let card = value.replace(ID, CARD);
        rejected(&card, Reason::CardNumber, "full card number");
        assert!(!redacted(&card).expect("masked").contains(CARD), "{card}");
    }
    // Not what lies deeper or beside, and not where the value is no JSON.
    for value in [
        format!(r#"{{"order_id":["{ID}"]}}"#),
        format!(r#"{{"order_id":1,"x":"{ID}"}}"#),
        format!(r#"{{"order_id":"{ID}""#),
    ] {
        assert!(!redacted(&value).expect("masked").contains(ID), "{value}");
    }
    let both = format!(r#"{{"order_id":"{ID}","x":"{ID}"}}"#);
    assert_eq!(redacted(&both).unwrap(), format!(r#"{{"order_id":"{ID}","x":"*********2222"}}"#));
}

#[test]
fn no_other_detail_shows_a_card_number_either() {
    let reject = rejected(
        order_of(&format!(r#"{{"product_id":"p","quantity":1,"price_per_unit":-1,"id":{ID}}}"#)),
        Reason::InvalidPrice,
        "",
    );
    assert!(!reject.detail.contains(ID));
    let reject = rejected(order(&[("event_id", ID)]), Reason::SchemaViolation, "event_id is *********2222");
    assert!(!reject.detail.contains(ID));
    let reject = Reject::new(Reason::UnknownProduct, format!("product \"{CARD}\" is unknown"), None);
    assert_eq!(reject.detail, "product \"************1111\" is unknown");
}

#[test]
fn a_card_number_is_found_wherever_it_starts_and_however_long_the_text() {
    for before in 0..40 {
        for text in
            [format!("{}{CARD}", ".".repeat(before)), format!("{}4111 1111 1111 1111\n", "é".repeat(before))]
        {
            assert!(masked(&text).trim_end().ends_with("1111") && masked(&text).contains("****"), "{text}");
        }
    }
    assert!(masked(&format!("{}\n{CARD}", "4 ".repeat(300_000))).contains("************1111"));
}
