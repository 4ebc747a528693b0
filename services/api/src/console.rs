//! Static files: the console at `/`, and the page that shows the API.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::App;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Path, type and content of every file.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("../console/index.html")),
    ("/docs", HTML, include_bytes!("../docs/index.html")),
    ("/docs/docs.js", SCRIPT, include_bytes!("../docs/docs.js")),
    ("/docs/docs.css", STYLE, include_bytes!("../docs/docs.css")),
];

/// The routes of the files.
pub fn routes() -> Router<App> {
    FILES.iter().fold(Router::new(), |router, &(path, kind, content)| {
        router.route(path, get(move || async move { file(kind, content) }))
    })
}

fn file(kind: &'static str, content: &'static [u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}
