//! Statistics of users, months and all.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use stocktide_store::api::{self, Days, GlobalStats, MonthStats, Rank, UserStats};
use utoipa::{IntoParams, ToSchema};

use crate::answer::Answer;
use crate::params::{By, Day, Id, Month, MonthSource, N};
use crate::problem::{Problem, shown};
use crate::query::{Nothing, PathOf, Query};
use crate::state::App;

/// The most months of a range.
const MOST_MONTHS: i32 = 1_200;
/// The most days of a ranking: they are read from the ledger.
const MOST_DAYS: i64 = 31;

/// What a user has ordered online; exact at this moment.
#[utoipa::path(get, path = "/users/{id}/stats", tag = "statistics",
    params(("id" = String, Path, description = "The user", min_length = 1, max_length = 256)),
    responses(
        (status = 200, body = UserStats),
        (status = 404, description = "Nobody of that id has ordered", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn user(State(app): State<App>, id: PathOf<Id>, _: Query<Nothing>) -> Answer<UserStats> {
    let id = id.0.0;
    let found = api::user(&app.pool, &id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found(format!("user {:?} has ordered nothing", shown(&id))))
}

/// What was sold altogether, online and by source; exact at this moment.
#[utoipa::path(get, path = "/stats/global", tag = "statistics", responses((status = 200, body = GlobalStats)))]
pub async fn global(State(app): State<App>, _: Query<Nothing>) -> Answer<GlobalStats> {
    Ok(Json(api::global(&app.pool).await?))
}

/// What users are ranked by, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopQuery {
    /// What is ranked: total_spend or order_count.
    #[param(value_type = Option<String>, pattern = "^(spend|orders)$", example = "spend")]
    by: Option<By>,
    /// The first business day, as YYYY-MM-DD; with end. Neither: all time.
    #[param(value_type = Option<String>, format = Date, pattern = "^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$")]
    start: Option<Day>,
    /// The last business day; at most 31 in all.
    #[param(value_type = Option<String>, format = Date, pattern = "^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$")]
    end: Option<Day>,
}

/// A ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct Top {
    /// `spend` or `orders`.
    #[schema(example = "spend")]
    by: &'static str,
    /// The first, and those after it.
    items: Vec<UserStats>,
}

/// The users who spent or ordered most. With start and end, at most 31 days: by what happened on those, read from the ledger.
#[utoipa::path(get, path = "/stats/top/{n}", tag = "statistics",
    params(("n" = u32, Path, description = "How many", minimum = 1, maximum = 1000), TopQuery),
    responses((status = 200, body = Top)))]
pub async fn top(State(app): State<App>, n: PathOf<N>, query: Query<TopQuery>) -> Answer<Top> {
    let TopQuery { by, start, end } = query.0;
    let rank = by.map_or(Rank::Spend, |by| by.0);
    let n = n.0.0;
    let items = match (start, end) {
        (None, None) => api::top_users(&app.pool, rank, n).await?,
        (Some(first), Some(last)) if (1..=MOST_DAYS).contains(&((last.0 - first.0).num_days() + 1)) => {
            api::top_users_of_days(&app.pool, rank, Days { first: first.0, last: last.0 }, n).await?
        }
        (Some(first), Some(last)) => {
            let detail = format!(
                "start is {} and end is {}; allowed: an end that is not before the start, and at most {MOST_DAYS} days",
                first.0, last.0
            );
            return Err(Problem::invalid_parameter(detail).about("end"));
        }
        (given, _) => {
            let missing = if given.is_some() { "end" } else { "start" };
            return Err(Problem::invalid_parameter("start and end go together").about(missing));
        }
    };
    Ok(Json(Top { by: if rank == Rank::Spend { "spend" } else { "orders" }, items }))
}

/// Which months are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MonthlyQuery {
    /// The first month, as YYYY-MM.
    #[param(value_type = String, example = "2011-01", pattern = "^(19|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])$")]
    start: Month,
    /// The last month; at most 1,200 in all.
    #[param(value_type = String, example = "2011-12", pattern = "^(19|2[0-9])[0-9]{2}-(0[1-9]|1[0-2])$")]
    end: Month,
    /// online_orders (as nobody says), store_sales, or all.
    #[param(value_type = Option<String>, pattern = "^(online_orders|store_sales|all)$")]
    source: Option<MonthSource>,
}

/// Months in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Months {
    /// `online_orders`, `store_sales` or `all`.
    #[schema(example = "online_orders")]
    source: &'static str,
    /// Every month of the range, those without sales included.
    months: Vec<MonthStats>,
}

/// What was sold in each month of a range, zeros included; exact at this moment.
#[utoipa::path(get, path = "/stats/monthly", tag = "statistics", params(MonthlyQuery),
    responses((status = 200, body = Months)))]
pub async fn monthly(State(app): State<App>, query: Query<MonthlyQuery>) -> Answer<Months> {
    let MonthlyQuery { start, end, source } = query.0;
    let months = end.number() - start.number() + 1;
    if !(1..=MOST_MONTHS).contains(&months) {
        let detail = format!(
            "start is {} and end is {}; allowed: an end that is not before the start, and at most {MOST_MONTHS} months",
            start.0.format("%Y-%m"),
            end.0.format("%Y-%m")
        );
        return Err(Problem::invalid_parameter(detail).about("end"));
    }
    let source = source.map_or(Some("online_orders"), |source| source.0);
    let months = api::monthly(&app.pool, start.0, end.0, source).await?;
    Ok(Json(Months { source: source.unwrap_or("all"), months }))
}
