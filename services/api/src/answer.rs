//! Answers: lists, and what carries an entity tag.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::params::cursor;
use crate::problem::Problem;

/// A part of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next part begins: to be sent as `cursor`; null: this is the end.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    /// A list out of rows of which one more was asked for than is wanted.
    pub fn of<K: Serialize>(mut rows: Vec<T>, asked: i64, key: impl Fn(&T) -> K) -> Listed<T> {
        let wanted = usize::try_from(asked - 1).unwrap_or_default();
        let is_more = rows.len() > wanted;
        rows.truncate(wanted);
        let next = rows.last().filter(|_| is_more).map(|last| cursor(&key(last)));
        Listed { items: rows, next }
    }

    /// The same list of something else.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Listed<U> {
        Listed { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

/// JSON with an entity tag; nothing but the tag where the one who asks has it already.
pub fn tagged<T: Serialize>(request: &HeaderMap, value: &T) -> Result<Response, Problem> {
    let json = serde_json::to_vec(value).map_err(|error| Problem::internal(error.to_string()))?;
    let digest = Sha256::digest(&json);
    let half = STANDARD_NO_PAD.encode(&digest[..16]);
    // Weak: the same answer may come compressed or not.
    let tag = format!("W/\"{half}\"");
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/"));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// What a route without entity tag answers.
pub type Answer<T> = Result<Json<T>, Problem>;
