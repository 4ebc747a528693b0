//! A database with a small catalogue, a place for reports, and `stocktide jobs` on them as a person would run it.
#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod service;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::command::{Outcome, run, stocktide};
use chrono::NaiveDate;
use chrono_tz::Europe::London;
use service::{PATIENCE, Service, until_within};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::{self, Due, Run, Task};
use tempfile::TempDir;

/// After how much silence a worker is taken for dead.
pub const TAKEOVER: Duration = Duration::from_secs(2);

/// Products `apple`, six on the shelf, and one sale of two apples at noon of every day of March 2024, each dearer than the
/// last: no two days have the same report.
const SHOP: &str = "
    INSERT INTO locations VALUES ('online', 'Online', 'online', 'UTC');
    INSERT INTO products (product_id, name, category, price, currency, reorder_point, kind)
        VALUES ('apple', 'Apple', 'fruit', 1, 'GBP', 5, 'stock');
    INSERT INTO inventory (product_id, location_id, quantity_on_hand, version, opening_quantity, last_updated)
        VALUES ('apple', 'online', 6, 31, 68, '2024-01-01Z');
    INSERT INTO orders (order_id, line_no, product_id, quantity, unit_price, source, location_id, \"timestamp\", event_id,
                        kind, delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
    SELECT 'o' || n, 1, 'apple', 2, 1 + n / 100.0, 'online_orders', 'online', at, gen_random_uuid(),
           'sale', -2, 68 - 2 * n, n, 'in_stock', at, 0, n
    FROM generate_series(1, 31) AS n, LATERAL (SELECT timestamptz '2024-02-29 12:00Z' + n * interval '1 day') AS day (at)";

/// A database, and a place for reports.
pub struct World {
    runtime: tokio::runtime::Runtime,
    stack: Option<Stack>,
    pub pool: PgPool,
    pub url: String,
    pub directory: TempDir,
    /// Where reports go, and what has to be set for that.
    pub place: String,
    pub settings: Vec<(String, String)>,
    timezone: &'static str,
}

impl World {
    /// With reports in a directory.
    pub fn new() -> World {
        let directory = TempDir::new().unwrap();
        let place = format!("file://{}", directory.path().join("reports").display());
        World::with(directory, place, Vec::new(), "Europe/London")
    }

    /// With reports in a directory, and business days of that timezone.
    pub fn in_timezone(timezone: &'static str) -> World {
        let directory = TempDir::new().unwrap();
        let place = format!("file://{}", directory.path().join("reports").display());
        World::with(directory, place, Vec::new(), timezone)
    }

    /// With reports in a store.
    pub fn in_store(place: &str, settings: Vec<(String, String)>) -> World {
        World::with(TempDir::new().unwrap(), place.to_owned(), settings, "Europe/London")
    }

    fn with(
        directory: TempDir,
        place: String,
        settings: Vec<(String, String)>,
        timezone: &'static str,
    ) -> World {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = StackOptions { kafka: false, ..StackOptions::default() };
        let stack = runtime.block_on(Stack::start(options)).unwrap();
        let url = stack.database_url();
        let pool = runtime.block_on(async {
            stocktide_store::migrate::run(&url, "GBP", timezone).await.unwrap();
            let pool = PgPool::connect(&url).await.unwrap();
            sqlx::raw_sql(SHOP).execute(&pool).await.unwrap();
            pool
        });
        World { runtime, stack: Some(stack), pool, url, directory, place, settings, timezone }
    }

    /// `stocktide` with all that it needs to know.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = stocktide(args);
        command
            .env("STOCKTIDE_DATABASE_URL", &self.url)
            .env("STOCKTIDE_BUSINESS_TIMEZONE", self.timezone)
            .env("STOCKTIDE_REPORTS_URL", &self.place)
            .env("STOCKTIDE_LOG_FILTER", "error")
            .env("STOCKTIDE_JOBS_TAKEOVER", format!("{}s", TAKEOVER.as_secs()))
            .env("STOCKTIDE_JOBS_POLL", "200ms")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args))
    }

    /// `jobs trigger daily_report` for a day of March 2024, as JSON.
    pub fn trigger(&self, date: &str) -> Outcome {
        self.run(&["jobs", "trigger", "daily_report", "--date", date, "--json"])
    }

    /// A schedule in a file of its own.
    pub fn schedule(&self, text: &str) -> PathBuf {
        let file = self.directory.path().join("schedule.toml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// The directory of the reports, where it is one.
    pub fn reports(&self) -> PathBuf {
        self.directory.path().join("reports")
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn execute(&self, sql: &str) {
        self.block_on(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool)).unwrap();
    }

    pub fn holds(&self, sql: &str) -> bool {
        self.block_on(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool)).unwrap()
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.block_on(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool)).unwrap()
    }

    /// Waits until a query answers true.
    pub fn until(&self, sql: &str) {
        self.until_within(PATIENCE, sql);
    }

    pub fn until_within(&self, patience: Duration, sql: &str) {
        until_within(patience, || self.holds(sql), || format!("still not: {sql}"));
    }

    /// Starts a `jobs run` that follows a schedule, with some further settings.
    pub fn serve(&self, schedule: &str, settings: &[(&str, &str)]) -> Service {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.path().join(format!("jobs-{number}.log"));
        let mut command = self.command(&["jobs", "run"]);
        command.env("STOCKTIDE_JOBS_FILE", self.schedule(schedule)).envs(settings.iter().copied());
        Service::start(&mut command, &log)
    }

    /// A connection of one's own, for locks.
    pub fn connect(&self) -> PgConnection {
        self.block_on(PgConnection::connect(&self.url)).unwrap()
    }

    /// A run of `daily_report` that waits for a worker, and no other that the schedule would add.
    pub fn enqueue(&self, date: &str) -> i64 {
        let date: NaiveDate = date.parse().unwrap();
        self.execute(
            "INSERT INTO job_schedules VALUES ('daily_report', '9999-01-01') ON CONFLICT DO NOTHING",
        );
        let due = |_| Due { days: vec![BusinessDay::of(date, London)], next: None };
        self.block_on(jobs::schedule(&self.pool, "daily_report", date, due)).unwrap()[0]
    }

    pub fn run_of(&self, run_id: i64) -> (Run, Vec<Task>) {
        self.block_on(async {
            let run = jobs::run(&self.pool, run_id).await.unwrap().unwrap();
            (run, jobs::tasks(&self.pool, run_id).await.unwrap())
        })
    }

    pub fn kill_postgres(&mut self) {
        let stack = self.stack.as_mut().unwrap();
        self.runtime.block_on(stack.kill_postgres()).unwrap();
    }

    pub fn start_postgres(&mut self) {
        let stack = self.stack.as_mut().unwrap();
        self.runtime.block_on(stack.start_postgres()).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.take() {
            let _ = self.runtime.block_on(stack.stop());
        }
    }
}

/// A file: its path within the directory, its bytes, and when it was written.
pub type Found = (String, Vec<u8>, SystemTime);

/// Every file below a directory.
pub fn files(directory: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let written = std::fs::metadata(&path).unwrap().modified().unwrap();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            found.push((name, std::fs::read(&path).unwrap(), written));
        }
    }
    found.sort();
    found
}

/// The names and bytes alone.
pub fn bytes(files: &[Found]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes, _)| (name.clone(), bytes.clone())).collect()
}
