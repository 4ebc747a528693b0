//! `/health`, `/metrics` and `/status`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::TextEncoder;
use serde::Serialize;
use serde_json::json;
use stocktide_store::api::{self, Totals};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::problem::Problem;
use crate::pulse::{Part, Status};
use crate::query::{Nothing, Query};
use crate::state::App;

/// Whether everything works.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The parts: `database`, `schema`, `kafka`.
    parts: BTreeMap<&'static str, Part>,
}

/// Whether everything works, and if not, which part does not.
#[utoipa::path(get, path = "/health", tag = "operation", security(()), responses(
    (status = 200, description = "Everything works", body = HealthAnswer),
    (status = 503, description = "A part does not: the member `parts` says which", body = Problem,
     content_type = "application/problem+json"),
))]
pub async fn health(State(app): State<App>, _: Query<Nothing>) -> Result<Json<HealthAnswer>, Problem> {
    let (database, schema) = match api::schema_is_there(&app.pool).await {
        Ok(true) => (Ok(()), Ok(())),
        Ok(false) => (Ok(()), Err("not there yet: run `stocktide migrate`".to_owned())),
        Err(error) => (Err(error.to_string()), Err("the database cannot be asked".to_owned())),
    };
    let kafka = app.pulse.status().parts.remove("kafka").unwrap_or_else(|| Part::of(Ok(())));
    let parts =
        BTreeMap::from([("database", Part::of(database)), ("schema", Part::of(schema)), ("kafka", kafka)]);
    let Some(failing) = ["database", "schema", "kafka"].into_iter().find(|name| !parts[name].ok) else {
        return Ok(Json(HealthAnswer { status: "ok", parts }));
    };
    let detail = parts[failing].detail.clone().unwrap_or_default();
    Err(Problem::unavailable(format!("{failing}: {detail}")).of(failing).with(json!({ "parts": parts })))
}

/// The metrics for Prometheus; the totals of everything where JSON is asked for.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "By the header Accept", content(
        (String = "text/plain"),
        (Totals = "application/json"),
    )),
))]
pub async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
    _: Query<Nothing>,
) -> Result<Response, Problem> {
    let vary = (header::VARY, HeaderValue::from_static("accept"));
    if prefers_json(&headers) {
        return Ok(([vary], Json(api::totals(&app.pool).await?)).into_response());
    }
    let text = TextEncoder::new()
        .encode_to_string(&app.registry.gather())
        .map_err(|error| Problem::internal(error.to_string()))?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
    Ok((StatusCode::OK, [vary, kind], text).into_response())
}

/// Whether JSON is wanted more than text is.
fn prefers_json(headers: &HeaderMap) -> bool {
    let weight_of = |wanted: &str| {
        let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let named = ranges.flat_map(|list| list.split(',')).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            is_named.then_some(weight)
        });
        named.fold(0.0_f64, f64::max)
    };
    let text = weight_of("text/plain").max(weight_of("application/openmetrics-text"));
    weight_of("application/json") > text
}

/// Throughput, lag and fates, and which parts work; at most two seconds old.
#[utoipa::path(get, path = "/status", tag = "operation", responses((status = 200, body = Status)))]
pub async fn status(State(app): State<App>, _: Query<Nothing>) -> Answer<Status> {
    Ok(Json(app.pulse.status()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_what_scrapers_get_and_json_who_asks_for_it() {
        for (accept, json) in [
            ("", false),
            ("*/*", false),
            ("application/json", true),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("application/json, text/plain;q=0.5", true),
            ("application/json;q=0.2, text/plain;q=0.5", false),
            ("application/json;q=0", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            assert_eq!(prefers_json(&headers), json, "{accept}");
        }
    }
}
