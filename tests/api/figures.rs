//! Every figure, against what was sent through the processor.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Served;
use crate::command::{run, stocktide};
use crate::support::World;

fn order(id: &str, user: Option<&str>, at: &str, items: &Value) -> Value {
    let mut order =
        json!({"event_id": Uuid::now_v7(), "order_id": id, "order_timestamp": at, "items": items});
    if let Some(user) = user {
        order["user_id"] = json!(user);
    }
    order
}

fn item(product: &str, quantity: i64, price: &str) -> Value {
    json!({"product_id": product, "quantity": quantity, "price_per_unit": price})
}

/// Ann: 3 apples and postage (6.95), 10 loaves (25.50) cancelled, and 2 of 4 apples (4.00) returned. Bob: an order in
/// February (10.00) whose value was stated wrongly. A guest: 1 apple. The shop sells 5 loaves, has been sent 20.
async fn sell(world: &World) {
    let (ann, bob) = (Some("ann"), Some("bob"));
    let march = "2025-03-01T10:00:00Z";
    let mut wrong = order("o4", bob, "2025-02-10T10:00:00Z", &json!([item("apple", 10, "1.00")]));
    wrong["order_value"] = json!(1);
    wrong["shipping_address"] = json!("<b>1 High St</b>");
    for (id, event) in [
        ("o1", order("o1", ann, march, &json!([item("apple", 3, "1.00"), item("postage", 1, "3.95")]))),
        ("o2", order("o2", ann, "2025-03-02T10:00:00Z", &json!([item("bread", 10, "2.55")]))),
        (
            "o2",
            json!({"event_id": Uuid::now_v7(), "type": "cancelled", "order_id": "o2", "order_timestamp": "2025-03-03T10:00:00Z"}),
        ),
        ("o3", order("o3", ann, "2025-04-01T10:00:00Z", &json!([item("apple", 4, "1.00")]))),
        (
            "o3",
            json!({"event_id": Uuid::now_v7(), "type": "returned", "order_id": "o3", "original_id": "o3", "user_id": "ann",
            "order_timestamp": "2025-04-02T10:00:00Z", "items": [item("apple", 2, "1.00")]}),
        ),
        ("o4", wrong),
        ("o5", order("o5", None, march, &json!([item("apple", 1, "1.00")]))),
    ] {
        world.send_json("online_orders", id, event).await;
    }
    let delivery = json!({"event_id": Uuid::now_v7(), "restock_id": "r1", "supplier_id": "acme", "location_id": "shop",
        "received_at": march, "items": [{"product_id": "bread", "quantity": 20, "unit_cost": 1.1}]});
    world.send_json("supplier_restocks", "r1", delivery).await;
    world.process().await;
    let sale = json!({"event_id": Uuid::now_v7(), "sale_id": "s1", "store_id": "shop", "sold_at": march,
        "items": [item("bread", 5, "2.55")]});
    world.send_json("store_sales", "s1", sale).await;
    let hostile = br#"{"order_id": "<img src=x onerror=alert(1)>", "items": "'; DROP TABLE orders; --", "card": "4111 1111 1111 1111"}"#;
    world
        .send("online_orders", &[(Some(b"bad"), Some(b"{\"order_id\": ")), (Some(b"bad"), Some(hostile))])
        .await;
    world.send("store_sales", &[(None, None), (Some(b"\xff\x00"), Some(b"\xfe\xff"))]).await;
    world.process().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_is_what_was_sent() {
    let world = World::start(&[
        ("STOCKTIDE_API_LISTEN", "127.0.0.1:0"),
        ("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London"),
    ])
    .await;
    world.stock_shelves().await;
    sell(&world).await;
    let api = Served::ready(&world.config).await;
    users_and_months(&api).await;
    rankings(&world, &api).await;
    stock_and_movements(&world, &api).await;
    orders(&world, &api).await;
    rejects(&api).await;
    totals_and_fates(&api).await;
    reports_and_runs(&world, &api).await;
    pages_are_compressed_and_guarded(&api).await;
    a_real_report(&world, &api).await;
    api.end().await;
}

async fn users_and_months(api: &Served) {
    let ann = api.json("/users/ann/stats").await;
    assert_eq!(
        (&ann["order_count"], &ann["cancelled_orders"], &ann["units"]),
        (&json!(3), &json!(1), &json!(18))
    );
    // 6.95 + 25.50 + 4.00, less 25.50 and 2.00; over two orders.
    assert_eq!(
        (&ann["gross"], &ann["total_spend"], &ann["average_order"]),
        (&json!("36.45"), &json!("8.95"), &json!("4.475"))
    );
    assert_eq!((&ann["cancelled_value"], &ann["returned_value"]), (&json!("25.50"), &json!("2.00")));
    assert_eq!(
        (&ann["first_order_at"], &ann["last_order_at"]),
        (&json!("2025-03-01T10:00:00Z"), &json!("2025-04-01T10:00:00Z"))
    );
    let problem = api.get("/users/zoe/stats").await.problem(404);
    assert_eq!(problem["detail"], "user \"zoe\" has ordered nothing");

    let global = api.json("/stats/global").await;
    assert_eq!((&global["total_orders"], &global["total_revenue"]), (&json!(5), &json!("19.95")));
    assert_eq!(global["sources"][1]["source"], "store_sales");
    assert_eq!(
        (&global["sources"][1]["orders"], &global["sources"][1]["revenue"]),
        (&json!(1), &json!("12.75"))
    );
    assert_eq!(
        (&global["all_sources"]["revenue"], &global["all_sources"]["orders"]),
        (&json!("32.70"), &json!(6))
    );

    let months = api.json("/stats/monthly?start=2025-01&end=2025-05").await;
    let told: Vec<(&str, i64, &str)> = (months["months"].as_array().unwrap().iter())
        .map(|m| {
            (m["month"].as_str().unwrap(), m["orders"].as_i64().unwrap(), m["revenue"].as_str().unwrap())
        })
        .collect();
    let expected = [
        ("2025-01", 0, "0.00"),
        ("2025-02", 1, "10.00"),
        ("2025-03", 3, "7.95"),
        ("2025-04", 1, "2.00"),
        ("2025-05", 0, "0.00"),
    ];
    assert_eq!(told, expected);
    let all = api.json("/stats/monthly?start=2025-03&end=2025-03&source=all").await;
    assert_eq!((&all["months"][0]["orders"], &all["months"][0]["revenue"]), (&json!(4), &json!("20.70")));
}

fn ids(top: &Value) -> Vec<String> {
    top["items"].as_array().unwrap().iter().map(|u| u["user_id"].as_str().unwrap().to_owned()).collect()
}

/// Few stand in the table of those at the top, and the rankings are as without it.
async fn rankings_are_exact(world: &World, api: &Served) {
    assert!(world.number("SELECT count(*) FROM top_users").await < 5_000);
    for (by, order) in [("spend", "gross - cancelled_value - returned_value"), ("orders", "orders")] {
        let sql = format!("SELECT user_id FROM user_stats ORDER BY {order} DESC, user_id LIMIT 1000");
        let expected: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&world.database).await.unwrap();
        assert_eq!(ids(&api.json(&format!("/stats/top/1000?by={by}")).await), expected, "{by}");
    }
}

async fn rankings(world: &World, api: &Served) {
    assert_eq!(ids(&api.json("/stats/top/10").await), ["bob", "ann"]);
    assert_eq!(ids(&api.json("/stats/top/1?by=orders").await), ["ann"]);
    // Only March, in London: ann's order and cancellation, net 6.95.
    let march = api.json("/stats/top/10?start=2025-03-01&end=2025-03-31").await;
    assert_eq!((ids(&march), &march["items"][0]["total_spend"]), (vec!["ann".to_owned()], &json!("6.95")));
    let all = api.json("/stats/top/10?start=2025-03-02&end=2025-04-01&by=orders").await;
    assert_eq!(ids(&all), ["ann"]);
    // o2, which was cancelled, and o3, of which two come back a day too late.
    let expected = json!({"user_id": "ann", "order_count": 2, "cancelled_orders": 1, "units": 14, "total_spend": "4.00",
        "gross": "29.50", "cancelled_value": "25.50", "returned_value": "0.00", "average_order": "4.00",
        "first_order_at": "2025-03-02T10:00:00Z", "last_order_at": "2025-04-01T10:00:00Z"});
    assert_eq!(all["items"][0], expected);
    let april = api.json("/stats/top/10?start=2025-04-02&end=2025-04-02").await;
    assert_eq!(
        (&april["items"][0]["order_count"], &april["items"][0]["total_spend"]),
        (&json!(0), &json!("-2.00"))
    );
    // Many more users, written as the processor writes them: the ranking is the same as without any index.
    world.execute("INSERT INTO user_stats AS s (user_id, orders, gross) SELECT 'u' || i, 1 + i % 97, (i * 7919) % 100003
        FROM generate_series(1, 40000) i").await;
    world.execute("INSERT INTO user_stats AS s (user_id, cancelled_value) SELECT 'u' || i, 1e6 FROM generate_series(1, 40000, 3) i
        ON CONFLICT (user_id) DO UPDATE SET cancelled_value = excluded.cancelled_value").await;
    rankings_are_exact(world, api).await;
    // Thousands who are equal at the floor must not keep everybody in.
    world
        .execute("INSERT INTO user_stats (user_id, orders) SELECT 'u-same-' || i, 98 FROM generate_series(1, 10000) i")
        .await;
    rankings_are_exact(world, api).await;
    world
        .execute(
            "DELETE FROM user_stats WHERE user_id LIKE 'u%'; DELETE FROM top_users WHERE user_id LIKE 'u%'",
        )
        .await;
    // Too few are above the floor now, so everybody is looked at.
    assert_eq!(ids(&api.json("/stats/top/10").await), ["bob", "ann"]);
}

async fn stock_and_movements(world: &World, api: &Served) {
    let products = api.all("/products", 2).await;
    assert_eq!(
        products.iter().map(|p| p["product_id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["apple", "bread", "postage"]
    );
    assert_eq!((&products[1]["price"], &products[1]["quantity_on_hand"]), (&json!("2.55"), &json!(65)));
    assert_eq!(api.json("/products?q=EAD").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.json("/products?q=%25").await["items"].as_array().unwrap().len(), 0);

    let rows = api.all("/stock", 1).await;
    let told: Vec<(String, i64)> = (rows.iter())
        .map(|r| {
            (
                format!("{}@{}", r["product_id"].as_str().unwrap(), r["location_id"].as_str().unwrap()),
                r["quantity_on_hand"].as_i64().unwrap(),
            )
        })
        .collect();
    let expected: Vec<(String, i64)> =
        world.stock().await.into_iter().map(|(row, (quantity, _))| (row, quantity)).collect();
    assert_eq!(told, expected);
    assert_eq!(api.json("/stock?status=in_stock&location=shop").await["items"][0]["product_id"], "bread");
    assert!(api.json("/stock?status=oversold").await["items"].as_array().unwrap().is_empty());

    let apple = api.get("/products/apple/stock").await;
    let told = apple.json();
    // 100 - 3 - 4 + 2 - 10 - 1.
    assert_eq!(
        (&told["locations"][0]["quantity_on_hand"], &told["locations"][0]["version"]),
        (&json!(84), &json!(5))
    );
    let movements = api.all("/products/apple/stock", 2).await;
    assert_eq!(movements.len(), 5);
    let versions: Vec<i64> = movements.iter().map(|m| m["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [5, 4, 3, 2, 1]);
    assert_eq!(movements.iter().map(|m| m["line_delta"].as_i64().unwrap()).sum::<i64>(), -16);
    assert_eq!(api.all("/products/bread/stock?location=shop", 1).await.len(), 2);
    assert!(api.all("/products/postage/stock", 10).await.is_empty());
    let tag = apple.header("etag").to_owned();
    let again = api.ask(Method::GET, "/products/apple/stock", &[("if-none-match", &tag)], Vec::new()).await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, tag.as_str()));
    let other = api.ask(Method::GET, "/products/bread/stock", &[("if-none-match", &tag)], Vec::new()).await;
    assert_eq!(other.status, 200);
    api.get("/products/pear/stock").await.problem(404);
}

async fn orders(world: &World, api: &Served) {
    world.execute("INSERT INTO payments (payment_id, order_id, payment_method, card_last_four, payment_status, payment_datetime, amount, amount_mismatch, event_id)
        VALUES ('p1', 'o4', 'card', '1111', 'captured', '2025-02-10T10:01:00Z', 9.5, true, gen_random_uuid())").await;
    let order = api.json("/orders/o4").await;
    assert_eq!(
        (&order["order_value"], &order["stated_value"], &order["value_mismatch"]),
        (&json!("10.00"), &json!("1.00"), &json!(true))
    );
    assert_eq!((&order["user_id"], &order["shipping_address"]), (&json!("bob"), &json!("<b>1 High St</b>")));
    assert_eq!(
        (&order["payments"][0]["payment_id"], &order["payments"][0]["amount"]),
        (&json!("p1"), &json!("9.50"))
    );
    assert_eq!(order["payments"][0]["amount_mismatch"], true);
    let totals = api.ask(Method::GET, "/metrics", &[("accept", "application/json")], Vec::new()).await.json();
    assert_eq!(
        (&totals["amount_mismatches"], &totals["value_mismatches"], &totals["payment_events"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let order = api.json("/orders/o3").await;
    let lines: Vec<(&str, i64)> = (order["lines"].as_array().unwrap().iter())
        .map(|l| (l["kind"].as_str().unwrap(), l["quantity"].as_i64().unwrap()))
        .collect();
    assert_eq!((lines, &order["line_count"]), (vec![("sale", 4), ("return", -2)], &json!(2)));
    assert_eq!(api.json("/orders/o2").await["status"], "cancelled");
    assert_eq!(api.json("/orders/s1?source=store_sales").await["location_id"], "shop");
    api.get("/orders/s1").await.problem(404);
    world.execute("DELETE FROM payments").await;
}

async fn rejects(api: &Served) {
    let rows = api.all("/dlq", 1).await;
    assert_eq!(rows.len(), 4);
    let untouched = |row: &Value| {
        row["state"] == "open"
            && row["handled"].is_null()
            && row["replays"] == 0
            && row["history"] == json!([])
    };
    assert!(rows.iter().all(untouched), "{rows:?}");
    let hostile = rows.iter().find(|r| r["reason"] == "card_number").unwrap();
    assert_eq!((&hostile["redacted"], &hostile["value"]["encoding"]), (&json!(true), &json!("utf-8")));
    let shown = hostile["value"]["data"].as_str().unwrap();
    assert!(
        shown.contains("<img src=x onerror=alert(1)>") && shown.contains("1111\"") && !shown.contains("4111"),
        "{shown}"
    );
    let tombstone = rows.iter().find(|r| r["value"].is_null()).unwrap();
    assert_eq!((&tombstone["key"], &tombstone["value_bytes"]), (&Value::Null, &Value::Null));
    let bytes = rows.iter().find(|r| r["value"]["encoding"] == "base64").unwrap();
    assert_eq!((&bytes["value"]["data"], &bytes["key"]["data"]), (&json!("/v8="), &json!("/wA=")));
    assert_eq!(api.all("/dlq?reason=card_number&topic=online_orders", 10).await.len(), 1);
    assert!(api.all("/dlq?topic=payments", 10).await.is_empty());
    let reasons = api.json("/dlq/reasons?hours=1").await;
    let sum: i64 = reasons["items"].as_array().unwrap().iter().map(|r| r["records"].as_i64().unwrap()).sum();
    assert_eq!(sum, 4);
}

async fn totals_and_fates(api: &Served) {
    let text = api.get("/metrics").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    let wanted = "stocktide_api_requests_total{method=\"GET\",route=\"/users/{id}/stats\",status=\"404\"} 1";
    assert!(text.text().contains(wanted), "{}", text.text());
    let totals = api.ask(Method::GET, "/metrics", &[("accept", "application/json")], Vec::new()).await.json();
    assert_eq!(
        (&totals["total_orders"], &totals["total_revenue"], &totals["store_sales"]),
        (&json!(5), &json!("19.95"), &json!(1))
    );
    assert_eq!(
        (&totals["applied"], &totals["duplicates"], &totals["rejected"]),
        (&json!(9), &json!(0), &json!(4))
    );
    let looked = api
        .until("/status", |answer| answer.json()["lag"] == 0 && answer.json()["fates"]["applied"] == 9)
        .await
        .json();
    let online = looked["topics"].as_array().unwrap().iter().find(|t| t["topic"] == "online_orders").unwrap();
    assert_eq!((&online["applied"], &online["rejected"], &online["lag"]), (&json!(7), &json!(2), &json!(0)));
    assert_eq!(looked["parts"]["database"]["ok"], true);
}

async fn reports_and_runs(world: &World, api: &Served) {
    assert!(api.all("/reports", 10).await.is_empty());
    api.get("/reports/2025-03-01").await.problem(404);
    world.execute("INSERT INTO job_runs (job, data_date, timezone, interval_start, interval_end, state, cause, started_at, finished_at, rows)
        SELECT 'daily_report', d, 'Europe/London', d, d + 1, 'succeeded', 'backfill', d, d::timestamp + interval '2 seconds', 7
        FROM generate_series(date '2025-03-01', date '2025-03-05', interval '1 day') g(t), LATERAL (SELECT t::date AS d) x").await;
    let runs = api.all("/jobs/runs?state=succeeded", 2).await;
    assert_eq!(runs.len(), 5);
    assert_eq!(
        (&runs[0]["data_date"], &runs[0]["seconds"], &runs[0]["rows"]),
        (&json!("2025-03-05"), &json!(2.0), &json!(7))
    );
    assert!(api.all("/jobs/runs?job=verify", 2).await.is_empty());
}

/// What the job has made, revision by revision.
async fn a_real_report(world: &World, api: &Served) {
    let place = tempfile::TempDir::new().unwrap();
    let trigger = || {
        let mut job = stocktide(&["jobs", "trigger", "daily_report", "--date", "2025-03-01"]);
        job.env("STOCKTIDE_DATABASE_URL", world.stack.database_url());
        job.env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers());
        job.env("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London");
        job.env("STOCKTIDE_REPORTS_URL", format!("file://{}", place.path().display()));
        run(&mut job).done()
    };
    trigger();
    let first = api.json("/reports/2025-03-01").await;
    // 6.95 of ann, 1.00 of a guest, 12.75 in the shop.
    let total = &first["figures"]["sales"]["total"];
    assert_eq!(
        (&first["revision"], &total["gross"], &total["orders"]),
        (&json!(1), &json!("20.70"), &json!(3))
    );
    assert_eq!(first["figures_sha256"].as_str().unwrap().len(), 64);

    let late = order("o6", Some("cat"), "2025-03-01T11:00:00Z", &json!([item("bread", 1, "2.55")]));
    world.send_json("online_orders", "o6", late).await;
    world.process().await;
    trigger();
    let second = api.json("/reports/2025-03-01").await;
    assert_eq!(
        (&second["revision"], &second["figures"]["sales"]["total"]["gross"]),
        (&json!(2), &json!("23.25"))
    );
    assert_eq!(api.json("/reports/2025-03-01?revision=1").await, first);
    assert_eq!(api.json("/reports/2025-03-01?revision=2").await, second);
    api.get("/reports/2025-03-01?revision=3").await.problem(404);
    let listed = api.all("/reports", 1).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["report_date"], &listed[0]["revision"], &listed[0]["total_sales"]),
        (&json!("2025-03-01"), &json!(2), &json!("23.25"))
    );
    assert_eq!(listed[0]["figures_sha256"], second["figures_sha256"]);
}

async fn pages_are_compressed_and_guarded(api: &Served) {
    let page = api.ask(Method::GET, "/openapi.json", &[("accept-encoding", "gzip")], Vec::new()).await;
    assert_eq!((page.header("content-encoding"), &page.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
    for path in ["/", "/docs", "/docs/docs.js", "/openapi.json", "/stats/global", "/none"] {
        let answer = api.get(path).await;
        assert!(
            answer.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"),
            "{path}"
        );
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("access-control-allow-origin")),
            ("nosniff", "")
        );
        assert!(!answer.header("cache-control").is_empty());
    }
    let page = api.get("/docs").await.text();
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched from elsewhere");
    let head = api.ask(Method::HEAD, "/stats/global", &[], Vec::new()).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}
