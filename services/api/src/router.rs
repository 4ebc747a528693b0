//! All routes, and the OpenAPI document that follows from them.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response as Documented, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::query::{Nothing, Query};
use crate::routes::{dlq, jobs, orders, reports, stats, stock};
use crate::state::App;
use crate::{console, health, intake};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Stocktide",
        description = "Stock, statistics, reports and intake. Amounts are decimal texts in the installation's currency. Lists are \
            read page by page: send what `next` says as `cursor`. What is unknown, given twice or not allowed is refused by \
            name; every error is a problem (RFC 9457)."
    ),
    components(schemas(Problem)),
    modifiers(&Bearer),
    security((), ("bearer" = [])),
    tags(
        (name = "statistics", description = "Users, months and all, exact at any moment"),
        (name = "stock", description = "Products, stock, movements and changes"),
        (name = "orders", description = "Orders and their payments"),
        (name = "reports", description = "Daily reports"),
        (name = "rejects", description = "Records that were rejected"),
        (name = "jobs", description = "Runs of scheduled jobs"),
        (name = "intake", description = "Events by HTTP"),
        (name = "operation", description = "How the installation fares")
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("api.token; see docs/api.md for when it is needed"))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
        .routes(routes!(health::status))
        .routes(routes!(stats::user))
        .routes(routes!(stats::global))
        .routes(routes!(stats::top))
        .routes(routes!(stats::monthly))
        .routes(routes!(stock::products))
        .routes(routes!(stock::product_stock))
        .routes(routes!(stock::stock))
        .routes(routes!(stock::follow))
        .routes(routes!(orders::order))
        .routes(routes!(reports::list))
        .routes(routes!(reports::one))
        .routes(routes!(dlq::list))
        .routes(routes!(dlq::reasons))
        .routes(routes!(jobs::runs))
        .routes(routes!(intake::send))
}

/// All routes.
pub fn routes() -> Router<App> {
    let (router, _) = documented().split_for_parts();
    router.merge(console::routes()).route("/openapi.json", get(document))
}

async fn document(State(app): State<App>, _: Query<Nothing>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], app.openapi.clone())
        .into_response()
}

/// The OpenAPI document.
pub fn openapi() -> OpenApi {
    let mut openapi = documented().into_openapi();
    for (path, item) in &mut openapi.paths.paths {
        for operation in operations(item) {
            tell_problems(path, operation);
        }
    }
    openapi
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().filter_map(Option::as_mut)
}

/// What may go wrong anywhere.
fn tell_problems(path: &str, operation: &mut Operation) {
    let anywhere = [
        ("400", "A parameter is not allowed"),
        ("401", "The token is wrong, or needed and missing"),
        ("403", "Not allowed without a token from here"),
        ("500", "A mistake in the program"),
        ("503", "A part is not available (the member `part` says which), or it took too long"),
    ];
    for (status, description) in anywhere {
        if path == "/health" && ["401", "403"].contains(&status) {
            continue;
        }
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
}

fn problem(description: &str) -> Documented {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
