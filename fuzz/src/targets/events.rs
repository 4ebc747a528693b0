//! Records of the topics, their headers, and what people send or mend.

use std::borrow::Cow;
use std::collections::HashSet;

use chrono::DateTime;
use serde_json::value::RawValue;
use stocktide_dlq::Edit;
use stocktide_domain::card;
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::erase::Person;
use stocktide_domain::masked::{MaskedReject, SHAPE_CHARS};
use stocktide_domain::reason::DETAIL_LIMIT;
use stocktide_domain::{Body, Reason, Source};
use stocktide_producers::outgoing;
use stocktide_runtime::terminal;
use stocktide_store::dlq::{At, Handling, Reject, State};
use uuid::Uuid;

use super::{answer, told};

pub const TOKENS: &[&str] = &[
    "\"event_id\":",
    "\"type\":",
    "\"order_id\":",
    "\"sale_id\":",
    "\"restock_id\":",
    "\"payment_id\":",
    "\"items\":[",
    "\"product_id\":",
    "\"quantity\":",
    "\"price_per_unit\":",
    "\"unit_cost\":",
    "\"order_timestamp\":",
    "\"sold_at\":",
    "\"received_at\":",
    "\"payment_datetime\":",
    "\"payment_status\":",
    "\"store_id\":",
    "\"location_id\":",
    "\"user_id\":",
    "\"order_value\":",
    "\"total\":",
    "\"currency\":",
    "\"original_id\":",
    "\"shipping_address\":",
    "\"card_last_four\":",
    "\"note\":",
    "\"adjustment\"",
    "\"returned\"",
    "\"cancelled\"",
    "\"shipped\"",
    "\"completed\"",
    "\"01890a5d-ac96-774b-bcce-b302099a8057\"",
    "\"2026-11-21T11:00:00Z\"",
    "\"GBP\"",
    "\"2.55\"",
    "4111 1111 1111 1111",
    "\"record\":",
    "\"value\":",
    "\"bytes\":",
    "online_orders/0@41",
];
pub const HEADER_TOKENS: &[&str] = &[
    "__connect.errors.topic: ",
    "__connect.errors.partition: ",
    "__connect.errors.offset: ",
    "stocktide.reason: ",
    "stocktide.redacted: true",
    "stocktide.truncated: ",
    "stocktide.source.topic: ",
    "stocktide.source.partition: ",
    "stocktide.source.offset: ",
    "stocktide.replay.id: ",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "online_orders",
    "unknown_product",
    "\n",
];
pub const JQ_TOKENS: &[&str] = &[
    ".items[]",
    "|=",
    "sub(\"a\"; \"b\")",
    "select(",
    "if . then . else . end",
    "reduce .[] as $x (0; . + $x)",
    "def f: .;",
    "f",
    "..",
    "try",
    "catch",
    "@base64",
    "\"\\(.a)\"",
    "$ENV",
    "env",
    "input",
    "halt",
    "(",
    ")",
    "?//",
    "label $x |",
    "break $x",
    "import \"a\" as a;",
    "del(.a)",
    "tostring",
    "ltrimstr(\"a\")",
    "limit(1; .)",
    "test(\"a+\")",
    "//",
    "as [$a, {b: $c}]",
];

pub fn online_orders(input: &[u8]) -> u64 {
    event(Source::OnlineOrders, input)
}

pub fn store_sales(input: &[u8]) -> u64 {
    event(Source::StoreSales, input)
}

pub fn supplier_restocks(input: &[u8]) -> u64 {
    event(Source::SupplierRestocks, input)
}

pub fn payments(input: &[u8]) -> u64 {
    event(Source::Payments, input)
}

/// In pounds, on 21 November 2026.
fn rules() -> Rules {
    let now = DateTime::from_timestamp(1_795_262_400, 0).unwrap_or_default();
    Rules { currency: "GBP".to_owned(), now, limits: Limits::default() }
}

/// What the processor does with a record, and what others later do with its bytes.
fn event(source: Source, input: &[u8]) -> u64 {
    let has_card = card::contains(input);
    let decoded = decode(source, Some(input), &rules());
    assert_eq!(card::redact(input).is_some(), has_card);
    if let Some(masked) = card::redact(input) {
        assert!(!card::contains(&masked), "a card number is left");
    }
    let reason = decoded.as_ref().err().map_or("applied", |reject| reject.reason.code());
    let refused = decoded.is_err().then_some(reason);
    let judged =
        stocktide_verify::outside::judge(source.topic(), input, rules().now.timestamp_micros(), refused);
    assert_eq!(judged, Ok(()), "verify judges it otherwise");
    let shape = MaskedReject::of(source.topic(), reason, Some(input), Some(input.len() as u64)).shape;
    assert!(shape.chars().count() <= SHAPE_CHARS, "the shape is too long");
    assert!(!terminal::escape(input).chars().any(terminal::is_unsafe), "a terminal would obey");
    let orders = HashSet::from(["o-1".to_owned()]);
    let person = Person { user_id: "u-1", orders: &orders, token: "erased-1" };
    let erased = person.erased_from(None, input);
    match decoded {
        Ok(event) => {
            assert!(!has_card, "a card number was let through");
            let lines = match &event.body {
                Body::Sold(sale) => sale.items.len(),
                Body::Returned(back) => back.items.len(),
                Body::Restocked(restock) => restock.items.len(),
                _ => 0,
            };
            assert!(lines <= Limits::default().lines, "too many lines");
            let read = stocktide_verify::outside::event(source.topic(), input);
            assert_eq!(read.as_ref(), Ok(&event.event_id), "verify reads it otherwise");
            let kind = std::mem::discriminant(&event.body);
            answer(&format!("{kind:?} {} {}", if lines > 1 { "lines" } else { "line" }, erased.is_some()))
        }
        Err(reject) => {
            assert!(reject.detail.len() <= DETAIL_LIMIT && !reject.detail.is_empty(), "{}", reject.detail);
            assert!(!card::contains(reject.detail.as_bytes()), "a card number is told");
            assert!(has_card || reject.reason != Reason::CardNumber, "no card number is there");
            let id = if reject.event_id.is_some() { "with" } else { "without" };
            answer(&format!("{reason} {id} {}", reject.detail))
        }
    }
}

/// Headers, one a line, as `verify` reads them back from `dlq`; then the value.
pub fn dlq_headers(input: &[u8]) -> u64 {
    let mut headers = Vec::new();
    for line in input.split(|b| *b == b'\n') {
        let colon = line.windows(2).position(|pair| pair == b": ").unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        headers.push((String::from_utf8_lossy(name), value.get(2..)));
        assert!(!terminal::escape(line).chars().any(terminal::is_unsafe), "a terminal would obey");
    }
    let headers: Vec<(Cow<'_, str>, Option<&[u8]>)> = headers;
    let read = stocktide_verify::outside::dead_letter(&headers);
    answer(&format!(
        "{:?} {} {} {}",
        read.reason,
        read.topic.is_some(),
        read.partition.is_some(),
        read.offset.is_some()
    ))
}

/// The file of `dlq replay --replace`.
pub fn dlq_replacements(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    match Edit::replacements(&text) {
        Ok(edit) => match edit.apply(&reject(b"{\"event_id\":\"01890a5d-ac96-774b-bcce-b302099a8057\"}")) {
            Ok(new) => u64::from(new.is_some()),
            Err(error) => told(&error.to_string()),
        },
        Err(error) => told(&error.to_string()),
    }
}

/// The expression of `dlq replay --jq`, compiled and not run: one that never ends is its author's business.
pub fn jq_expressions(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    match Edit::jq(&text) {
        Ok(_) => 1,
        Err(error) => told(&error.to_string()),
    }
}

/// A record's value that an expression is to mend.
pub fn jq_values(input: &[u8]) -> u64 {
    let mut answers = String::new();
    for expression in [".", ".items[0].quantity = 1", ".items |= map(.product_id)", "del(..|nulls)"] {
        let Ok(edit) = Edit::jq(expression) else { continue };
        match edit.apply(&reject(input)) {
            Ok(new) => {
                if let Some(new) = new {
                    assert!(is_json(&new), "no JSON came out");
                }
                answers.push('a');
            }
            Err(error) => answers.push_str(&error.to_string()),
        }
    }
    answer(&answers)
}

/// What `stocktide send` is given.
pub fn sent(input: &[u8]) -> u64 {
    match outgoing::parse(input, "order_id", Uuid::nil) {
        Ok(events) => {
            for event in &events {
                assert!(is_json(&event.value), "no JSON is sent");
            }
            answer(if events.len() > 1 { "several" } else { "one" })
        }
        Err(problems) => problems.first().map_or(0, |problem| told(&problem.to_string())),
    }
}

/// By the grammar: how large a number may be is its reader's business.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

fn reject(value: &[u8]) -> Reject {
    let handling = Handling {
        state: State::Open,
        resent: 0,
        attempts: 0,
        action: None,
        at: None,
        by: None,
        note: None,
        edited: None,
        sent_offset: None,
        replays: 0,
    };
    Reject {
        at: At { topic: "online_orders".to_owned(), partition: 0, offset: 41 },
        rejected_at: DateTime::UNIX_EPOCH,
        reason: None,
        detail: None,
        event_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().ok(),
        redacted: false,
        key: None,
        value: Some(value.to_vec()),
        headers: Vec::new(),
        handling,
    }
}
