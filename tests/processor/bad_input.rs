//! Bad input and odd input, through a real Kafka, the processor and a real PostgreSQL: each case meets the fate that its
//! name tells, and harms nobody else.
//!
//! One stack serves them all. Every case is sent, one processor settles them together, and each test looks at its own.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::World;
use crate::support::fates::Fate::{Applied, Duplicate, Parked, Rejected};
use crate::support::fates::{Fate, Fates, Line};
use crate::support::records::{Coordinates, Record, of, order, payment, restock, sale, with, without};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use serde_json::{Value, json};
use stocktide_processor::Summary;
use stocktide_verify::{Report, VerifyOptions};
use uuid::Uuid;

const ORDERS: &str = "online_orders";
const SALES: &str = "store_sales";
const RESTOCKS: &str = "supplier_restocks";
const PAYMENTS: &str = "payments";
/// The topics' `max.message.bytes`.
const LARGEST_BATCH: usize = 4_194_304;
/// What a batch of one record with a key of 5 bytes and no headers adds to its value.
const FRAMING: usize = 61 + 4 + 3 + 1 + 5 + 4 + 1;
const MEBIBYTE: usize = 1 << 20;
const CARD: &str = "4111 1111 1111 1111";
const MASKED: &str = "**** **** **** 1111";

fn bad(event: Value) -> Vec<Record> {
    vec![Record::event(ORDERS, &event)]
}

fn paid(event: Value) -> Vec<Record> {
    vec![Record::event(PAYMENTS, &event)]
}

fn raw(value: impl Into<Vec<u8>>) -> Vec<Record> {
    vec![Record::new(ORDERS, value)]
}

/// An order's JSON with a piece of its text replaced.
fn text(from: &str, to: &str) -> Vec<Record> {
    let text = order().to_string();
    assert!(text.contains(from), "{text}");
    raw(text.replacen(from, to, 1))
}

/// Something that happens to an order, without items.
fn about(order_id: &str, kind: &str) -> Value {
    with(with(without(order(), "items"), "order_id", order_id), "type", kind)
}

fn padded(bytes: usize) -> Value {
    with(order(), "comment", "a".repeat(bytes))
}

fn with_lines(product: &str, lines: usize) -> Value {
    let line = json!({"product_id": product, "quantity": 1});
    with(order(), "items", vec![line; lines])
}

/// Bytes that no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}

macro_rules! cases {
    ($($name:ident: $records:expr => [$($fate:expr),+];)*) => {
        fn cases() -> Vec<(&'static str, Vec<Record>, Vec<Fate>)> {
            vec![$((stringify!($name), $records, vec![$($fate),+])),*]
        }

        $(#[test] fn $name() { OUTCOME.check(stringify!($name)); })*
    };
}

cases! {
    // No JSON
    json_that_breaks_off_is_rejected_as_malformed_json: raw("{\"order_id\": ") => [Rejected("malformed_json")];
    words_are_rejected_as_malformed_json: raw("hello") => [Rejected("malformed_json")];
    bytes_that_are_not_utf8_are_rejected_as_malformed_json: raw(b"{\"order_id\": \"\xff\xfe\"}") => [Rejected("malformed_json")];
    an_empty_value_is_rejected_as_malformed_json: raw("") => [Rejected("malformed_json")];
    a_tombstone_is_rejected_as_malformed_json: vec![Record::tombstone(ORDERS)] => [Rejected("malformed_json")];
    nan_is_rejected_as_malformed_json: text("\"quantity\":1", "\"quantity\":NaN") => [Rejected("malformed_json")];
    infinity_is_rejected_as_malformed_json: text("\"quantity\":1", "\"quantity\":Infinity") => [Rejected("malformed_json")];
    half_a_surrogate_pair_is_rejected_as_malformed_json: text("\"u1\"", "\"\\ud800\"") => [Rejected("malformed_json")];
    what_follows_the_object_is_rejected_as_malformed_json: raw(format!("{}{}", order(), order())) => [Rejected("malformed_json")];

    // Another shape
    a_list_is_rejected_as_schema_violation: raw("[]") => [Rejected("schema_violation")];
    a_json_null_is_rejected_as_schema_violation: raw("null") => [Rejected("schema_violation")];
    a_quantity_in_words_is_rejected_as_schema_violation: bad(with(order(), "items/0/quantity", "1")) => [Rejected("schema_violation")];
    items_that_are_no_list_are_rejected_as_schema_violation: bad(with(order(), "items", json!({}))) => [Rejected("schema_violation")];
    an_event_id_that_is_no_uuid_is_rejected_as_schema_violation: bad(with(order(), "event_id", "17")) => [Rejected("schema_violation")];
    a_time_without_offset_is_rejected_as_schema_violation: bad(with(order(), "order_timestamp", "2025-03-01T10:00:00")) => [Rejected("schema_violation")];
    an_unknown_type_is_rejected_as_schema_violation: bad(with(order(), "type", "lost")) => [Rejected("schema_violation")];
    an_order_without_event_id_is_rejected_as_schema_violation: bad(without(order(), "event_id")) => [Rejected("schema_violation")];
    an_order_without_order_id_is_rejected_as_schema_violation: bad(without(order(), "order_id")) => [Rejected("schema_violation")];
    an_order_without_time_is_rejected_as_schema_violation: bad(without(order(), "order_timestamp")) => [Rejected("schema_violation")];
    an_order_without_items_is_rejected_as_schema_violation: bad(without(order(), "items")) => [Rejected("schema_violation")];
    an_order_of_0_lines_is_rejected_as_schema_violation: bad(with(order(), "items", json!([]))) => [Rejected("schema_violation")];
    a_line_without_product_is_rejected_as_schema_violation: bad(without(order(), "items/0/product_id")) => [Rejected("schema_violation")];
    a_sale_without_store_is_rejected_as_schema_violation: vec![Record::event(SALES, &without(sale(), "store_id"))] => [Rejected("schema_violation")];
    a_restock_without_location_is_rejected_as_schema_violation: vec![Record::event(RESTOCKS, &without(restock(), "location_id"))] => [Rejected("schema_violation")];
    a_key_that_stands_twice_is_rejected_as_schema_violation: text("{", "{\"order_id\":\"other\",") => [Rejected("schema_violation")];
    a_key_that_stands_twice_in_a_line_is_rejected_as_schema_violation: text("\"quantity\":1", "\"quantity\":1,\"quantity\":2") => [Rejected("schema_violation")];
    a_nul_in_a_text_is_rejected_as_schema_violation: bad(with(order(), "user_id", "a\0b")) => [Rejected("schema_violation")];

    // Payments
    a_payment_without_order_id_is_rejected_as_schema_violation: paid(without(payment("x"), "order_id")) => [Rejected("schema_violation")];
    a_payment_without_status_is_rejected_as_schema_violation: paid(without(payment("x"), "payment_status")) => [Rejected("schema_violation")];
    a_payment_of_an_unknown_status_is_rejected_as_schema_violation: paid(with(payment("x"), "payment_status", "lost")) => [Rejected("schema_violation")];
    three_last_digits_are_rejected_as_schema_violation: paid(with(payment("x"), "card_last_four", "123")) => [Rejected("schema_violation")];
    a_negative_payment_is_rejected_as_invalid_price: paid(with(payment("x"), "amount", -1)) => [Rejected("invalid_price")];
    a_payment_in_dollars_is_rejected_as_currency_mismatch: paid(with(payment("x"), "currency", "USD")) => [Rejected("currency_mismatch")];
    a_payment_tombstone_is_rejected_as_malformed_json: vec![Record::tombstone(PAYMENTS)] => [Rejected("malformed_json")];
    a_payment_with_a_full_card_number_is_rejected_as_card_number: vec![Record::event(PAYMENTS, &with(payment("x"), "card_last_four", CARD)).masked(CARD, MASKED)] => [Rejected("card_number")];
    a_payment_without_its_order_waits: paid(payment("never placed")) => [Parked];

    // Values that are not allowed
    an_unknown_product_is_rejected_as_unknown_product: bad(of(order(), "unicorn", 1)) => [Rejected("unknown_product")];
    an_unknown_location_is_rejected_as_unknown_location: bad(with(order(), "location_id", "moon")) => [Rejected("unknown_location")];
    an_unknown_store_is_rejected_as_unknown_location: vec![Record::event(SALES, &with(sale(), "store_id", "moon"))] => [Rejected("unknown_location")];
    an_unknown_supplier_is_rejected_as_unknown_supplier: vec![Record::event(RESTOCKS, &with(restock(), "supplier_id", "nobody"))] => [Rejected("unknown_supplier")];
    a_quantity_of_0_is_rejected_as_invalid_quantity: bad(of(order(), "apple", 0)) => [Rejected("invalid_quantity")];
    a_negative_quantity_is_rejected_as_invalid_quantity: bad(of(order(), "apple", -1)) => [Rejected("invalid_quantity")];
    a_negative_delivery_is_rejected_as_invalid_quantity: vec![Record::event(RESTOCKS, &of(restock(), "apple", -1))] => [Rejected("invalid_quantity")];
    a_huge_quantity_is_rejected_as_invalid_quantity: bad(of(order(), "apple", 10_000_001)) => [Rejected("invalid_quantity")];
    a_quantity_beyond_64_bits_is_rejected_as_invalid_quantity: text("\"quantity\":1", "\"quantity\":1e400") => [Rejected("invalid_quantity")];
    half_a_unit_is_rejected_as_invalid_quantity: text("\"quantity\":1", "\"quantity\":0.5") => [Rejected("invalid_quantity")];
    a_price_with_5_decimals_is_rejected_as_invalid_price: bad(with(order(), "items/0/price_per_unit", "1.00001")) => [Rejected("invalid_price")];
    a_negative_price_is_rejected_as_invalid_price: bad(with(order(), "items/0/price_per_unit", -1)) => [Rejected("invalid_price")];
    a_price_called_nan_is_rejected_as_invalid_price: bad(with(order(), "items/0/price_per_unit", "NaN")) => [Rejected("invalid_price")];
    a_huge_price_is_rejected_as_invalid_price: text("\"price_per_unit\":1", "\"price_per_unit\":1e300") => [Rejected("invalid_price")];
    an_order_beyond_all_money_is_rejected_as_invalid_price: bad(with(of(order(), "apple", 10_000_000), "items/0/price_per_unit", "1000000000")) => [Rejected("invalid_price")];
    an_unknown_currency_is_rejected_as_currency_mismatch: bad(with(order(), "currency", "XTS")) => [Rejected("currency_mismatch")];
    the_year_1_is_rejected_as_timestamp_out_of_range: bad(with(order(), "order_timestamp", "0001-01-01T00:00:00Z")) => [Rejected("timestamp_out_of_range")];
    the_year_9999_is_rejected_as_timestamp_out_of_range: bad(with(order(), "order_timestamp", "9999-12-31T23:59:59Z")) => [Rejected("timestamp_out_of_range")];

    // Too much
    a_record_of_2_mb_is_rejected_as_too_large: bad(padded(2_000_000)) => [Rejected("too_large")];
    a_record_at_the_topics_limit_is_rejected_as_too_large_and_reaches_dlq_whole: vec![Record::new(ORDERS, noise(LARGEST_BATCH - FRAMING)).key("limit").bare()] => [Rejected("too_large")];
    deep_nesting_is_rejected_as_too_large: text("{", &format!("{{\"deep\":{}{},", "[".repeat(100_000), "]".repeat(100_000))) => [Rejected("too_large")];
    an_id_of_257_bytes_is_rejected_as_too_large: bad(with(order(), "order_id", "x".repeat(257))) => [Rejected("too_large")];
    an_order_of_10001_lines_is_rejected_as_too_large: bad(with_lines("bulk", 10_001)) => [Rejected("too_large")];

    // Card numbers
    a_card_number_in_a_field_is_rejected_as_card_number: vec![Record::event(ORDERS, &with(order(), "payment_method", CARD)).masked(CARD, MASKED)] => [Rejected("card_number")];
    a_card_number_in_several_places_is_rejected_as_card_number_and_kept_nowhere: vec![
        Record::event(ORDERS, &with(with(order(), "shipping_address", json!({"note": [CARD]})), "unheard_of", CARD))
            .key(CARD).header("card", Some(CARD.as_bytes())).masked(CARD, MASKED)] => [Rejected("card_number")];
    a_card_number_in_what_is_no_json_is_masked_too: vec![Record::new(ORDERS, format!("paid by {CARD}")).masked(CARD, MASKED)] => [Rejected("card_number")];

    // Orders and what becomes of them
    an_order_placed_again_is_rejected_as_order_conflict: {
        let first = order();
        vec![Record::event(ORDERS, &first), Record::event(ORDERS, &with(first, "event_id", Uuid::now_v7().to_string()))]
    } => [Applied, Rejected("order_conflict")];
    a_cancellation_before_its_order_is_rejected_as_unknown_order: vec![
        Record::event(ORDERS, &about("early", "cancelled")),
        Record::event(ORDERS, &with(of(order(), "early", 2), "order_id", "early"))] => [Rejected("unknown_order"), Applied];
    a_second_cancellation_is_rejected_as_already_cancelled: vec![
        Record::event(ORDERS, &with(of(order(), "given-back", 3), "order_id", "back")),
        Record::event(ORDERS, &about("back", "cancelled")),
        Record::event(ORDERS, &about("back", "cancelled"))] => [Applied, Applied, Rejected("already_cancelled")];
    a_shipment_of_an_unknown_order_is_rejected_as_unknown_order: bad(about("nowhere", "shipped")) => [Rejected("unknown_order")];
    a_return_to_an_unknown_original_is_rejected_as_unknown_order: bad(with(with(order(), "type", "returned"), "original_id", "nowhere")) => [Rejected("unknown_order")];
    a_return_without_original_is_applied: bad(with(order(), "type", "returned")) => [Applied];
    more_back_than_was_sold_is_rejected_as_over_return: vec![
        Record::event(ORDERS, &with(of(order(), "apple", 2), "order_id", "over")),
        Record::event(ORDERS, &with(with(of(order(), "apple", 3), "type", "returned"), "original_id", "over"))] => [Applied, Rejected("over_return")];

    // The same event again
    the_same_event_id_with_different_content_is_a_duplicate: {
        let first = of(order(), "once", 1);
        let other = with(of(order(), "once", 7), "event_id", first["event_id"].clone());
        vec![Record::event(ORDERS, &first), Record::event(ORDERS, &other)]
    } => [Applied, Duplicate];
    an_event_id_whose_record_was_rejected_may_come_back_mended: {
        let mended = of(order(), "mended", 1);
        vec![Record::event(ORDERS, &with(mended.clone(), "items/0/quantity", 0)), Record::event(ORDERS, &mended)]
    } => [Rejected("invalid_quantity"), Applied];

    // Odd, and allowed
    unknown_fields_are_applied: bad(with(with(order(), "gift_wrap", true), "items/0/colour", "red")) => [Applied];
    an_unknown_field_that_stands_twice_is_applied: text("{", "{\"x\":1,\"x\":2,") => [Applied];
    a_price_of_0_is_applied: bad(with(order(), "items/0/price_per_unit", 0)) => [Applied];
    ids_that_are_numbers_are_applied: bad(with(with(order(), "order_id", 17), "user_id", 4)) => [Applied];
    an_order_of_10000_lines_is_applied: bad(with_lines("bulk", 10_000)) => [Applied];
    a_product_twice_in_one_order_is_applied_as_one_change: bad(with(order(), "items", json!([
        {"product_id": "twice", "quantity": 2}, {"product_id": "apple", "quantity": 1}, {"product_id": "twice", "quantity": 3}]))) => [Applied];
    a_record_without_key_is_applied: vec![Record::event(ORDERS, &order()).without_key()] => [Applied];
    a_broken_record_without_key_is_rejected_and_stays_without: vec![Record::new(ORDERS, "{").without_key()] => [Rejected("malformed_json")];
    a_header_whose_name_is_not_utf8_does_no_harm: vec![Record::new(ORDERS, "{").header(b"caf\xe9", Some(b"\xff")).at_partition(0)] => [Rejected("malformed_json")];
    headers_of_an_earlier_rejection_stay_before_the_new_ones: vec![Record::new(ORDERS, "{")
        .header("__connect.errors.topic", Some(b"elsewhere")).header("__connect.errors.offset", Some(b"7"))
        .header("stocktide.reason", Some(b"unknown_product"))] => [Rejected("malformed_json")];

    // Small on the wire, large when it is unpacked
    a_value_of_20_mb_in_zstd_is_rejected_as_too_large: vec![Record::event(ORDERS, &padded(20 * MEBIBYTE)).compressed("zstd")] => [Rejected("too_large")];
    // More than librdkafka unpacks by default: it would stand still before it for ever.
    a_value_of_110_mb_in_zstd_is_rejected_as_too_large: vec![Record::event(ORDERS, &padded(110 * MEBIBYTE)).compressed("zstd")] => [Rejected("too_large")];
    a_value_of_20_mb_in_gzip_is_rejected_as_too_large: vec![Record::event(ORDERS, &padded(20 * MEBIBYTE)).compressed("gzip")] => [Rejected("too_large")];
}

/// What became of all cases.
struct Outcome {
    sent: BTreeMap<&'static str, Vec<(Record, Coordinates)>>,
    fates: Fates,
    stock: BTreeMap<String, (i64, i64)>,
    summary: Summary,
    refused: Refused,
    report: Report,
}

/// The second part: a database that refuses some rows.
struct Refused {
    sent: Vec<(Record, Coordinates)>,
    summary: Summary,
}

static OUTCOME: LazyLock<Outcome> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap().block_on(Outcome::of_all()));

impl Outcome {
    async fn of_all() -> Outcome {
        // A linger that lets good and bad meet in one batch.
        let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_LINGER", "200ms")]).await;
        world.stock_shelves().await;
        world
            .execute(
                "INSERT INTO products (product_id, name, price, currency) SELECT p, p, 1, 'GBP'
                    FROM unnest('{bulk,early,given-back,mended,once,poison,shared,twice}'::text[]) p;
                 UPDATE installation SET catalogue_version = catalogue_version + 1",
            )
            .await;
        nothing_larger_is_accepted(&world).await;
        let (mut sender, mut sent) = (world.sender(), BTreeMap::new());
        for (name, records, _) in cases() {
            let labelled = records.into_iter().map(|record| record.labelled(name)).collect();
            sent.insert(name, sender.send(name, labelled).await);
        }
        sent.insert("shared", sender.send("shared", on_two_topics()).await);
        sent.insert("last", sender.send("last", bad(order())).await);
        let summary = world.process().await;
        let refused = refuse_some(&world).await;

        let report = stocktide_verify::run(&VerifyOptions::of(&world.config).unwrap()).await.unwrap();
        Outcome {
            sent,
            fates: Fates::read(&world).await,
            stock: world.stock().await,
            summary,
            refused,
            report,
        }
    }

    fn check(&self, name: &str) {
        let (_, _, expected) = cases().into_iter().find(|(case, ..)| *case == name).unwrap();
        let sent = &self.sent[name];
        assert_eq!(sent.len(), expected.len());
        for (sent, expected) in sent.iter().zip(expected) {
            self.fates.check(sent, expected);
        }
    }

    fn lines(&self, name: &str, at: usize) -> &[Line] {
        self.fates.lines_of(&self.sent[name][at].1)
    }

    fn all_sent(&self) -> impl Iterator<Item = &Coordinates> {
        self.sent.values().flatten().chain(&self.refused.sent).map(|(_, at)| at)
    }
}

fn on_two_topics() -> Vec<Record> {
    let order = of(order(), "shared", 1);
    let sale = with(of(sale(), "shared", 1), "event_id", order["event_id"].clone());
    vec![Record::event(ORDERS, &order), Record::event(SALES, &sale)]
}

/// That the record at the limit is at the limit.
async fn nothing_larger_is_accepted(world: &World) {
    let value = noise(LARGEST_BATCH - FRAMING + 1);
    let record: FutureRecord<'_, str, [u8]> = FutureRecord::to("payments").key("limit").payload(&value);
    let refused = world.producer().send(record, Duration::from_secs(30)).await.unwrap_err().0;
    assert_eq!(refused, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
}

/// 500 good orders with two among them that the database refuses, each in its own way.
async fn refuse_some(world: &World) -> Refused {
    world
        .execute(
            "CREATE FUNCTION no_poison() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no poison is sold here'; END $$;
             CREATE TRIGGER no_poison BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.product_id = 'poison') EXECUTE FUNCTION no_poison();
             ALTER TABLE order_headers ADD CONSTRAINT no_voodoo CHECK (payment_method <> 'voodoo')",
        )
        .await;
    let mut records: Vec<Record> = (0..500).map(|_| Record::event(ORDERS, &order())).collect();
    records[123] = Record::event(ORDERS, &of(order(), "poison", 1));
    records[321] = Record::event(ORDERS, &with(order(), "payment_method", "voodoo"));
    let records: Vec<Record> =
        records.into_iter().enumerate().map(|(i, r)| r.key(format!("order {i}"))).collect();
    let sent = world.sender().send("refused", records).await;
    Refused { sent, summary: world.process().await }
}

#[test]
fn the_same_event_id_on_two_topics_is_applied_once_and_a_duplicate_once() {
    let sent = &OUTCOME.sent["shared"];
    let first = usize::from(!OUTCOME.fates.logged.contains_key(&sent[0].1));
    OUTCOME.fates.check(&sent[first], Applied);
    OUTCOME.fates.check(&sent[1 - first], Duplicate);
    assert_eq!(OUTCOME.fates.updates_of(&sent[first].1).len(), 1);
}

#[test]
fn a_good_record_after_all_of_them_is_applied() {
    OUTCOME.fates.check(&OUTCOME.sent["last"][0], Applied);
    assert_eq!(OUTCOME.lines("last", 0)[0].delta, Some(-1));
}

#[test]
fn a_product_twice_in_one_order_makes_one_stock_change_of_both_lines() {
    let name = "a_product_twice_in_one_order_is_applied_as_one_change";
    let lines = OUTCOME.lines(name, 0).iter().filter(|line| line.product_id == "twice");
    let lines: Vec<_> = lines
        .map(|l| (l.quantity, l.delta, l.version, l.quantity_after, l.stock_status.as_deref()))
        .collect();
    let after = (Some(-5), Some(1), Some(-5), Some("oversold"));
    assert_eq!(lines, [(2, after.0, after.1, after.2, after.3), (3, after.0, after.1, after.2, after.3)]);
    let updates = OUTCOME.fates.updates_of(&OUTCOME.sent[name][0].1);
    assert_eq!(updates.iter().filter(|update| update["product_id"] == "twice").count(), 1);
}

#[test]
fn an_order_of_10000_lines_makes_one_stock_change_of_all() {
    assert_eq!(OUTCOME.lines("an_order_of_10000_lines_is_applied", 0).len(), 10_000);
    assert_eq!(OUTCOME.stock["bulk@online"], (-10_000, 1));
}

#[test]
fn a_cancellation_gives_back_once_and_an_early_one_nothing() {
    assert_eq!(OUTCOME.stock["given-back@online"], (0, 2));
    assert_eq!(OUTCOME.stock["early@online"], (-2, 1));
}

#[test]
fn a_duplicate_takes_no_stock() {
    assert_eq!((OUTCOME.stock["once@online"], OUTCOME.stock["mended@online"]), ((-1, 1), (-1, 1)));
}

#[test]
fn only_a_record_that_was_larger_than_its_topic_takes_is_cut_in_dlq() {
    let cut = |(_, at): &(Record, Coordinates)| {
        OUTCOME.fates.dlq.get(at).is_some_and(|reads| reads[0].header("stocktide.truncated").is_some())
    };
    let names: Vec<_> =
        OUTCOME.sent.iter().filter(|(_, sent)| sent.iter().any(cut)).map(|(name, _)| *name).collect();
    let expected = ["110_mb_in_zstd", "20_mb_in_gzip", "20_mb_in_zstd"];
    assert_eq!(names, expected.map(|value| format!("a_value_of_{value}_is_rejected_as_too_large")));
}

#[test]
fn what_the_database_refuses_is_rejected_alone_as_refused_by_database() {
    let Refused { sent, summary } = &OUTCOME.refused;
    for (i, record) in sent.iter().enumerate() {
        let refused = [123, 321].contains(&i);
        OUTCOME.fates.check(record, if refused { Rejected("refused_by_database") } else { Applied });
    }
    let detail = |i: usize| OUTCOME.fates.logged[&sent[i].1][0].detail.clone().unwrap();
    assert!(detail(123).contains("no poison is sold here"), "{}", detail(123));
    assert!(detail(321).contains("no_voodoo"), "{}", detail(321));
    assert_eq!((summary.consumed, summary.applied), (500, 498));
}

#[test]
fn consumed_is_the_sum_of_all_fates() {
    OUTCOME.fates.check_sums(OUTCOME.all_sent());
    let all: Vec<Fate> = cases().into_iter().flat_map(|(.., fates)| fates).collect();
    let count = |wanted: fn(&Fate) -> bool| all.iter().filter(|fate| wanted(fate)).count() as u64;
    let Summary { consumed, applied, duplicates, rejected, parked, .. } = &OUTCOME.summary;
    // The last record, and the event on two topics, are counted beside the cases.
    assert_eq!(*consumed, all.len() as u64 + 3);
    assert_eq!((*applied, *duplicates), (count(|f| *f == Applied) + 2, count(|f| *f == Duplicate) + 1));
    assert_eq!(rejected.values().sum::<u64>(), count(|f| matches!(f, Rejected(_))));
    assert_eq!(*parked, count(|f| *f == Parked));
    assert_eq!(OUTCOME.fates.dlq.len() as u64, rejected.values().sum::<u64>() + 2);
}

#[test]
fn every_promise_is_verified_afterwards() {
    assert!(OUTCOME.report.ok, "{}", serde_json::to_string_pretty(&OUTCOME.report).unwrap());
}
