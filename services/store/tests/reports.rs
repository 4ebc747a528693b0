//! The reports' table: equal figures are one revision, others the next, and no row is lost or doubled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;
#[path = "../../reports/tests/sample/mod.rs"]
mod sample;

use chrono::{DateTime, Utc};
use sample::{HOSTILE, figures, money};
use sqlx::PgPool;
use stocktide_domain::report::Figures;
use stocktide_store::migrate;
use stocktide_store::reports::{NewReport, ReportsError, last_date, latest, plan, record, revision};

async fn installation() -> PgPool {
    let url = database::empty().await;
    migrate::run(&url, "GBP", "Europe/London").await.unwrap();
    PgPool::connect(&url).await.unwrap()
}

/// A stand-in for the digest that is equal exactly where the figures are.
fn digest(figures: &Figures) -> String {
    serde_json::to_string(figures).unwrap()
}

fn now() -> DateTime<Utc> {
    "2011-03-28T05:00:00Z".parse().unwrap()
}

async fn kept(pool: &PgPool, figures: &Figures, revision: u32) -> Result<(), ReportsError> {
    let figures_sha256 = &digest(figures);
    let report = NewReport {
        revision,
        figures,
        figures_sha256,
        code_version: "0.1.0",
        place: "file:///r",
        seen: None,
        now: now(),
    };
    record(pool, &report).await
}

async fn planned_and_kept(pool: &PgPool, figures: &Figures) -> (u32, Option<Figures>) {
    let plan = plan(pool, figures.day.date, &digest(figures)).await.unwrap();
    kept(pool, figures, plan.revision).await.unwrap();
    (plan.revision, plan.previous)
}

async fn rows(pool: &PgPool) -> Vec<(i32, String)> {
    let sql = "SELECT revision, total_sales::text FROM reports ORDER BY revision";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

#[test]
fn equal_figures_are_one_revision_and_others_the_next() {
    database::run(async {
        let pool = installation().await;
        let first = figures(HOSTILE);
        let mut second = first.clone();
        second.sales.total.gross = money("1234570.00");
        assert_eq!(last_date(&pool).await.unwrap(), None);
        assert_eq!(planned_and_kept(&pool, &first).await, (1, None));
        assert_eq!(planned_and_kept(&pool, &first).await, (1, None));
        assert_eq!(planned_and_kept(&pool, &second).await, (2, Some(first.clone())));
        // What it differed from is said again when it is written again.
        assert_eq!(planned_and_kept(&pool, &second).await, (2, Some(first.clone())));
        assert_eq!(planned_and_kept(&pool, &first).await, (3, Some(second)));
        let expected = [(1, "1234567.8950"), (2, "1234570.0000"), (3, "1234567.8950")];
        assert_eq!(rows(&pool).await, expected.map(|(revision, sales)| (revision, sales.to_owned())));
        assert_eq!(last_date(&pool).await.unwrap(), Some(first.day.date));
    });
}

#[test]
fn figures_come_back_from_the_database_as_they_were() {
    database::run(async {
        let pool = installation().await;
        let figures = figures(HOSTILE);
        planned_and_kept(&pool, &figures).await;
        let report = latest(&pool, figures.day.date).await.unwrap().unwrap();
        assert_eq!((&report.figures, report.revision, report.created_at), (&figures, 1, now()));
        assert_eq!(revision(&pool, figures.day.date, 1).await.unwrap().unwrap(), report);
        assert_eq!(revision(&pool, figures.day.date, 2).await.unwrap(), None);
    });
}

#[test]
fn a_revision_that_another_run_recorded_meanwhile_is_not_overwritten() {
    database::run(async {
        let pool = installation().await;
        let first = figures("Tea");
        kept(&pool, &first, 1).await.unwrap();
        let error = kept(&pool, &figures("Coffee"), 1).await.unwrap_err();
        assert!(matches!(error, ReportsError::Overtaken { revision: 1, .. }), "{error:?}");
        assert_eq!(latest(&pool, first.day.date).await.unwrap().unwrap().figures, first);
    });
}
