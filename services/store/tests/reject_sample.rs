//! The sample of a day's rejected records against a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;

use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::migrate;
use stocktide_store::reject_sample::masked_rejects;

#[test]
fn each_reason_is_shown_before_any_is_shown_twice_and_nothing_of_other_days() {
    database::run(async {
        let url = database::empty().await;
        migrate::run(&url, "GBP", "Europe/London").await.unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        // British summer time: the day is from 23:00 to 23:00.
        let sql = r#"INSERT INTO events_log (raw_event, processed_at, status, reason, topic, partition, "offset") VALUES
            ('{"type": "placed", "user_id": "Ann"}', '2011-06-01 22:59:59Z', 'rejected', 'unknown_product', 'online_orders', 0, 1),
            ('{"type": "placed", "user_id": "Bob"}', '2011-06-01 23:00:00Z', 'rejected', 'unknown_product', 'online_orders', 0, 2),
            ('{"type": "placed", "quantity": 2}', '2011-06-02 01:00:00Z', 'rejected', 'unknown_product', 'online_orders', 0, 3),
            ('{"type": "placed", "quantity": 3}', '2011-06-02 02:00:00Z', 'rejected', 'unknown_product', 'online_orders', 0, 4),
            ('{"type": "placed", "quantity": 4}', '2011-06-02 03:00:00Z', 'rejected', 'unknown_product', 'online_orders', 0, 5),
            (NULL, '2011-06-02 04:00:00Z', 'rejected', 'malformed_json', 'store_sales', 1, 9),
            (convert_to('{"note": "' || repeat('x', 20000) || '"}', 'UTF8'), '2011-06-02 05:00:00Z', 'rejected', 'too_large', 'store_sales', 1, 10),
            ('{"type": "sold"}', '2011-06-02 05:00:00Z', 'applied', NULL, 'store_sales', 1, 11),
            ('{"type": "sold"}', '2011-06-02 23:00:00Z', 'rejected', 'unknown_location', 'store_sales', 1, 12)"#;
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        let day = BusinessDay::of("2011-06-02".parse().unwrap(), chrono_tz::Europe::London);
        let sample = masked_rejects(&pool, day, 20).await.unwrap();
        let shown: Vec<_> = sample.iter().map(|r| (r.reason.as_str(), r.bytes, r.shape.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("unknown_product", Some(36), r#"{type: "placed", user_id: text(3)}"#),
                ("malformed_json", None, "no value"),
                ("too_large", Some(20_012), "too long to look into"),
                ("unknown_product", Some(33), r#"{quantity: 2, type: "placed"}"#),
                ("unknown_product", Some(33), r#"{quantity: 3, type: "placed"}"#),
            ]
        );
        assert_eq!(masked_rejects(&pool, day, 2).await.unwrap(), sample[..2]);
    });
}
