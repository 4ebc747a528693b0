//! A database, rails on it, and a job whose tasks tell what they did and can be held up.
#![allow(dead_code)] // each test file uses a part

#[path = "../../../store/tests/database/mod.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::future::BoxFuture;
use serde_json::json;
pub use server::run;
use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;
use stocktide_jobs::{Job, Rails, Registry, Task, TaskContext, TaskError, TaskOutput};
use stocktide_runtime::admin::Health;
use stocktide_runtime::{Config, Secret};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The URL of a new database with the schema, and the tables that [`Chain`] writes.
pub async fn database() -> String {
    let url = server::empty().await;
    stocktide_store::migrate::run(&url, "GBP", "Europe/London").await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let sql = "CREATE TABLE began (run_id bigint, date date, task text, process text);
               CREATE TABLE results (date date, task text, PRIMARY KEY (date, task));
               CREATE TABLE hold (task text); CREATE TABLE broken (task text, times int, for_good bool)";
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    pool.close().await;
    url
}

/// A graph of four tasks. Each says in `began` that it began, waits as long as `hold` names it, fails as often as `broken` says,
/// and leaves one row in `results`.
pub struct Chain;

impl Job for Chain {
    fn tasks(&self) -> &[Task] {
        &[
            Task { name: "collect", after: &[] },
            Task { name: "left", after: &["collect"] },
            Task { name: "right", after: &["collect"] },
            Task { name: "upload", after: &["left", "right"] },
        ]
    }

    fn run_task<'a>(
        &'a self,
        context: &'a TaskContext,
        task: &'a str,
    ) -> BoxFuture<'a, Result<TaskOutput, TaskError>> {
        Box::pin(async move {
            if task != "collect" {
                let collected: String = context.output("collect")?;
                assert_eq!(collected, context.run.data_date.to_string());
            }
            let began = "INSERT INTO began VALUES ($1, $2, $3, $4)";
            let (run_id, date) = (context.run.run_id, context.run.data_date);
            let process = context.run.worker.as_deref();
            sqlx::query(began)
                .bind(run_id)
                .bind(date)
                .bind(task)
                .bind(process)
                .execute(&context.pool)
                .await?;
            let held = "SELECT EXISTS (SELECT FROM hold WHERE task = $1)";
            while sqlx::query_scalar::<_, bool>(held).bind(task).fetch_one(&context.pool).await? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let broken =
                "UPDATE broken SET times = times - 1 WHERE task = $1 AND times > 0 RETURNING for_good";
            match sqlx::query_scalar::<_, bool>(broken).bind(task).fetch_optional(&context.pool).await? {
                Some(true) => return Err(TaskError::for_good(anyhow!("no such\nbucket"))),
                Some(false) => return Err(TaskError::again(anyhow!("the network is gone"))),
                None => {}
            }
            let result = "INSERT INTO results VALUES ($1, $2) ON CONFLICT DO NOTHING";
            sqlx::query(result).bind(date).bind(task).execute(&context.pool).await?;
            TaskOutput::new(Some(1), &json!(date.to_string()))
        })
    }
}

/// The schedule of a test: one job a day at a quarter past midnight in London.
pub const SCHEDULE: &str =
    "[[job]]\nname = \"chain\"\ncron = \"15 0 * * *\"\nretries = 2\nbackoff = \"20ms\"\n";

/// The configuration for a database, with a schedule.
pub fn config(url: &str, schedule: &str, takeover: Duration) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), schedule).unwrap();
    let mut config = Config::defaults().unwrap();
    config.database.url = Some(Secret::new(url));
    config.business.timezone = chrono_tz::Tz::Europe__London;
    config.jobs.file = Some(file.into_temp_path().keep().unwrap().display().to_string());
    config.jobs.poll = Duration::from_millis(200);
    config.jobs.takeover = takeover;
    config.processor.shutdown_deadline = Duration::from_millis(500);
    config
}

/// Rails on a database.
pub async fn rails(url: &str, schedule: &str, takeover: Duration) -> Arc<Rails> {
    let registry = Registry::default().with("chain", Chain).unwrap();
    let config = config(url, schedule, takeover);
    let metrics = prometheus::Registry::new();
    Arc::new(Rails::open(&config, registry, &metrics, Health::new()).await.unwrap())
}

pub fn instant(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

pub fn day(text: &str) -> BusinessDay {
    let date: NaiveDate = text.parse().unwrap();
    BusinessDay::of(date, chrono_tz::Tz::Europe__London)
}

/// Waits until a query answers true.
pub async fn until(pool: &PgPool, sql: &'static str) {
    let deadline = Instant::now() + PATIENCE;
    while !sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.unwrap() {
        assert!(Instant::now() < deadline, "still not: {sql}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

pub async fn execute(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}
