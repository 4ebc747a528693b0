//! What went wrong, as RFC 9457 asks for it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use stocktide_domain::card;
use stocktide_store::api::ReadError;
use utoipa::ToSchema;

/// How long to wait before trying again, in seconds.
const RETRY_AFTER: &str = "2";
/// The longest part of a request that is told again, in characters.
const SHOWN_CHARS: usize = 80;

/// Problem details (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Tells the kinds of problem apart.
    #[serde(rename = "type")]
    #[schema(example = "urn:stocktide:invalid-parameter")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The status code.
    #[schema(example = 400)]
    status: u16,
    /// What exactly is wrong, and what is allowed.
    detail: String,
    /// The parameter, field or header that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// The part that does not work: `database`, `schema` or `kafka`.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'static str>,
    /// More, depending on the kind.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Option<Box<Value>>,
}

macro_rules! kinds {
    ($($name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        impl Problem {
            $(#[doc = concat!($title, ".")]
            pub fn $name(detail: impl AsRef<str>) -> Problem {
                Problem::new(StatusCode::$status, concat!("urn:stocktide:", $slug), $title, detail.as_ref())
            })*
        }
    };
}

kinds! {
    invalid_parameter = BAD_REQUEST, "invalid-parameter", "A parameter is not allowed";
    malformed = BAD_REQUEST, "malformed-request", "The request cannot be read";
    unauthorized = UNAUTHORIZED, "unauthorized", "A valid bearer token is needed";
    forbidden = FORBIDDEN, "forbidden", "This is not allowed";
    not_found = NOT_FOUND, "not-found", "There is no such thing";
    method_not_allowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    too_large = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    unsupported_media_type = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body's type is not allowed";
    events_rejected = UNPROCESSABLE_ENTITY, "events-rejected", "No event was accepted";
    internal = INTERNAL_SERVER_ERROR, "internal-error", "A mistake in the program";
    unavailable = SERVICE_UNAVAILABLE, "unavailable", "A part is not available";
    overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too much at once";
    timed_out = SERVICE_UNAVAILABLE, "timed-out", "It took too long";
    not_acknowledged = SERVICE_UNAVAILABLE, "not-acknowledged", "Kafka has not acknowledged every event";
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: &str) -> Problem {
        // Whatever a request held may stand in it.
        let detail = card::masked(detail).into_owned();
        Problem { kind, title, status: status.as_u16(), detail, parameter: None, part: None, more: None }
    }

    /// The same, about a parameter.
    #[must_use]
    pub fn about(mut self, parameter: &str) -> Problem {
        self.parameter = Some(card::masked(&shown(parameter)).into_owned());
        self
    }

    /// The same, of a part.
    #[must_use]
    pub fn of(mut self, part: &'static str) -> Problem {
        self.part = Some(part);
        self
    }

    /// The same, with more members.
    #[must_use]
    pub fn with(mut self, more: Value) -> Problem {
        self.more = Some(Box::new(more));
        self
    }

    /// Its status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A part of a request, cut to what fits into a message.
pub fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"stocktide\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        use std::error::Error as _;
        let told = error.to_string();
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        match error {
            ReadError::Away(_) => {
                tracing::debug!("{told}: {cause}");
                Problem::unavailable(told).of("database")
            }
            ReadError::NoSchema(_) => {
                tracing::debug!("{told}: {cause}");
                Problem::unavailable(told).of("schema")
            }
            ReadError::TimedOut(_) => Problem::timed_out(told).of("database"),
            ReadError::Unfit(_) => Problem::invalid_parameter(told),
            ReadError::Refused(_) => {
                tracing::error!("{told}: {cause}");
                Problem::internal("the log says more")
            }
        }
    }
}
