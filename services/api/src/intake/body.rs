//! A request's body: bounded, and taken apart into events.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;

use crate::problem::{Problem, shown};

/// The most events of a request.
const MOST_EVENTS: usize = 10_000;
/// How many times what is allowed is read and thrown away, so that the answer is heard.
const PATIENCE_FACTOR: usize = 8;

/// How the events stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One object, or an array.
    Json,
    /// One a line.
    Lines,
}

impl Kind {
    /// By the header Content-Type. Nothing else is taken, and so a page of somebody else's cannot send anything without
    /// asking first.
    pub fn of(headers: &HeaderMap) -> Result<Kind, Problem> {
        let allowed = "allowed: application/json, application/x-ndjson";
        let coding = headers.get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or_default());
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Problem::unsupported_media_type(
                "the body must not be compressed (Content-Encoding)",
            ));
        }
        let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Ok(Kind::Json),
            "application/x-ndjson" | "application/jsonl" | "application/json-lines" => Ok(Kind::Lines),
            other => {
                let detail = format!("Content-Type is {:?}; {allowed}", shown(other));
                Err(Problem::unsupported_media_type(detail).about("Content-Type"))
            }
        }
    }
}

/// How long the body will be, at most.
pub fn expected(headers: &HeaderMap, most: usize) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    length.map_or(most, |length| length.min(most))
}

/// The body, if it is no longer than allowed.
pub async fn read(mut body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::too_large(format!(
            "the body is too long; at most {most} bytes are allowed (api.body_max_bytes)"
        ))
    };
    let (mut bytes, mut read) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("the body ended before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        if read <= most {
            bytes.extend_from_slice(&data);
        } else if read > most.saturating_mul(PATIENCE_FACTOR) {
            return Err(too_large());
        }
    }
    if read > most { Err(too_large()) } else { Ok(bytes) }
}

/// The events' own bytes. A line need not be an event, nor even JSON: that is told of it.
pub fn split(kind: Kind, body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let parts: Vec<&[u8]> = match kind {
        _ if body.is_empty() => Vec::new(),
        Kind::Lines => {
            body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
        }
        Kind::Json if body.starts_with(b"[") => {
            let elements: Vec<&RawValue> = serde_json::from_slice(body)
                .map_err(|error| Problem::malformed(format!("the body is not a JSON array: {error}")))?;
            elements.into_iter().map(|element| element.get().as_bytes()).collect()
        }
        Kind::Json => vec![body],
    };
    match parts.len() {
        0 => Err(Problem::malformed("the body holds no event")),
        1..=MOST_EVENTS => Ok(parts),
        many => Err(Problem::too_large(format!(
            "the body holds {many} events; at most {MOST_EVENTS} are allowed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(kind: Kind, body: &str) -> Vec<String> {
        let parts = split(kind, body.as_bytes()).unwrap();
        parts.into_iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
    }

    #[test]
    fn one_event_an_array_and_lines_are_taken_apart() {
        assert_eq!(texts(Kind::Json, "\u{feff} {\"a\": 1} "), ["{\"a\": 1}"]);
        assert_eq!(texts(Kind::Json, "[{\"a\": 1},\n 5, [\"x\"]]"), ["{\"a\": 1}", "5", "[\"x\"]"]);
        assert_eq!(texts(Kind::Lines, "{\"a\": 1}\r\n\nnot json\n"), ["{\"a\": 1}", "not json"]);
    }

    #[test]
    fn what_holds_no_events_or_too_many_is_refused() {
        for (kind, body) in [
            (Kind::Json, ""),
            (Kind::Json, "[]"),
            (Kind::Lines, " \n \n"),
            (Kind::Json, "[1,"),
            (Kind::Json, "[{}]x"),
        ] {
            assert_eq!(split(kind, body.as_bytes()).unwrap_err().status(), 400, "{body}");
        }
        assert_eq!(split(Kind::Lines, "1\n".repeat(10_001).as_bytes()).unwrap_err().status(), 413);
    }

    #[tokio::test]
    async fn a_body_has_a_longest_length() {
        assert_eq!(read(Body::from("12345"), 5).await.unwrap(), b"12345");
        assert_eq!(read(Body::from("123456"), 5).await.unwrap_err().status(), 413);
        assert_eq!(read(Body::from("1".repeat(1_000)), 5).await.unwrap_err().status(), 413);
    }
}
