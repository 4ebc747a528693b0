//! Retention of the log against a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use stocktide_domain::Source;
use stocktide_store::retention::{self, Month, Retention, RetentionError, RetentionOptions};
use stocktide_store::{Writer, WriterOptions, migrate};

/// 2026-05-20: with an age of 60 days what was processed before March is old enough.
fn options() -> RetentionOptions {
    let now = "2026-05-20T12:00:00Z".parse().unwrap();
    RetentionOptions::new(Duration::from_hours(60 * 24), now, false)
}

/// An installation whose log has records of online_orders from January to May: in partition 0 the offsets 0 to 49, ten a
/// month, and in partition 1 one record of January.
async fn installation() -> (String, PgPool) {
    let url = database::empty().await;
    migrate::run(&url, "GBP", "Europe/London").await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let sql = "SELECT ensure_events_log_partition(m) FROM generate_series(timestamptz '2026-01-01Z', '2026-05-01Z', '1 month') m;
        INSERT INTO events_log (event_id, raw_event, processed_at, status, reason, topic, partition, \"offset\")
            SELECT gen_random_uuid(), 'x', timestamptz '2026-01-01Z' + n / 10 * interval '1 month' + n % 10 * interval '3 days',
                CASE WHEN n % 5 = 0 THEN 'rejected' ELSE 'applied' END, NULL, 'online_orders', 0, n
            FROM generate_series(0, 49) AS n;
        INSERT INTO events_log (raw_event, processed_at, status, topic, partition, \"offset\")
            VALUES ('x', '2026-01-15Z', 'rejected', 'online_orders', 1, 7);
        INSERT INTO applied_events SELECT event_id FROM events_log WHERE status = 'applied';
        INSERT INTO partition_progress (topic, partition, start_offset, next_offset, published_offset, log_floor)
            VALUES ('online_orders', 0, 0, 50, 50, 0), ('online_orders', 1, 5, 8, 8, 5), ('store_sales', 0, 0, 0, NULL, 0)";
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    (url, pool)
}

async fn offsets(pool: &PgPool) -> Vec<i64> {
    let sql = "SELECT \"offset\" FROM events_log WHERE partition = 0 ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn floors(pool: &PgPool) -> Vec<i64> {
    let sql = "SELECT log_floor FROM partition_progress ORDER BY topic, partition";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn execute(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

fn fates(done: &Retention) -> Vec<(String, i64, Option<&str>)> {
    let of = |m: &Month| (m.month.format("%Y-%m").to_string(), m.rows);
    done.months.iter().map(|m| (of(m).0, of(m).1, m.kept_for.as_deref())).collect()
}

#[test]
fn months_that_are_old_enough_are_dropped_and_the_floor_stands_above_them() {
    database::run(async {
        let (_, pool) = installation().await;
        let done = retention::run(&pool, options()).await.unwrap();
        assert_eq!(fates(&done), [("2026-01".to_owned(), 11, None), ("2026-02".to_owned(), 10, None)]);
        assert_eq!(done.before.to_rfc3339(), "2026-03-01T00:00:00+00:00");
        assert_eq!((done.rows(), done.months[0].bytes > 8_000), (21, true));
        assert_eq!(offsets(&pool).await, (20..50).collect::<Vec<_>>());
        assert_eq!(floors(&pool).await, [20, 8, 0]);
        assert_eq!(number(&pool, "SELECT count(*) FROM applied_events").await, 40, "the dedupe does not age");
        let gone = "SELECT count(*) FROM pg_class WHERE relname LIKE 'events\\_log\\_20260[12]%'";
        assert_eq!(number(&pool, gone).await, 0, "with the indexes");

        let again = retention::run(&pool, options()).await.unwrap();
        assert_eq!((again.months.len(), floors(&pool).await), (0, vec![20, 8, 0]));
    });
}

#[test]
fn a_dry_run_says_what_would_be_dropped_and_changes_nothing() {
    database::run(async {
        let (_, pool) = installation().await;
        let dry = retention::run(&pool, RetentionOptions { dry_run: true, ..options() }).await.unwrap();
        assert!(dry.dry_run);
        assert_eq!((offsets(&pool).await.len(), floors(&pool).await), (50, vec![0, 5, 0]));
        let done = retention::run(&pool, options()).await.unwrap();
        assert_eq!(fates(&dry), fates(&done));
    });
}

#[test]
fn a_month_with_a_record_that_may_not_be_published_stays_with_all_after_it() {
    database::run(async {
        let (_, pool) = installation().await;
        execute(&pool, "UPDATE partition_progress SET published_offset = 19 WHERE topic = 'online_orders' AND partition = 0").await;
        let kept = "online_orders-0@19 is in it, and only what lies below 19 is known to be published";
        for dry_run in [true, false] {
            let done = retention::run(&pool, RetentionOptions { dry_run, ..options() }).await.unwrap();
            assert_eq!(
                fates(&done),
                [("2026-01".to_owned(), 11, None), ("2026-02".to_owned(), 10, Some(kept))],
                "{dry_run}"
            );
        }
        assert_eq!((offsets(&pool).await[0], floors(&pool).await), (10, vec![10, 8, 0]));

        // Nothing was ever published: nothing goes.
        let (_, pool) = installation().await;
        execute(&pool, "UPDATE partition_progress SET published_offset = NULL WHERE partition = 1").await;
        let done = retention::run(&pool, options()).await.unwrap();
        let kept = "online_orders-1@7 is in it, and only what lies below 5 is known to be published";
        assert_eq!(fates(&done), [("2026-01".to_owned(), 11, Some(kept))]);
        assert_eq!((offsets(&pool).await.len(), floors(&pool).await), (50, vec![0, 5, 0]));
    });
}

#[test]
fn a_month_with_a_timer_s_output_that_may_not_be_published_stays_with_all_after_it() {
    database::run(async {
        let (_, pool) = installation().await;
        execute(
            &pool,
            "INSERT INTO partition_progress (topic, partition, start_offset, next_offset, published_offset, log_floor,
                    timer_seq, timer_published) VALUES ('payments', 0, 0, 9, 9, 0, 2, 1);
             INSERT INTO events_log (raw_event, processed_at, status, reason, topic, partition, \"offset\", timer_seq) VALUES
                ('x', '2026-01-20Z', 'rejected', 'orphan_payment', 'payments', 0, 3, 1),
                ('x', '2026-02-20Z', 'rejected', 'orphan_payment', 'payments', 0, 1, 2)",
        )
        .await;
        let kept = "number 2 of the timer of payments-0 is in it, and only 1 is known to be published";
        for dry_run in [true, false] {
            let done = retention::run(&pool, RetentionOptions { dry_run, ..options() }).await.unwrap();
            assert_eq!(
                fates(&done),
                [("2026-01".to_owned(), 12, None), ("2026-02".to_owned(), 11, Some(kept))],
                "{dry_run}"
            );
        }
        execute(&pool, "UPDATE partition_progress SET timer_published = 2 WHERE topic = 'payments'").await;
        let done = retention::run(&pool, options()).await.unwrap();
        assert_eq!(fates(&done), [("2026-02".to_owned(), 11, None)]);
    });
}

#[test]
fn rows_without_progress_stay() {
    database::run(async {
        let (_, pool) = installation().await;
        execute(&pool, "DELETE FROM partition_progress WHERE partition = 1").await;
        let done = retention::run(&pool, options()).await.unwrap();
        let kept = "online_orders-1 has rows in it and no progress";
        assert_eq!(fates(&done), [("2026-01".to_owned(), 11, Some(kept))]);
    });
}

#[test]
fn old_rows_of_the_default_partition_go_too() {
    database::run(async {
        let (_, pool) = installation().await;
        let sql = "INSERT INTO events_log (raw_event, processed_at, status, topic, partition, \"offset\") VALUES
            ('x', '2025-12-31 23:59:59.999999Z', 'rejected', 'store_sales', 0, 3), ('x', '2090-01-01Z', 'rejected', 'store_sales', 0, 9);
            UPDATE partition_progress SET next_offset = 10, published_offset = 10 WHERE topic = 'store_sales'";
        execute(&pool, sql).await;
        assert_eq!(number(&pool, "SELECT count(*) FROM events_log_default").await, 2);
        let done = retention::run(&pool, options()).await.unwrap();
        assert_eq!(fates(&done)[0], ("2025-12".to_owned(), 1, None));
        assert_eq!((done.months.len(), done.rows()), (3, 22));
        assert_eq!(number(&pool, "SELECT min(\"offset\") FROM events_log_default").await, 9);
        assert_eq!(floors(&pool).await, [20, 8, 4]);
    });
}

#[test]
fn a_log_in_use_is_waited_for_and_left_as_it_is_where_patience_ends() {
    database::run(async {
        let (url, pool) = installation().await;
        let mut reader = PgConnection::connect(&url).await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM events_log").execute(&mut *reading).await.unwrap();
        let impatient = RetentionOptions { patience: Duration::from_millis(500), ..options() };
        let error = retention::run(&pool, impatient).await.unwrap_err();
        assert!(matches!(error, RetentionError::InUse { .. }), "{error}");
        assert_eq!((offsets(&pool).await.len(), floors(&pool).await), (50, vec![0, 5, 0]));

        let patient = tokio::spawn({
            let pool = pool.clone();
            async move { retention::run(&pool, options()).await }
        });
        // It waits for the reader, and meanwhile lets a writer pass.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT drop_events_log_month%'
            AND wait_event_type = 'Lock'";
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        while number(&pool, waits).await == 0 {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let write = "INSERT INTO events_log (raw_event, processed_at, status, topic, partition, \"offset\")
            VALUES ('x', '2026-05-20Z', 'rejected', 'online_orders', 0, 50);
            UPDATE partition_progress SET next_offset = 51 WHERE topic = 'online_orders' AND partition = 0";
        let begun = std::time::Instant::now();
        execute(&pool, write).await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "within the processors' own patience: {:?}",
            begun.elapsed()
        );
        reading.rollback().await.unwrap();
        assert_eq!(patient.await.unwrap().unwrap().rows(), 21);
        assert_eq!(offsets(&pool).await, (20..51).collect::<Vec<_>>());
    });
}

#[test]
fn the_processor_reads_the_floor_that_was_raised() {
    database::run(async {
        let (url, pool) = installation().await;
        let options_of_writer = WriterOptions {
            url,
            timezone: chrono_tz::Europe::London,
            reject_uncovered: false,
            lock_timeout: Duration::from_secs(5),
            payments_wait: Duration::from_mins(10),
        };
        retention::run(&pool, options()).await.unwrap();
        let writer = Writer::connect(options_of_writer).await.unwrap();
        let positions = writer.positions(&[((Source::OnlineOrders, 0), 0)].into()).await.unwrap();
        let position = &positions[&(Source::OnlineOrders, 0)];
        assert_eq!((position.start_offset, position.log_floor, position.next_offset), (0, 20, 50));
        // What is above the floor can be put out again, whole.
        let again = writer.outputs_of((Source::OnlineOrders, 0), 20, 50, None).await.unwrap();
        assert_eq!(again.iter().map(|o| o.origin.offset).collect::<Vec<_>>(), [20, 25, 30, 35, 40, 45]);
    });
}
