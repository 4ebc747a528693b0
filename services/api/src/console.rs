//! Static files: the console at `/`, and the page that shows the API.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::App;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Path, type and content of a file.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! console {
    ($($name:literal $kind:ident),* $(,)?) => {
        [$((concat!("/console/", $name), $kind, include_bytes!(concat!("../console/", $name)).as_slice())),*]
    };
}

/// What the console's page asks for.
const CONSOLE: [File; 19] = console![
    "api.js" SCRIPT, "app.js" SCRIPT, "bytes.js" SCRIPT, "charts.js" SCRIPT, "connection.js" SCRIPT, "dom.js" SCRIPT,
    "flow.js" SCRIPT, "format.js" SCRIPT, "jobs.js" SCRIPT, "panel.js" SCRIPT, "product.js" SCRIPT, "rejects.js" SCRIPT,
    "sales.js" SCRIPT, "stock.js" SCRIPT, "stream.js" SCRIPT, "theme.js" SCRIPT, "ticker.js" SCRIPT, "token.js" SCRIPT,
    "icon.svg" PICTURE,
];

/// The two pages, and what else they ask for.
const PAGES: [File; 6] = [
    ("/", HTML, include_bytes!("../console/index.html")),
    ("/console/page.css", STYLE, include_bytes!("../console/page.css")),
    ("/console/parts.css", STYLE, include_bytes!("../console/parts.css")),
    ("/docs", HTML, include_bytes!("../docs/index.html")),
    ("/docs/docs.js", SCRIPT, include_bytes!("../docs/docs.js")),
    ("/docs/docs.css", STYLE, include_bytes!("../docs/docs.css")),
];

/// The routes of the files.
pub fn routes() -> Router<App> {
    PAGES.iter().chain(&CONSOLE).fold(Router::new(), |router, &(path, kind, content)| {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What reads HTML or code out of a text.
    const FORBIDDEN: [&str; 9] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "srcdoc",
        "DOMParser",
        "createContextualFragment",
        "eval(",
        "Function(",
    ];

    #[test]
    fn nothing_that_comes_from_outside_is_read_as_html_or_code() {
        for (path, _, content) in PAGES.iter().chain(&CONSOLE) {
            let text = std::str::from_utf8(content).unwrap();
            for word in FORBIDDEN {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }

    #[test]
    fn every_file_that_a_file_names_is_served() {
        let served: Vec<&str> = PAGES.iter().chain(&CONSOLE).map(|(path, _, _)| *path).collect();
        for (path, _, content) in &CONSOLE {
            let text = std::str::from_utf8(content).unwrap();
            for name in text.split(" from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(served.contains(&format!("/console/{name}").as_str()), "{path} imports {name}");
            }
        }
        let page = std::str::from_utf8(PAGES[0].2).unwrap();
        for part in page.split("=\"/").skip(1) {
            let name = format!("/{}", part.split('"').next().unwrap());
            assert!(served.contains(&name.as_str()), "the page names {name}");
        }
    }
}
