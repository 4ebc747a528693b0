//! Random events through the fold and a real PostgreSQL, in random batch sizes, against a naive model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use chrono::{DateTime, TimeDelta, Utc};
use naive::{LOCATIONS, Model, ModelFate, PRODUCTS};
use proptest::prelude::*;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_domain::event::{
    Body, Event, Item, OrderStatus, Payment, PaymentStatus, Restock, RestockItem, RestockKind, Return, Sale,
    Source,
};
use stocktide_domain::{Money, fold};
use stocktide_store::{
    Batch, Numeric, Output, OutputBody, Partition, RawRecord, Span, Stand, Tick, Writer, WriterOptions,
    migrate,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

fn id(prefix: &'static str, n: u32) -> impl Strategy<Value = String> {
    (0..n).prop_map(move |i| format!("{prefix}{i}"))
}

fn product() -> impl Strategy<Value = String> {
    prop_oneof![19 => (0..PRODUCTS.len()).prop_map(|i| PRODUCTS[i].0.to_owned()), 1 => Just("nothing".to_owned())]
}

fn location() -> impl Strategy<Value = String> {
    prop_oneof![19 => (0..LOCATIONS.len()).prop_map(|i| LOCATIONS[i].to_owned()), 1 => Just("nowhere".to_owned())]
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let price = proptest::option::of((0i64..100_000).prop_map(Money::from_ten_thousandths));
    let item = (product(), 1i64..6, price);
    let item = item.prop_map(|(product_id, quantity, unit_price)| Item { product_id, quantity, unit_price });
    proptest::collection::vec(item, 1..4)
}

fn body() -> impl Strategy<Value = (Source, Body)> {
    let sale = (
        id("o", 8),
        proptest::option::of(id("u", 3)),
        location(),
        items(),
        proptest::option::of(0i64..300_000),
    );
    let sale = sale.prop_map(|(order_id, user_id, location_id, items, stated)| {
        let stated_value = stated.map(Money::from_ten_thousandths);
        let (payment_method, shipping_address) = (None, Some("1 High Street".to_owned()));
        Body::Sold(Sale {
            order_id,
            user_id,
            location_id,
            payment_method,
            shipping_address,
            stated_value,
            items,
        })
    });
    let back =
        (id("o", 8), proptest::option::of(id("o", 8)), proptest::option::of(id("u", 3)), location(), items());
    let back = back.prop_map(|(order_id, original_id, user_id, location_id, items)| {
        Body::Returned(Return { order_id, original_id, user_id, location_id, items })
    });
    let progress = (id("o", 8), any::<bool>()).prop_map(|(order_id, delivered)| {
        let status = if delivered { OrderStatus::Delivered } else { OrderStatus::Shipped };
        Body::Progressed { order_id, status }
    });
    let cancel = id("o", 8).prop_map(|order_id| Body::Cancelled { order_id });
    let item = (product(), prop_oneof![-4i64..0, 1i64..10]).prop_map(|(product_id, quantity)| RestockItem {
        product_id,
        quantity,
        unit_cost: Some(Money::from_ten_thousandths(7)),
    });
    let supplier_id =
        prop_oneof![8 => Just(Some("acme".to_owned())), 1 => Just(None), 1 => Just(Some("ghost".to_owned()))];
    let restock = (id("r", 5), location(), supplier_id, proptest::collection::vec(item, 1..4));
    let restock = restock.prop_map(|(restock_id, location_id, supplier_id, items)| {
        let (kind, note) = (RestockKind::Adjustment, Some("count".to_owned()));
        Body::Restocked(Restock { restock_id, supplier_id, location_id, kind, note, items })
    });
    let amount = proptest::option::of(prop_oneof![Just(10_000_i64), 0..300_000_i64]);
    let status = proptest::sample::select(PaymentStatus::ALL.to_vec());
    let payment = (id("p", 6), id("o", 10), status, amount);
    let payment = payment.prop_map(|(payment_id, order_id, status, amount)| {
        let amount = amount.map(Money::from_ten_thousandths);
        let (payment_method, card_last_four) = (Some("card".to_owned()), Some("0042".to_owned()));
        Body::Paid(Payment { payment_id, order_id, payment_method, card_last_four, status, amount })
    });
    prop_oneof![
        4 => payment.prop_map(|b| (Source::Payments, b)),
        4 => sale.prop_flat_map(|s| (prop_oneof![Just(Source::OnlineOrders), Just(Source::StoreSales)], Just(s))),
        3 => back.prop_flat_map(|s| (prop_oneof![Just(Source::OnlineOrders), Just(Source::StoreSales)], Just(s))),
        1 => progress.prop_map(|b| (Source::OnlineOrders, b)),
        2 => cancel.prop_map(|b| (Source::OnlineOrders, b)),
        2 => restock.prop_map(|b| (Source::SupplierRestocks, b)),
    ]
}

/// A source, a partition, and an event whose id comes from a small pool, so that some come twice.
fn record() -> impl Strategy<Value = (Source, i32, Event)> {
    (body(), 0..2i32, 0..60u128, 0..90i64).prop_map(|((source, body), partition, event_id, days)| {
        let occurred_at = DateTime::from_timestamp(1_291_190_400, 0).unwrap() + TimeDelta::days(days);
        (source, partition, Event { event_id: Uuid::from_u128(event_id), occurred_at, body })
    })
}

struct Server {
    runtime: tokio::runtime::Runtime,
    stack: Stack,
}

/// One PostgreSQL for the tests of this file; each case has a database of its own.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stack =
            runtime.block_on(Stack::start(StackOptions { kafka: false, ..StackOptions::default() })).unwrap();
        Server { runtime, stack }
    })
}

async fn fresh_database(stack: &Stack) -> (String, Client) {
    let url = stack.create_database(&format!("t{}", Uuid::new_v4().simple())).await.unwrap();
    migrate::run(&url, "GBP", "Europe/London").await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for (name, price, stock) in PRODUCTS {
        let kind = if stock { "stock" } else { "service" };
        let sql = "INSERT INTO products (product_id, name, price, currency, kind, reorder_point) VALUES ($1, $1, $2, 'GBP', $3, 2)";
        client.execute(sql, &[&name, &Numeric(i128::from(price)), &kind]).await.unwrap();
    }
    for name in LOCATIONS {
        let sql = "INSERT INTO locations VALUES ($1, $1, 'store', 'UTC')";
        client.execute(sql, &[&name]).await.unwrap();
    }
    client.execute("INSERT INTO suppliers VALUES ('acme', 'Acme')", &[]).await.unwrap();
    (url, client)
}

fn options(url: String, reject_uncovered: bool) -> WriterOptions {
    let lock_timeout = std::time::Duration::from_secs(5);
    let (timezone, payments_wait) = (chrono_tz::Europe::London, std::time::Duration::from_mins(10));
    WriterOptions { url, timezone, reject_uncovered, lock_timeout, payments_wait }
}

/// How often a batch may wait for the database, however many records it holds: look-up, writing and COMMIT; a COPY into each of seven
/// tables; the lines of orders that something comes back from, of each of two topics; the lock on stock, in two steps; and the
/// catalogue, the first time.
fn most_round_trips(decoded: &[fold::Record], reject_uncovered: bool, is_first: bool) -> u32 {
    let with_lines = decoded.iter().filter(|record| matches!(fold::references(record), Some((_, true))));
    let topics: BTreeSet<Source> = with_lines.map(|record| record.source).collect();
    3 + 7 + topics.len() as u32 + if reject_uncovered { 2 } else { 0 } + u32::from(is_first)
}

/// Applies the events in batches of the given sizes, as the processor would, and returns what it would publish.
async fn apply_all(
    writer: &mut Writer,
    records: &[(Source, i32, Event)],
    sizes: &[usize],
    reject_uncovered: bool,
) -> Vec<Output> {
    let partitions: BTreeSet<Partition> = records.iter().map(|(s, p, _)| (*s, *p)).collect();
    let starts = partitions.iter().map(|p| (*p, 0)).collect();
    let mut positions: BTreeMap<Partition, i64> =
        writer.positions(&starts).await.unwrap().into_iter().map(|(p, at)| (p, at.next_offset)).collect();
    let mut offsets: BTreeMap<Partition, i64> = positions.clone();
    let mut outputs = Vec::new();
    let (mut at, mut batches, mut sizes) = (0, 0, sizes.iter().cycle());
    while at < records.len() {
        let part = &records[at..records.len().min(at + sizes.next().unwrap())];
        at += part.len();
        batches += 1;
        let mut spans = BTreeMap::new();
        let (mut raw, mut decoded) = (Vec::new(), Vec::new());
        for (source, partition, event) in part {
            let offset = offsets.get_mut(&(*source, *partition)).unwrap();
            let value = Some(b"{}".to_vec());
            raw.push(RawRecord { offset: *offset, value, ..RawRecord::default() });
            decoded.push(fold::Record { source: *source, partition: *partition, decoded: Ok(event.clone()) });
            let (last_offset, last_digest, published) = (*offset, vec![0; 32], None);
            let expected = positions[&(*source, *partition)];
            *offset += 1;
            spans.insert(
                (*source, *partition),
                Span { expected, timer_seq: None, next: *offset, last_offset, last_digest, published },
            );
        }
        let now: DateTime<Utc> = DateTime::from_timestamp(1_300_000_000 + batches, 0).unwrap();
        let batch = Batch { raw: &raw, decoded: &decoded, spans: &spans, now };
        let applied = match writer.apply(batch).await {
            // A known order was met where none was expected: the rerun looks them up.
            Err(stocktide_store::StoreError::Contended(_)) => {
                assert!(!writer.is_closed(), "the connection stays in step");
                writer.apply(batch).await.unwrap()
            }
            other => other.unwrap(),
        };
        let most = most_round_trips(&decoded, reject_uncovered, at == part.len());
        let took = applied.timings.round_trips;
        assert!(took <= most, "{took} round trips for {} records, {most} are allowed", part.len());
        outputs.extend(applied.outputs);
        positions.extend(spans.iter().map(|(p, s)| (*p, s.next)));
    }
    outputs
}

/// The model takes the events as the processor settles them: of each batch first what is no payment.
fn model_fates(model: &mut Model, records: &[(Source, i32, Event)], sizes: &[usize]) -> Vec<ModelFate> {
    let mut fates = vec![ModelFate::Parked; records.len()];
    let (mut begin, mut sizes) = (0, sizes.iter().cycle());
    while begin < records.len() {
        let end = records.len().min(begin + sizes.next().unwrap());
        for payments in [false, true] {
            for at in begin..end {
                let (source, partition, event) = &records[at];
                if (*source == Source::Payments) == payments {
                    fates[at] = model.take(*source, *partition, at, event);
                }
            }
        }
        begin = end;
    }
    fates
}

/// Lets the timer look once, at a time that is so far ahead; what it put out equals what is made again from the log.
async fn tick(writer: &mut Writer, client: &Client, ahead: TimeDelta, model: &mut Model, time_is_up: bool) {
    let sql = "SELECT partition, next_offset, timer_seq FROM partition_progress WHERE topic = 'payments'";
    let rows = client.query(sql, &[]).await.unwrap();
    let stand = |row: &tokio_postgres::Row| Stand { next_offset: row.get(1), timer_seq: row.get(2) };
    let stands: BTreeMap<i32, Stand> = rows.iter().map(|row| (row.get(0), stand(row))).collect();
    let now = DateTime::from_timestamp(1_300_000_000, 0).unwrap() + ahead;
    let ticked = writer.tick(Tick { stands: &stands, now, since: None }).await.unwrap();
    let (joined, rejected) = model.tick(time_is_up);
    assert_eq!(
        (ticked.joined as usize, reasons(&ticked.outputs)),
        (joined, rejected.iter().map(|r| (*r).to_owned()).collect())
    );
    assert!(!ticked.more);
    let mut again = Vec::new();
    for (partition, timer_seq) in &ticked.timers {
        again.extend(
            writer.timer_outputs_of(*partition, stands[partition].timer_seq, *timer_seq, None).await.unwrap(),
        );
    }
    assert_eq!(ticked.outputs, again, "the timer's outputs made again from the database alone");
    let waiting =
        "SELECT (SELECT count(*) FROM parked_payments), sum(parked)::bigint FROM partition_progress";
    let waiting = client.query_one(waiting, &[]).await.unwrap();
    let counted: i64 = ticked.waiting.values().sum();
    assert_eq!((waiting.get::<_, i64>(0), waiting.get::<_, i64>(1)), (counted, counted), "what waits");
    if time_is_up {
        assert_eq!(counted, 0);
    }
}

async fn compare_payments(client: &Client, model: &Model) {
    let sql = "SELECT payment_id, order_id, payment_status, payment_datetime, amount, amount_mismatch FROM payments";
    let rows = client.query(sql, &[]).await.unwrap();
    let paid = |r: &tokio_postgres::Row| {
        let at = r.get::<_, DateTime<Utc>>(3).timestamp_micros();
        let status = PaymentStatus::from_name(r.get(2)).unwrap();
        (r.get(1), status, at, r.get::<_, Option<Numeric>>(4).map(|amount| amount.0 as i64), r.get(5))
    };
    let payments: BTreeMap<String, naive::Paid> = rows.iter().map(|r| (r.get(0), paid(r))).collect();
    assert_eq!(payments, model.payments(), "payments");
}

async fn compare(client: &Client, model: &Model, fates: &[ModelFate]) {
    let rows = client
        .query("SELECT product_id, location_id, quantity_on_hand, version FROM inventory", &[])
        .await
        .unwrap();
    let stock: BTreeMap<(String, String), (i64, i64)> = rows
        .iter()
        .map(|r| ((r.get(0), r.get(1)), (r.get(2), r.get(3))))
        .filter(|(_, row)| *row != (0, 0))
        .collect();
    assert_eq!(stock, model.stock, "stock");

    let rows =
        client.query("SELECT source, order_id, status, order_value FROM order_headers", &[]).await.unwrap();
    let headers: BTreeMap<(String, String), (String, i64)> =
        rows.iter().map(|r| ((r.get(0), r.get(1)), (r.get(2), r.get::<_, Numeric>(3).0 as i64))).collect();
    assert_eq!(headers, model.headers(), "orders");

    let sql = "SELECT sum(applied)::bigint, sum(duplicates)::bigint, sum(rejected)::bigint, sum(parked)::bigint FROM partition_progress";
    let row = client.query_one(sql, &[]).await.unwrap();
    let counted = |of: fn(&ModelFate) -> bool| fates.iter().filter(|f| of(f)).count() as i64;
    let expected = [
        counted(|f| *f == ModelFate::Applied),
        counted(|f| *f == ModelFate::Duplicate),
        counted(|f| matches!(f, ModelFate::Rejected(_))),
        counted(|f| *f == ModelFate::Parked),
    ];
    assert_eq!([0, 1, 2, 3].map(|i| row.get::<_, i64>(i)), expected, "fates");

    let sql = "SELECT user_id, orders, units, gross, cancelled_orders, cancelled_value, returned_value FROM user_stats";
    let money = |r: &tokio_postgres::Row, i| r.get::<_, Numeric>(i).0 as i64;
    let rows = client.query(sql, &[]).await.unwrap();
    let users: BTreeMap<String, naive::User> = rows
        .iter()
        .map(|r| {
            let (gross, cancelled, returned) = (money(r, 3), money(r, 5), money(r, 6));
            let (orders, units, cancelled_orders) = (r.get(1), r.get(2), r.get(4));
            (r.get(0), naive::User { orders, units, gross, cancelled_orders, cancelled, returned })
        })
        .collect();
    assert_eq!(users, model.users, "user statistics");

    let sql = "SELECT coalesce(sum(orders), 0), coalesce(sum(units), 0), coalesce(sum(gross), 0), coalesce(sum(cancelled_orders), 0),
        coalesce(sum(cancelled_units), 0), coalesce(sum(cancelled_value), 0), coalesce(sum(returns), 0),
        coalesce(sum(returned_units), 0), coalesce(sum(returned_value), 0) FROM sales_by_month";
    let row = client.query_one(sql, &[]).await.unwrap();
    let totals = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|i| money(&row, i));
    let expected = model.totals.iter().enumerate().map(|(i, n)| if i % 3 == 2 { *n } else { n * 10_000 });
    assert_eq!(totals.to_vec(), expected.collect::<Vec<_>>(), "monthly totals");
}

fn updates(outputs: &[Output]) -> Vec<(String, String, i64, i64, i64)> {
    let update = |output: &Output| match &output.body {
        OutputBody::Update { value, .. } => {
            let v: serde_json::Value = serde_json::from_slice(value).unwrap();
            let (text, number) =
                (|k: &str| v[k].as_str().unwrap().to_owned(), |k: &str| v[k].as_i64().unwrap());
            Some((
                text("product_id"),
                text("location_id"),
                number("delta"),
                number("quantity_on_hand"),
                number("version"),
            ))
        }
        OutputBody::DeadLetter(_) => None,
    };
    outputs.iter().filter_map(update).collect()
}

fn reasons(outputs: &[Output]) -> Vec<String> {
    let reason = |output: &Output| match &output.body {
        OutputBody::DeadLetter(letter) => Some(letter.reason.clone()),
        OutputBody::Update { .. } => None,
    };
    outputs.iter().filter_map(reason).collect()
}

/// Applies the records in batches of these sizes, and holds everything against the model.
fn check(records: &[(Source, i32, Event)], sizes: &[usize], policy: bool) {
    let server = server();
    server.runtime.block_on(async {
        let (url, client) = fresh_database(&server.stack).await;
        let mut model = Model::new(policy);
        let fates = model_fates(&mut model, records, sizes);
        let mut writer = Writer::connect(options(url, policy)).await.unwrap();
        let outputs = Box::pin(apply_all(&mut writer, records, sizes, policy)).await;
        assert_eq!(updates(&outputs), model.updates, "inventory_updates");
        let rejected: Vec<&str> = fates.iter().filter_map(|f| match f { ModelFate::Rejected(r) => Some(*r), _ => None }).collect();
        assert_eq!(reasons(&outputs), rejected, "dlq");
        compare(&client, &model, &fates).await;
        let mut again = Vec::new();
        for (partition, position) in writer.positions(&records.iter().map(|(s, p, _)| ((*s, *p), 0)).collect()).await.unwrap() {
            again.extend(writer.outputs_of(partition, 0, position.next_offset, None).await.unwrap());
        }
        let key = |o: &Output| format!("{o:?}");
        let (mut made, mut remade): (Vec<String>, Vec<String>) = (outputs.iter().map(key).collect(), again.iter().map(key).collect());
        made.sort();
        remade.sort();
        assert_eq!(made, remade, "outputs made again from the database alone");
        compare_payments(&client, &model).await;
        tick(&mut writer, &client, TimeDelta::minutes(5), &mut model, false).await;
        compare_payments(&client, &model).await;
        tick(&mut writer, &client, TimeDelta::minutes(15), &mut model, true).await;
        compare_payments(&client, &model).await;
        let left = "SELECT count(*) FROM applied_events WHERE event_id NOT IN (SELECT event_id FROM events_log WHERE status = 'applied')";
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0, "the dedupe forgets what was rejected");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_events_in_random_batches_end_as_one_at_a_time_in_the_model(
        records in proptest::collection::vec(record(), 1..120),
        sizes in proptest::collection::vec(1usize..40, 1..6),
        policy in any::<bool>(),
    ) {
        check(&records, &sizes, policy);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// More records than are settled, and rows than are made, at a time.
    #[test]
    fn so_do_batches_that_go_out_in_many_pieces(
        records in proptest::collection::vec(record(), 1_100..1_700), size in 550usize..1_700, policy in any::<bool>(),
    ) {
        let mut records = records;
        for (at, (.., event)) in records.iter_mut().enumerate() {
            // Most of them new, up to the end.
            event.event_id = Uuid::from_u128(event.event_id.as_u128() + at as u128 / 40 * 60);
        }
        check(&records, &[size], policy);
    }
}
