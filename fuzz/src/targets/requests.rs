//! What the HTTP API reads of a request, beyond what its server library has read.

use stocktide_api::outside;

use super::answer;

pub const TOKENS: &[&str] = &[
    "query ",
    "path ",
    "body ",
    "lines ",
    "place ",
    "limit=",
    "cursor=",
    "by=spend",
    "start=2024-01",
    "end=2024-02-29",
    "source=all",
    "status=oversold",
    "location=",
    "product=",
    "category=",
    "q=",
    "hours=24",
    "revision=1",
    "reason=unknown_product",
    "topic=payments",
    "job=",
    "state=failed",
    "%ff",
    "%",
    "%00",
    "+",
    "&",
    "=",
    "WyJhIiwxXQ",
    "bnVsbA",
    "0.41.9000000000",
    "{\"order_id\":\"A-1\",\"order_timestamp\":\"2026-03-01T12:00:00Z\",\"items\":[{\"product_id\":\"p-1\",\"quantity\":1,\"price_per_unit\":\"1.00\"}]}",
];

/// The first word says which part of a request it is.
pub fn request(input: &[u8]) -> u64 {
    let end = input.iter().position(|b| *b == b' ').unwrap_or(0);
    let rest = input.get(end + 1..).unwrap_or_default();
    let text = String::from_utf8_lossy(rest);
    let said = match &input[..end] {
        b"path" => outside::path(&text),
        b"body" => outside::body(rest, false),
        b"lines" => outside::body(rest, true),
        b"place" => outside::place(&text),
        _ => outside::query(&text),
    };
    for problem in &said {
        assert!(serde_json::from_str::<serde_json::Value>(problem).is_ok(), "no JSON: {problem}");
    }
    answer(&said.iter().map(|problem| problem.replace("\\\"", "").replace('"', "")).collect::<String>())
}
