//! Statistics, from the rollups that the processor keeps in its own transaction.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{ReadError, amount};

/// What a user has ordered online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct UserStats {
    /// The user.
    pub user_id: String,
    /// Orders placed, cancelled ones included.
    pub order_count: i64,
    /// Of these, cancelled since.
    pub cancelled_orders: i64,
    /// Units ordered.
    pub units: i64,
    /// What was ordered: gross less cancellations and returns.
    #[schema(example = "1234.50")]
    pub total_spend: String,
    /// What was ordered, cancellations and returns not taken off.
    #[schema(example = "1300.00")]
    pub gross: String,
    /// Value of the orders that were cancelled.
    #[schema(example = "0.00")]
    pub cancelled_value: String,
    /// Value of what came back.
    #[schema(example = "65.50")]
    pub returned_value: String,
    /// total_spend over the orders that were not cancelled; null where there is none.
    #[schema(example = "41.15")]
    pub average_order: Option<String>,
    /// The first order's own time.
    pub first_order_at: Option<DateTime<Utc>>,
    /// The last order's own time.
    pub last_order_at: Option<DateTime<Utc>>,
}

macro_rules! user_columns {
    () => {
        concat!(
            "user_id, orders AS order_count, cancelled_orders, units, ",
            amount!("gross - cancelled_value - returned_value"),
            " AS total_spend, ",
            amount!("gross"),
            " AS gross, ",
            amount!("cancelled_value"),
            " AS cancelled_value, ",
            amount!("returned_value"),
            " AS returned_value, ",
            amount!("(gross - cancelled_value - returned_value) / nullif(orders - cancelled_orders, 0)"),
            " AS average_order, first_order_at, last_order_at"
        )
    };
}

/// A user; none: nobody of that name has ordered.
///
/// # Errors
/// [`ReadError`].
pub async fn user(pool: &PgPool, user_id: &str) -> Result<Option<UserStats>, ReadError> {
    let sql = concat!("SELECT ", user_columns!(), " FROM user_stats WHERE user_id = $1");
    Ok(sqlx::query_as(sql).bind(user_id).fetch_optional(pool).await?)
}

/// What a source has sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct SourceStats {
    /// The input topic.
    #[schema(example = "online_orders")]
    pub source: String,
    /// Orders or store sales, cancelled ones included.
    pub orders: i64,
    /// Units sold.
    pub units: i64,
    /// What was sold, cancellations and returns not taken off.
    pub gross: String,
    /// Orders that were cancelled.
    pub cancelled_orders: i64,
    /// Their value.
    pub cancelled_value: String,
    /// Returns.
    pub returns: i64,
    /// Their value.
    pub returned_value: String,
    /// Gross less cancellations and returns.
    pub revenue: String,
}

/// What was sold altogether.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GlobalStats {
    /// Online orders placed, cancelled ones included.
    pub total_orders: i64,
    /// Revenue of online orders: gross less cancellations and returns.
    pub total_revenue: String,
    /// Each source's own, online orders and store sales.
    pub sources: Vec<SourceStats>,
    /// The sum over the sources.
    pub all_sources: SourceStats,
}

macro_rules! sums {
    () => {
        concat!(
            "coalesce(sum(orders), 0)::bigint AS orders, coalesce(sum(units), 0)::bigint AS units, ",
            amount!("coalesce(sum(gross), 0)"),
            " AS gross, coalesce(sum(cancelled_orders), 0)::bigint AS cancelled_orders, ",
            amount!("coalesce(sum(cancelled_value), 0)"),
            " AS cancelled_value, coalesce(sum(returns), 0)::bigint AS returns, ",
            amount!("coalesce(sum(returned_value), 0)"),
            " AS returned_value, ",
            amount!("coalesce(sum(gross - cancelled_value - returned_value), 0)"),
            " AS revenue"
        )
    };
}

/// All that was sold so far.
///
/// # Errors
/// [`ReadError`].
pub async fn global(pool: &PgPool) -> Result<GlobalStats, ReadError> {
    // The sources are named, so that one that has sold nothing is there as well.
    let sql = concat!(
        "SELECT coalesce(s.source, 'all') AS source, ",
        sums!(),
        " FROM (VALUES ('online_orders'), ('store_sales')) AS s(source) LEFT JOIN sales_by_month m ON m.topic = s.source
         GROUP BY GROUPING SETS ((s.source), ()) ORDER BY s.source NULLS LAST"
    );
    let mut sources: Vec<SourceStats> = sqlx::query_as(sql).fetch_all(pool).await?;
    let all_sources = sources.pop().ok_or(ReadError::Refused(sqlx::Error::RowNotFound))?;
    let online = sources.first().ok_or(ReadError::Refused(sqlx::Error::RowNotFound))?;
    let (total_orders, total_revenue) = (online.orders, online.revenue.clone());
    Ok(GlobalStats { total_orders, total_revenue, sources, all_sources })
}

/// What was sold in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct MonthStats {
    /// The month in the installation's timezone.
    #[schema(example = "2011-11", pattern = "^[0-9]{4}-[0-9]{2}$")]
    pub month: String,
    /// Orders placed in it.
    pub orders: i64,
    /// Units sold in it.
    pub units: i64,
    /// What was sold in it.
    pub gross: String,
    /// Orders cancelled in it.
    pub cancelled_orders: i64,
    /// Their value.
    pub cancelled_value: String,
    /// Returns in it.
    pub returns: i64,
    /// Their value.
    pub returned_value: String,
    /// Gross less cancellations and returns.
    pub revenue: String,
}

/// Every month from the one that `first` is in to that of `last`, of one source or (none) of all.
///
/// # Errors
/// [`ReadError`].
pub async fn monthly(
    pool: &PgPool,
    first: NaiveDate,
    last: NaiveDate,
    source: Option<&str>,
) -> Result<Vec<MonthStats>, ReadError> {
    Ok(sqlx::query_as(MONTHLY).bind(first).bind(last).bind(source).fetch_all(pool).await?)
}

const MONTHLY: &str = concat!(
    "SELECT to_char(s.month, 'YYYY-MM') AS month, ",
    sums!(),
    " FROM generate_series($1::timestamp, $2::timestamp, interval '1 month') AS s(month)
     LEFT JOIN sales_by_month m ON m.month = s.month::date AND ($3::text IS NULL OR m.topic = $3)
     GROUP BY s.month ORDER BY s.month"
);

/// For who wants to see their plans: the ranking by spend, by orders (the number of users is $1), and the months (the first
/// and the last one, and the source).
pub const STATEMENTS: [&str; 3] = [TOP[0], TOP[1], MONTHLY];

/// What users are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// total_spend.
    Spend,
    /// order_count.
    Orders,
}

/// The first `n` users of all time; of equals, those with the lower id.
///
/// They come from `top_users`, which holds everybody above a floor; only where it holds too few of them is everybody looked at.
///
/// # Errors
/// [`ReadError`].
pub async fn top_users(pool: &PgPool, rank: Rank, n: i64) -> Result<Vec<UserStats>, ReadError> {
    let known: Vec<UserStats> = sqlx::query_as(of_rank(rank, TOP)).bind(n).fetch_all(pool).await?;
    if known.len() as i64 == n || sqlx::query_scalar(of_rank(rank, HOLDS_ALL)).fetch_one(pool).await? {
        return Ok(known);
    }
    Ok(sqlx::query_as(of_rank(rank, OF_ALL)).bind(n).fetch_all(pool).await?)
}

fn of_rank(rank: Rank, [by_spend, by_orders]: [&'static str; 2]) -> &'static str {
    match rank {
        Rank::Spend => by_spend,
        Rank::Orders => by_orders,
    }
}

const TOP: [&str; 2] = [
    concat!(
        "SELECT ",
        user_columns!(),
        " FROM (SELECT t.user_id FROM top_users t, top_users_floor f WHERE t.spend >= f.spend
                ORDER BY t.spend DESC, t.user_id LIMIT $1) t JOIN user_stats s USING (user_id)
          ORDER BY s.gross - s.cancelled_value - s.returned_value DESC, user_id"
    ),
    concat!(
        "SELECT ",
        user_columns!(),
        " FROM (SELECT t.user_id FROM top_users t, top_users_floor f WHERE t.orders >= f.orders
                ORDER BY t.orders DESC, t.user_id LIMIT $1) t JOIN user_stats s USING (user_id)
          ORDER BY s.orders DESC, user_id"
    ),
];
const HOLDS_ALL: [&str; 2] =
    ["SELECT spend = '-Infinity' FROM top_users_floor", "SELECT orders <= 0 FROM top_users_floor"];
const OF_ALL: [&str; 2] = [
    concat!(
        "SELECT ",
        user_columns!(),
        " FROM user_stats s ORDER BY s.gross - s.cancelled_value - s.returned_value DESC, s.user_id LIMIT $1"
    ),
    concat!("SELECT ", user_columns!(), " FROM user_stats s ORDER BY s.orders DESC, s.user_id LIMIT $1"),
];

/// Business days, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

/// The first `n` users of what happened on some days, by the events' own time: read from the ledger, so it costs what the
/// days hold.
///
/// # Errors
/// [`ReadError`].
pub async fn top_users_of_days(
    pool: &PgPool,
    rank: Rank,
    days: Days,
    n: i64,
) -> Result<Vec<UserStats>, ReadError> {
    let sql = of_rank(rank, OF_DAYS);
    Ok(sqlx::query_as(sql).bind(n).bind(days.first).bind(days.last).fetch_all(pool).await?)
}

/// Twice over the days: the first time for nothing but the rank, in one number each, the second time for those few who are told
/// of. Orders are told apart by their first lines: counting distinct ones would sort all lines.
macro_rules! of_days {
    ($rank:literal) => {
        concat!(
            "WITH d AS MATERIALIZED (
                SELECT $2::timestamp AT TIME ZONE timezone AS first, ($3::date + 1)::timestamp AT TIME ZONE timezone AS past
                FROM installation
             ), r AS (
                SELECT user_id, ",
            $rank,
            " AS rank FROM orders
                WHERE source = 'online_orders' AND user_id IS NOT NULL
                  AND \"timestamp\" >= (SELECT first FROM d) AND \"timestamp\" < (SELECT past FROM d)
                GROUP BY user_id ORDER BY rank DESC, user_id LIMIT $1
             ), s AS (
                SELECT user_id, min(rank) AS rank, count(*) FILTER (WHERE kind = 'sale' AND line_no = 1) AS orders,
                       count(DISTINCT order_id) FILTER (WHERE kind = 'cancellation') AS cancelled_orders,
                       coalesce(sum(quantity) FILTER (WHERE kind = 'sale'), 0)::bigint AS units,
                       coalesce(sum(quantity * unit_price) FILTER (WHERE kind = 'sale'), 0) AS gross,
                       coalesce(-sum(quantity * unit_price) FILTER (WHERE kind = 'cancellation'), 0) AS cancelled_value,
                       coalesce(-sum(quantity * unit_price) FILTER (WHERE kind = 'return'), 0) AS returned_value,
                       min(\"timestamp\") FILTER (WHERE kind = 'sale') AS first_order_at,
                       max(\"timestamp\") FILTER (WHERE kind = 'sale') AS last_order_at
                FROM r JOIN orders USING (user_id)
                WHERE source = 'online_orders'
                  AND \"timestamp\" >= (SELECT first FROM d) AND \"timestamp\" < (SELECT past FROM d)
                GROUP BY user_id
             ) SELECT ",
            user_columns!(),
            " FROM s ORDER BY rank DESC, user_id"
        )
    };
}

const OF_DAYS: [&str; 2] = [
    of_days!("sum(quantity * unit_price)"),
    of_days!("count(*) FILTER (WHERE kind = 'sale' AND line_no = 1)"),
];
