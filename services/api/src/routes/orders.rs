//! One order.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use stocktide_store::api::{self, Order};
use utoipa::IntoParams;

use crate::answer::tagged;
use crate::params::{Id, OrderSource};
use crate::problem::{Problem, shown};
use crate::query::{PathOf, Query};
use crate::state::App;

/// Whose order it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrderQuery {
    /// online_orders (as nobody says), or store_sales.
    #[param(value_type = Option<String>, pattern = "^(online_orders|store_sales)$")]
    source: Option<OrderSource>,
}

/// An order with its lines, what came of them, and its payments.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders",
    params(("id" = String, Path, description = "The order, or the store's sale", min_length = 1, max_length = 256), OrderQuery),
    responses(
        (status = 200, body = Order, headers(("ETag" = String))),
        (status = 304, description = "As the header If-None-Match has it"),
        (status = 404, description = "The source knows no such order", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn order(
    State(app): State<App>,
    headers: HeaderMap,
    id: PathOf<Id>,
    query: Query<OrderQuery>,
) -> Result<Response, Problem> {
    let id = id.0.0;
    let source = query.0.source.map_or("online_orders", |source| source.0);
    let order: Option<Order> = api::order(&app.pool, source, &id).await?;
    let order =
        order.ok_or_else(|| Problem::not_found(format!("{source} knows no order {:?}", shown(&id))))?;
    tagged(&headers, &order)
}
