//! Watches a rival from outside until the right result is there, and tells afterwards when that was.
//!
//! What is asked while it works is cheap: where the output topics end, and the sum of the stock. Only when both could be right are
//! the rows compared and the outputs read; the records that lay before each earlier end are counted then.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_postgres::Client;

use super::expected::{Expected, Row};
use super::instances::Instances;
use super::outputs::Output;
use super::rival::{Check, Rival};
use crate::meter;
use crate::world::World;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The sum of the stock is asked for so seldom that it takes no more than this share of the time.
const STOCK_SHARE: u32 = 50;
/// The same of closer looks, which count rows.
const CLOSER_SHARE: u32 = 10;

/// One look.
struct Look {
    at: Instant,
    /// CPU seconds so far: of the rival, PostgreSQL and Kafka.
    cpu: [f64; 3],
    updates: Vec<i64>,
    dlq: Vec<i64>,
}

/// What it took from the first effect to the last.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    pub seconds: f64,
    /// CPU seconds: of the rival, PostgreSQL and Kafka.
    pub cpu: [f64; 3],
}

pub struct Watch<'a> {
    pub rival: &'a Rival,
    pub expected: &'a Expected,
    pub world: &'a World,
    pub database: &'a Client,
    pub updates: Output,
    pub dlq: Output,
    /// How long nothing at all may happen.
    pub patience: Duration,
}

impl Watch<'_> {
    /// Waits until the result is right.
    pub async fn until_done(&mut self, instances: &mut Instances) -> anyhow::Result<Took> {
        let right: i64 = self.expected.stock.values().sum();
        let before = self.stock().await?;
        let (mut looks, mut stock_since): (Vec<Look>, Option<Instant>) = (Vec::new(), None);
        let (mut sum, mut moved) = (before, Instant::now());
        let (mut next_sum, mut next_try) = (Instant::now(), Instant::now());
        // The tables may be written by parts of a rival that know nothing of each other.
        let (mut not_before, mut missing) = (Instant::now(), 0);
        loop {
            let look = self.look(instances)?;
            let at = look.at;
            if at >= next_sum {
                let now = self.stock().await?;
                next_sum = at + (at.elapsed() * STOCK_SHARE).max(LOOK);
                moved = if now == sum { moved } else { at };
                sum = now;
                stock_since = (sum == right).then(|| stock_since.unwrap_or(at));
            }
            let last = looks.last().is_some_and(|last| same(last, &look));
            if !looks.is_empty() || sum != before || !is_empty(&look) || self.has_rows().await? {
                looks.push(look);
                moved = if last { moved } else { at };
            }
            if stock_since.is_some() && at >= next_try && looks.last().is_some_and(|look| self.may_do(look)) {
                let (begun, before) = (Instant::now(), missing);
                missing = self.rows_missing().await?;
                if !self.differing().await?.is_empty() {
                    stock_since = None;
                } else if missing > 0 {
                    not_before = Instant::now();
                    moved = if missing == before { moved } else { not_before };
                } else {
                    self.updates.read(|_| {})?;
                    self.dlq.read(|_| {})?;
                    let since = stock_since.map_or(not_before, |since| since.max(not_before));
                    if let Some(took) = self.done(&looks, since) {
                        return Ok(took);
                    }
                }
                next_try = Instant::now() + (begun.elapsed() * CLOSER_SHARE).max(LOOK);
            }
            if moved.elapsed() > self.patience {
                bail!("nothing has moved for {} s; {}", self.patience.as_secs(), self.missing(&looks).await?);
            }
            tokio::time::sleep((at + LOOK).saturating_duration_since(Instant::now())).await;
        }
    }

    fn look(&self, instances: &mut Instances) -> anyhow::Result<Look> {
        let rival = instances.look()?;
        let servers = meter::cpu(&self.world.servers())?;
        let (postgres, kafka) = servers.first().zip(servers.get(1)).context("a server has ended")?;
        let (updates, dlq) = (self.updates.ends()?, self.dlq.ends()?);
        Ok(Look { at: Instant::now(), cpu: [rival, *postgres, *kafka], updates, dlq })
    }

    /// Units of all stock rows.
    async fn stock(&self) -> anyhow::Result<i64> {
        let sql = "SELECT coalesce(sum(quantity_on_hand), 0)::bigint FROM inventory";
        Ok(self.database.query_one(sql, &[]).await?.get(0))
    }

    async fn has_rows(&self) -> anyhow::Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM events_log) OR EXISTS (SELECT FROM orders)";
        Ok(self.database.query_one(sql, &[]).await?.get(0))
    }

    /// Rows of the log and of the lines that are still to come.
    async fn rows_missing(&self) -> anyhow::Result<u64> {
        let (log, lines) = (self.expected.applied, self.expected.lines);
        let mut missing = 0;
        for (check, table, right) in [(Check::EventsLog, "events_log", log), (Check::Orders, "orders", lines)]
        {
            if self.rival.does(check) {
                let sql = format!("SELECT count(*) FROM {table}");
                let rows: i64 = self.database.query_one(&sql, &[]).await?.get(0);
                missing += right.saturating_sub(rows as u64);
            }
        }
        Ok(missing)
    }

    /// Stock rows that are not as they should be: what is there, and what should be.
    pub async fn differing(&self) -> anyhow::Result<Vec<(Row, Option<i64>, Option<i64>)>> {
        differing(self.database, self.expected).await
    }

    /// Whether the outputs could be all there.
    fn may_do(&self, look: &Look) -> bool {
        let enough = |ends: &[i64], wanted: u64| ends.iter().sum::<i64>() as u64 >= wanted;
        enough(&look.updates, self.wanted(Check::Updates)) && enough(&look.dlq, self.wanted(Check::Dlq))
    }

    /// Records that an output must hold.
    fn wanted(&self, check: Check) -> u64 {
        match check {
            Check::Updates if self.rival.does(check) => self.expected.changes,
            Check::Dlq if self.rival.does(check) => self.expected.rejects,
            _ => 0,
        }
    }

    /// From the first look to the first that had all outputs, or to the right tables if they came later.
    fn done(&self, looks: &[Look], tables_since: Instant) -> Option<Took> {
        let first = looks.first()?;
        let last = looks.iter().find(|look| {
            look.at >= tables_since
                && self.updates.count_before(&look.updates) >= self.wanted(Check::Updates)
                && self.dlq.count_before(&look.dlq) >= self.wanted(Check::Dlq)
        })?;
        let seconds = (last.at - first.at).max(LOOK).as_secs_f64();
        Some(Took { seconds, cpu: std::array::from_fn(|at| last.cpu[at] - first.cpu[at]) })
    }

    async fn missing(&mut self, looks: &[Look]) -> anyhow::Result<String> {
        if looks.is_empty() {
            return Ok("no effect of it was ever seen".to_owned());
        }
        self.updates.read(|_| {})?;
        self.dlq.read(|_| {})?;
        let differing = self.differing().await?;
        let sql = "SELECT (SELECT count(*) FROM events_log), (SELECT count(*) FROM orders)";
        let rows = self.database.query_one(sql, &[]).await?;
        let (events, lines): (i64, i64) = (rows.get(0), rows.get(1));
        Ok(format!(
            "{} of {} stock rows differ{}; updates {} of {}, rejects {} of {}, events in the log {events} of {}, \
             lines of orders {lines} of {}",
            differing.len(),
            self.expected.stock.len(),
            differing.first().map(|first| format!(" ({})", told(first))).unwrap_or_default(),
            self.updates.count(),
            self.expected.changes,
            self.dlq.count(),
            self.expected.rejects,
            self.expected.applied,
            self.expected.lines
        ))
    }
}

fn same(one: &Look, other: &Look) -> bool {
    one.updates == other.updates && one.dlq == other.dlq
}

fn is_empty(look: &Look) -> bool {
    look.updates.iter().chain(&look.dlq).all(|&end| end == 0)
}

/// A differing stock row in words.
pub fn told(((product, location), there, right): &(Row, Option<i64>, Option<i64>)) -> String {
    let units = |units: &Option<i64>| units.map_or("no row".to_owned(), |units| units.to_string());
    format!("{product} at {location}: {}, should be {}", units(there), units(right))
}

/// Stock rows of a database that are not as they should be.
pub async fn differing(
    database: &Client,
    expected: &Expected,
) -> anyhow::Result<Vec<(Row, Option<i64>, Option<i64>)>> {
    let sql = "SELECT product_id, location_id, quantity_on_hand::bigint FROM inventory";
    let mut right = expected.stock.clone();
    let mut out = Vec::new();
    for row in database.query(sql, &[]).await? {
        let key: Row = (row.get(0), row.get(1));
        let (there, should) = (row.get(2), right.remove(&key));
        if should != Some(there) {
            out.push((key, Some(there), should));
        }
    }
    out.extend(right.into_iter().map(|(key, should)| (key, None, Some(should))));
    Ok(out)
}
