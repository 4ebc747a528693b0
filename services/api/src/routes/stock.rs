//! Products, their stock, and the stream of its changes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use stocktide_store::api::{
    self, Movement, MovementKey, ProductFilter, ProductRow, StockFilter, StockKey, StockRow,
};
use utoipa::{IntoParams, ToSchema};

use crate::answer::{Listed, tagged};
use crate::params::{Cursor, Id, Limit, MOST_ROWS, Status, Text, page};
use crate::problem::{Problem, shown};
use crate::query::{PathOf, Query};
use crate::state::App;
use crate::stream::{self, Wanted};

/// For how much of a request's time it may wait until others have walked the ledger.
const WALKS_WAIT: f64 = 0.5;

/// Which products are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProductsQuery {
    /// Rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the page before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<String>>,
    /// Of this category only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    category: Option<Text>,
    /// Those whose id or name contains it, whatever the case.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    q: Option<Text>,
}

/// The catalogue's products, with their stock over all locations.
#[utoipa::path(get, path = "/products", tag = "stock", params(ProductsQuery), responses(
    (status = 200, body = Listed<ProductRow>, headers(("ETag" = String))),
    (status = 304, description = "As the header If-None-Match has it"),
))]
pub async fn products(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query<ProductsQuery>,
) -> Result<Response, Problem> {
    let ProductsQuery { limit, cursor, category, q } = query.0;
    let page = page(limit, cursor);
    let filter = ProductFilter { category: category.map(|text| text.0), containing: q.map(|text| text.0) };
    let rows = api::products(&app.pool, &filter, &page).await?;
    tagged(&headers, &Listed::of(rows, page.limit, |row| row.product_id.clone()))
}

/// Which movements are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MovementsQuery {
    /// Movements at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the movements before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<MovementKey>>,
    /// Movements at this location only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    location: Option<Id>,
}

/// A product's stock and how it came about.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProductStock {
    /// The product.
    product: ProductRow,
    /// Its stock by location; at most 500.
    locations: Vec<StockRow>,
    /// Its movements, the newest first.
    #[schema(inline)]
    movements: Listed<Movement>,
}

/// A product's stock by location with versions, and its movements page by page, the newest first.
#[utoipa::path(get, path = "/products/{id}/stock", tag = "stock",
    params(("id" = String, Path, description = "The product", min_length = 1, max_length = 256), MovementsQuery),
    responses(
        (status = 200, body = ProductStock, headers(("ETag" = String))),
        (status = 304, description = "As the header If-None-Match has it"),
        (status = 404, description = "It is not in the catalogue", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn product_stock(
    State(app): State<App>,
    headers: HeaderMap,
    id: PathOf<Id>,
    query: Query<MovementsQuery>,
) -> Result<Response, Problem> {
    let (id, MovementsQuery { limit, cursor, location }) = (id.0.0, query.0);
    let product = api::product(&app.pool, &id).await?;
    let product = product
        .ok_or_else(|| Problem::not_found(format!("product {:?} is not in the catalogue", shown(&id))))?;
    let page = page(limit, cursor);
    let locations = api::product_stock(&app.pool, &id, MOST_ROWS).await?;
    let location = location.as_ref().map(|id| id.0.as_str());
    let movements = {
        let walk = tokio::time::timeout(app.request_timeout.mul_f64(WALKS_WAIT), app.walks.acquire()).await;
        let _walk = walk.map_err(|_| Problem::overloaded("too many ask for movements at once"))?;
        api::movements(&app.pool, &id, location, &page).await?
    };
    let movements = Listed::of(movements, page.limit, Movement::key);
    tagged(&headers, &ProductStock { product, locations, movements })
}

/// Which stock rows are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StockQuery {
    /// Rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the page before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<StockKey>>,
    /// In this status only: in_stock, low, out or oversold.
    #[param(value_type = Option<String>, pattern = "^(in_stock|low|out|oversold)$")]
    status: Option<Status>,
    /// At this location only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    location: Option<Id>,
    /// Those whose product's id or name contains it, whatever the case.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    q: Option<Text>,
}

/// Stock by product and location.
#[utoipa::path(get, path = "/stock", tag = "stock", params(StockQuery), responses(
    (status = 200, body = Listed<StockRow>, headers(("ETag" = String))),
    (status = 304, description = "As the header If-None-Match has it"),
))]
pub async fn stock(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query<StockQuery>,
) -> Result<Response, Problem> {
    let StockQuery { limit, cursor, status, location, q } = query.0;
    let page = page(limit, cursor);
    let filter = StockFilter {
        status: status.map(|status| status.0.to_owned()),
        location_id: location.map(|id| id.0),
        containing: q.map(|text| text.0),
    };
    let rows = api::stock(&app.pool, &filter, &page).await?;
    let key = |row: &StockRow| StockKey(row.product_id.clone(), row.location_id.clone());
    tagged(&headers, &Listed::of(rows, page.limit, key))
}

/// Which changes are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Of this product only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    product: Option<Id>,
    /// At this location only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    location: Option<Id>,
}

/// The changes of stock as they come, as server-sent events: the records of inventory_updates.
///
/// The event `stock` holds a record. Who connects again with the header Last-Event-ID gets what it missed; where that is
/// not there any more, or is more than 100,000 records, an event `reset` says so, and the stock is to be read anew. Records of
/// one product and location may come out of the order of their versions: the highest holds.
#[utoipa::path(get, path = "/stock/stream", tag = "stock",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses(
        (status = 200, description = "Events, without end", content_type = "text/event-stream", body = String),
        (status = 503, description = "Too many clients, or inventory_updates is not to be had", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn follow(
    State(app): State<App>,
    headers: HeaderMap,
    query: Query<StreamQuery>,
) -> Result<Response, Problem> {
    let StreamQuery { product, location } = query.0;
    let wanted = Wanted { product_id: product.map(|id| id.0), location_id: location.map(|id| id.0) };
    stream::follow(&app, Arc::clone(&app.config), &headers, wanted)
}
