//! What every request passes through, from the outside in.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use stocktide_runtime::traces::{self, TARGET, TRACEPARENT};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};
use tracing::Instrument as _;

use crate::access;
use crate::problem::{Problem, shown};
use crate::state::App;

/// A shorter answer is not compressed, in bytes.
const COMPRESSED_FROM: u16 = 1_024;

/// Nothing that an answer holds may do anything but what our own files tell it to.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// On every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The routes with everything around them.
pub fn around(routes: Router<App>, app: &App) -> Router {
    // An event must not wait in a compressor for the next.
    let compressed = SizeAbove::new(COMPRESSED_FROM).and(NotForContentType::SSE);
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), access::check))
        .layer(from_fn_with_state(app.clone(), deadline))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(from_fn(headers))
        .layer(from_fn(no_panic))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app.clone())
}

async fn no_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no {}; /docs says what there is", shown(uri.path())))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{method} is not allowed on {}", shown(uri.path())))
}

/// Gives a request up. What it asked the database for is given up there a little sooner.
async fn deadline(State(app): State<App>, request: Request, next: Next) -> Response {
    tokio::time::timeout(app.request_timeout, next.run(request)).await.unwrap_or_else(|_| {
        let seconds = app.request_timeout.as_secs_f64();
        Problem::timed_out(format!("the request was given up after {seconds} seconds")).into_response()
    })
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A mistake in the program costs one request, and is told as everything else is.
async fn no_panic(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(path, "a request panicked");
        Problem::internal("the log says more").into_response()
    })
}

async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    // Anybody can invent methods.
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let method =
        if known.contains(request.method()) { request.method().to_string() } else { "other".to_owned() };
    let span = tracing::info_span!(target: TARGET, parent: None, "request", otel.kind = "server",
        otel.name = format!("{method} {route}"), http.route = route, http.request.method = method,
        http.response.status_code = tracing::field::Empty);
    traces::go_on_with(&span, request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()));
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    let status = response.status();
    app.metrics.requests.with_label_values(&[&route, &method, &status.as_str().to_owned()]).inc();
    app.metrics.seconds.with_label_values(&[&route]).observe(started.elapsed().as_secs_f64());
    tracing::debug!(
        route,
        method,
        status = status.as_u16(),
        seconds = started.elapsed().as_secs_f64(),
        "request"
    );
    response
}
