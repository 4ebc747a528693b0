//! What was odd on a day.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection};
use stocktide_domain::Money;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{
    Fates, LATE_GRACE_SECONDS, LISTED_ROWS, LateBySource, LateEvents, Outlier, Outliers, RejectCount,
    Rejects, Spread, Tenths, ValueMismatch, ValueMismatches,
};

use super::Span;

pub(super) const FATES: &str = "
    SELECT topic, sum(applied)::bigint AS applied, sum(duplicates)::bigint AS duplicates,
        sum(rejected)::bigint AS rejected, sum(parked)::bigint AS parked
    FROM fates_by_day WHERE day = $1 GROUP BY topic ORDER BY topic COLLATE \"C\"";

#[derive(FromRow)]
struct FatesRow {
    topic: String,
    applied: i64,
    duplicates: i64,
    rejected: i64,
    parked: i64,
}

/// The fates of what was processed on a day.
pub(super) async fn fates(db: &mut PgConnection, day: BusinessDay) -> Result<Vec<Fates>, sqlx::Error> {
    let rows: Vec<FatesRow> = sqlx::query_as(FATES).bind(day.date).fetch_all(db).await?;
    let fates = |row: FatesRow| {
        let FatesRow { topic, applied, duplicates, rejected, parked } = row;
        Fates {
            topic,
            consumed: applied + duplicates + rejected + parked,
            applied,
            duplicates,
            rejected,
            parked,
        }
    };
    Ok(rows.into_iter().map(fates).collect())
}

pub(super) const REJECTS: &str = "
    SELECT topic, coalesce(reason, '') AS reason, count(*) AS records FROM events_log
    WHERE status = 'rejected' AND processed_at >= $1 AND processed_at < $2
    GROUP BY topic, reason ORDER BY topic COLLATE \"C\", coalesce(reason, '') COLLATE \"C\"";

pub(super) const REJECTED: &str =
    "SELECT coalesce(sum(rejected), 0)::bigint FROM fates_by_day WHERE day = $1";

/// Why records were rejected that were processed on a day.
pub(super) async fn rejects(db: &mut PgConnection, day: BusinessDay) -> Result<Rejects, sqlx::Error> {
    let query = sqlx::query_as(REJECTS).bind(day.start).bind(day.end);
    let rows: Vec<(String, String, i64)> = query.fetch_all(&mut *db).await?;
    let records: i64 = sqlx::query_scalar(REJECTED).bind(day.date).fetch_one(&mut *db).await?;
    let logged: i64 = rows.iter().map(|(_, _, records)| records).sum();
    let count = |(topic, reason, records)| RejectCount { topic, reason, records };
    let by_reason = rows.into_iter().map(count).collect();
    Ok(Rejects { records, by_reason, reason_aged_out: records - logged })
}

pub(super) const QUANTITIES: &str = "
    SELECT quantity, count(*) FROM orders
    WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 AND kind = 'sale' AND quantity > 0 GROUP BY quantity";

pub(super) const OUTLIERS: &str = "
    SELECT o.source, o.order_id, o.line_no, o.kind, o.product_id, coalesce(p.name, o.product_id) AS name, o.quantity,
        (o.unit_price * 10000)::bigint AS unit_price, o.\"timestamp\" AS occurred_at, count(*) OVER () AS found
    FROM orders o LEFT JOIN products p USING (product_id)
    WHERE o.\"timestamp\" >= $1 AND o.\"timestamp\" < $2 AND abs(o.quantity) > $3
    ORDER BY abs(o.quantity) DESC, o.source COLLATE \"C\", o.order_id COLLATE \"C\", o.line_no, o.event_id LIMIT $4";

#[derive(FromRow)]
struct OutlierRow {
    source: String,
    order_id: String,
    line_no: i32,
    kind: String,
    product_id: String,
    name: String,
    quantity: i64,
    unit_price: i64,
    occurred_at: DateTime<Utc>,
    found: i64,
}

/// The day's lines whose quantity is unusual among the sale lines of `window_days` days.
pub(super) async fn outliers(
    db: &mut PgConnection,
    day: BusinessDay,
    window_days: u32,
) -> Result<Outliers, sqlx::Error> {
    let window = Span::last_days(day, window_days);
    let query = sqlx::query_as(QUANTITIES).bind(window.start).bind(window.end);
    let quantities: Vec<(i64, i64)> = query.fetch_all(&mut *db).await?;
    let lines: BTreeMap<i64, u64> = quantities.into_iter().map(|(q, lines)| (q, lines as u64)).collect();
    let spread = Spread::of(&lines);
    let mut rows: Vec<OutlierRow> = Vec::new();
    if let Some(spread) = &spread {
        let query = sqlx::query_as(OUTLIERS).bind(day.start).bind(day.end).bind(spread.largest_usual());
        rows = query.bind(i64::from(LISTED_ROWS)).fetch_all(db).await?;
    }
    let score = |quantity: i64| spread.map_or(0.0, |spread| spread.z_score(quantity.saturating_abs()));
    Ok(Outliers {
        window_days,
        window_lines: lines.values().sum::<u64>() as i64,
        median_quantity: spread.map(|spread| spread.median),
        spread_factor: spread.map(|spread| tenths(spread.factor)),
        largest_usual: spread.map(|spread| spread.largest_usual()),
        found: rows.first().map_or(0, |row| row.found),
        rows: rows.into_iter().map(|row| outlier(tenths(score(row.quantity)), row)).collect(),
    })
}

fn tenths(number: f64) -> Tenths {
    Tenths((number * 10.0).round() as i64)
}

fn outlier(z_score: Tenths, row: OutlierRow) -> Outlier {
    Outlier {
        source: row.source,
        order_id: row.order_id,
        line_no: row.line_no,
        kind: row.kind,
        product_id: row.product_id,
        name: row.name,
        quantity: row.quantity,
        unit_price: Money::from_ten_thousandths(row.unit_price),
        occurred_at: row.occurred_at,
        z_score,
    }
}

pub(super) const MISMATCHES: &str = "
    SELECT source, order_id, (stated_value * 10000)::bigint AS stated, (order_value * 10000)::bigint AS actual,
        count(*) OVER () AS orders, (sum(stated_value - order_value) OVER () * 10000)::bigint AS difference
    FROM order_headers
    WHERE value_mismatch AND ordered_at >= $1 AND ordered_at < $2 AND stated_value IS NOT NULL
    ORDER BY abs(stated_value - order_value) DESC, source COLLATE \"C\", order_id COLLATE \"C\" LIMIT $3";

#[derive(FromRow)]
struct MismatchRow {
    source: String,
    order_id: String,
    stated: i64,
    actual: i64,
    orders: i64,
    difference: i64,
}

/// The day's orders whose stated value was not what their lines add up to.
pub(super) async fn value_mismatches(
    db: &mut PgConnection,
    day: BusinessDay,
) -> Result<ValueMismatches, sqlx::Error> {
    let query = sqlx::query_as(MISMATCHES).bind(day.start).bind(day.end).bind(i64::from(LISTED_ROWS));
    let rows: Vec<MismatchRow> = query.fetch_all(db).await?;
    let (orders, difference) = rows.first().map_or((0, 0), |row| (row.orders, row.difference));
    let mismatch = |row: MismatchRow| ValueMismatch {
        source: row.source,
        order_id: row.order_id,
        stated_value: Money::from_ten_thousandths(row.stated),
        order_value: Money::from_ten_thousandths(row.actual),
    };
    Ok(ValueMismatches {
        orders,
        difference: Money::from_ten_thousandths(difference),
        rows: rows.into_iter().map(mismatch).collect(),
    })
}

pub(super) const LATE: &str = "
    SELECT source, count(DISTINCT event_id) AS events, count(*) AS lines, max(processed_at) AS last_processed_at FROM (
        SELECT source, event_id, processed_at FROM orders
        WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 AND processed_at > $3
        UNION ALL
        SELECT source, event_id, processed_at FROM restock_lines
        WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 AND processed_at > $3
    ) l GROUP BY source ORDER BY source COLLATE \"C\"";

/// The day's events that came after it had ended.
pub(super) async fn late_events(db: &mut PgConnection, day: BusinessDay) -> Result<LateEvents, sqlx::Error> {
    let grace = TimeDelta::seconds(i64::from(LATE_GRACE_SECONDS));
    let query = sqlx::query_as(LATE).bind(day.start).bind(day.end).bind(day.end + grace);
    let rows: Vec<(String, i64, i64, DateTime<Utc>)> = query.fetch_all(db).await?;
    let by_source: Vec<LateBySource> = rows
        .into_iter()
        .map(|(source, events, lines, last_processed_at)| LateBySource {
            source,
            events,
            lines,
            last_processed_at,
        })
        .collect();
    let events = by_source.iter().map(|late| late.events).sum();
    Ok(LateEvents { grace_seconds: LATE_GRACE_SECONDS, events, by_source })
}
