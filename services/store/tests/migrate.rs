//! The schema against a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use stocktide_store::migrate::{self, MigrateError};
use stocktide_store::{StoreError, Writer, WriterOptions};

async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
}

fn options(url: &str) -> WriterOptions {
    WriterOptions {
        url: url.to_owned(),
        timezone: chrono_tz::UTC,
        reject_uncovered: false,
        lock_timeout: Duration::from_secs(5),
        payments_wait: Duration::from_mins(10),
    }
}

#[test]
fn a_second_run_changes_nothing() {
    database::run(async {
        let url = database::empty().await;
        let first = migrate::run(&url, "GBP", "Europe/London").await.unwrap();
        assert!(first.is_new && !first.applied.is_empty(), "{first:?}");
        let second = migrate::run(&url, "GBP", "Europe/London").await.unwrap();
        assert!(!second.is_new && second.applied.is_empty(), "{second:?}");
    });
}

#[test]
fn several_may_run_at_once() {
    database::run(async {
        let url = database::empty().await;
        let runs: Vec<_> = (0..8)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { migrate::run(&url, "GBP", "UTC").await })
            })
            .collect();
        let mut new = 0;
        for run in runs {
            new += usize::from(run.await.unwrap().unwrap().is_new);
        }
        assert_eq!(new, 1);
    });
}

#[test]
fn currency_and_timezone_are_fixed_by_the_first_run() {
    database::run(async {
        let url = database::empty().await;
        migrate::run(&url, "GBP", "UTC").await.unwrap();
        let error = migrate::run(&url, "EUR", "UTC").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "business.currency is EUR, but this installation was set up with GBP: it cannot be changed"
        );
        let error = migrate::run(&url, "GBP", "Europe/London").await.unwrap_err();
        assert!(matches!(error, MigrateError::Fixed { key: "business.timezone", .. }), "{error}");
    });
}

#[test]
fn a_schema_that_is_not_this_programs_is_told_and_left_alone() {
    database::run(async {
        let url = database::empty().await;
        migrate::run(&url, "GBP", "UTC").await.unwrap();
        let connect = async || Writer::connect(options(&url)).await.map(drop);
        connect().await.unwrap();
        execute(&url, "UPDATE _sqlx_migrations SET success = false WHERE version > 9").await;
        let error = connect().await.unwrap_err();
        let wanted = "the database has migration 0009 and this program needs ";
        assert!(matches!(&error, StoreError::Unavailable(why) if why.starts_with(wanted)), "{error}");

        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (9999, 'of tomorrow', true, '', 0)";
        execute(&url, newer).await;
        let error = connect().await.unwrap_err();
        let wanted = "the database has migration 9999 and this program knows them up to ";
        assert!(matches!(&error, StoreError::Stop(why) if why.starts_with(wanted)), "{error}");
        let error = migrate::run(&url, "GBP", "UTC").await.unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    });
}

#[test]
fn the_log_has_partitions_for_this_month_and_the_next_two() {
    database::run(async {
        let url = database::empty().await;
        migrate::run(&url, "GBP", "UTC").await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let sql = "SELECT count(*) FROM generate_series(0, 2) AS ahead
                   WHERE to_regclass('events_log_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC')
                                                                 + ahead * interval '1 month', 'YYYYMM')) IS NOT NULL";
        let there: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert_eq!(there, 3);
    });
}

#[test]
fn a_database_that_may_lose_commits_is_refused_untouched() {
    database::run(async {
        let url = database::empty().await;
        execute(&url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
            .await;
        let error = migrate::run(&url, "GBP", "UTC").await.unwrap_err();
        assert!(error.to_string().starts_with("synchronous_commit is off"), "{error}");
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        let relations: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert_eq!(relations, 0);
    });
}

#[test]
fn a_database_that_is_not_utf_8_is_refused() {
    database::run(async {
        let url = database::empty().await;
        execute(&url, "CREATE DATABASE test_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'").await;
        let (server, _) = url.rsplit_once('/').unwrap();
        let error = migrate::run(&format!("{server}/test_ascii"), "GBP", "UTC").await.unwrap_err();
        assert_eq!(error.to_string(), "the database's encoding is SQL_ASCII; allowed: UTF8");
    });
}
