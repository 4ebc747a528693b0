//! Sales and top sellers.

use sqlx::{FromRow, PgConnection};
use stocktide_domain::Money;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{Comparison, Earlier, Sales, SalesGroup, Seller, TopSellers, Totals};

use super::{Span, days_before};

/// Of one day, or of its lines from one source, at one location or of one category. An event has one kind of lines.
pub(super) const SALES: &str = "
    SELECT grouping(o.source, o.location_id, p.category) AS without,
        o.source, o.location_id, p.category, l.name AS location,
        count(DISTINCT o.event_id) FILTER (WHERE o.kind = 'sale') AS orders,
        count(*) FILTER (WHERE o.kind = 'sale') AS lines,
        coalesce(sum(o.quantity) FILTER (WHERE o.kind = 'sale'), 0)::bigint AS units,
        coalesce(sum(o.quantity * o.unit_price * 10000) FILTER (WHERE o.kind = 'sale'), 0)::bigint AS gross,
        count(DISTINCT o.event_id) FILTER (WHERE o.kind = 'cancellation') AS cancellations,
        coalesce(-sum(o.quantity) FILTER (WHERE o.kind = 'cancellation'), 0)::bigint AS cancelled_units,
        coalesce(-sum(o.quantity * o.unit_price * 10000) FILTER (WHERE o.kind = 'cancellation'), 0)::bigint AS cancelled_value,
        count(DISTINCT o.event_id) FILTER (WHERE o.kind = 'return') AS returns,
        coalesce(-sum(o.quantity) FILTER (WHERE o.kind = 'return'), 0)::bigint AS returned_units,
        coalesce(-sum(o.quantity * o.unit_price * 10000) FILTER (WHERE o.kind = 'return'), 0)::bigint AS returned_value
    FROM orders o LEFT JOIN products p USING (product_id) LEFT JOIN locations l USING (location_id)
    WHERE o.\"timestamp\" >= $1 AND o.\"timestamp\" < $2
    GROUP BY GROUPING SETS ((), (o.source), (o.location_id, l.name), (p.category))
    ORDER BY without, o.source COLLATE \"C\", o.location_id COLLATE \"C\", p.category COLLATE \"C\"";

/// Bits of `without`: what a group is not divided by.
const SOURCE: i32 = 0b011;
const LOCATION: i32 = 0b101;
const CATEGORY: i32 = 0b110;

#[derive(FromRow)]
struct SalesRow {
    without: i32,
    source: Option<String>,
    location_id: Option<String>,
    category: Option<String>,
    location: Option<String>,
    orders: i64,
    lines: i64,
    units: i64,
    gross: i64,
    cancellations: i64,
    cancelled_units: i64,
    cancelled_value: i64,
    returns: i64,
    returned_units: i64,
    returned_value: i64,
}

impl SalesRow {
    fn totals(&self) -> Totals {
        Totals {
            orders: self.orders,
            lines: self.lines,
            units: self.units,
            gross: Money::from_ten_thousandths(self.gross),
            cancellations: self.cancellations,
            cancelled_units: self.cancelled_units,
            cancelled_value: Money::from_ten_thousandths(self.cancelled_value),
            returns: self.returns,
            returned_units: self.returned_units,
            returned_value: Money::from_ten_thousandths(self.returned_value),
            ..Totals::default()
        }
        .completed()
    }
}

async fn of_span(db: &mut PgConnection, span: Span) -> Result<Vec<SalesRow>, sqlx::Error> {
    sqlx::query_as(SALES).bind(span.start).bind(span.end).fetch_all(db).await
}

fn total(rows: &[SalesRow]) -> Totals {
    let all = rows.iter().find(|row| ![SOURCE, LOCATION, CATEGORY].contains(&row.without));
    all.map(SalesRow::totals).unwrap_or_default()
}

fn groups(rows: &[SalesRow], without: i32) -> Vec<SalesGroup> {
    let of = rows.iter().filter(|row| row.without == without);
    of.map(|row| {
        let key = [&row.source, &row.location_id, &row.category].into_iter().flatten().next();
        let key = key.cloned().unwrap_or_default();
        SalesGroup { name: row.location.clone().unwrap_or_else(|| key.clone()), key, totals: row.totals() }
    })
    .collect()
}

/// A day's sales beside those of the day before and of a week before.
pub(super) async fn sales(db: &mut PgConnection, day: BusinessDay) -> Result<Sales, sqlx::Error> {
    let rows = of_span(db, day.into()).await?;
    let total_of_day = total(&rows);
    let mut earlier = Vec::with_capacity(2);
    for days in [1, 7] {
        let before = days_before(day, days);
        let totals = total(&of_span(db, before.into()).await?);
        earlier.push(Earlier::of(before.date, totals, &total_of_day));
    }
    let [day_before, week_before] = <[Earlier; 2]>::try_from(earlier)
        .map_err(|_| sqlx::Error::Protocol("a day has two days to be compared with".to_owned()))?;
    Ok(Sales {
        by_source: groups(&rows, SOURCE),
        by_location: groups(&rows, LOCATION),
        by_category: groups(&rows, CATEGORY),
        total: total_of_day,
        compared: Comparison { day_before, week_before },
    })
}

/// Lines of goods alone: a service moves no stock, so its lines have no delta.
pub(super) const TOP_SELLERS: &str = "
    WITH sold AS (
        SELECT product_id, count(DISTINCT event_id) FILTER (WHERE kind = 'sale') AS orders,
            sum(quantity) FILTER (WHERE kind = 'sale')::bigint AS units,
            (sum(quantity * unit_price * 10000) FILTER (WHERE kind = 'sale'))::bigint AS revenue,
            coalesce(-sum(quantity) FILTER (WHERE kind <> 'sale'), 0)::bigint AS returned_units,
            coalesce(-sum(quantity * unit_price * 10000) FILTER (WHERE kind <> 'sale'), 0)::bigint AS returned_value
        FROM orders WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 AND delta IS NOT NULL
        GROUP BY product_id HAVING bool_or(kind = 'sale')
    ), ranked AS (
        SELECT *, row_number() OVER (ORDER BY units DESC, revenue DESC, product_id COLLATE \"C\") AS by_units,
            row_number() OVER (ORDER BY revenue DESC, units DESC, product_id COLLATE \"C\") AS by_revenue
        FROM sold
    )
    SELECT product_id, coalesce(p.name, product_id) AS name, coalesce(p.category, '') AS category, orders, units, revenue,
        returned_units, returned_value, by_units, by_revenue
    FROM ranked LEFT JOIN products p USING (product_id) WHERE by_units <= $3 OR by_revenue <= $3
    ORDER BY by_units";

#[derive(FromRow)]
struct SellerRow {
    product_id: String,
    name: String,
    category: String,
    orders: i64,
    units: i64,
    revenue: i64,
    returned_units: i64,
    returned_value: i64,
    by_units: i64,
    by_revenue: i64,
}

/// The products that sold best on a day.
pub(super) async fn top_sellers(
    db: &mut PgConnection,
    day: BusinessDay,
    top_n: u32,
) -> Result<TopSellers, sqlx::Error> {
    let query = sqlx::query_as(TOP_SELLERS).bind(day.start).bind(day.end).bind(i64::from(top_n));
    let rows: Vec<SellerRow> = query.fetch_all(db).await?;
    let list = |rank_of: fn(&SellerRow) -> i64| {
        let ranked = rows.iter().filter_map(|row| Some((u32::try_from(rank_of(row)).ok()?, row)));
        let mut sellers: Vec<Seller> =
            ranked.filter(|(rank, _)| *rank <= top_n).map(|(rank, row)| seller(rank, row)).collect();
        sellers.sort_unstable_by_key(|seller| seller.rank);
        sellers
    };
    Ok(TopSellers { top_n, by_units: list(|row| row.by_units), by_revenue: list(|row| row.by_revenue) })
}

fn seller(rank: u32, row: &SellerRow) -> Seller {
    Seller {
        rank,
        product_id: row.product_id.clone(),
        name: row.name.clone(),
        category: row.category.clone(),
        orders: row.orders,
        units: row.units,
        revenue: Money::from_ten_thousandths(row.revenue),
        returned_units: row.returned_units,
        returned_value: Money::from_ten_thousandths(row.returned_value),
    }
}
