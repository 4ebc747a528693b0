//! One function for each reader of outside bytes.
//!
//! A target reads its input as the program would, asserts what must hold of any answer, and returns a number that stands for the
//! answer: inputs with a new one are gone on from.

mod configuration;
mod events;
mod files;
mod requests;

use std::hash::{DefaultHasher, Hasher as _};

/// A reader of outside bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Reads an input; what it answers is a number for the kind of answer.
    pub run: fn(&[u8]) -> u64,
    /// Words of its language.
    pub tokens: &'static [&'static str],
    /// Bytes of the heap that it may hold whatever the input.
    pub heap_bytes: usize,
}

const KIB: usize = 1_024;
const MIB: usize = 1_024 * KIB;

/// All of them.
pub const TARGETS: [Target; 16] = [
    of("online_orders", events::online_orders, events::TOKENS, 256 * KIB),
    of("store_sales", events::store_sales, events::TOKENS, 256 * KIB),
    of("supplier_restocks", events::supplier_restocks, events::TOKENS, 256 * KIB),
    of("payments", events::payments, events::TOKENS, 256 * KIB),
    of("dlq_headers", events::dlq_headers, events::HEADER_TOKENS, 64 * KIB),
    of("dlq_replacements", events::dlq_replacements, events::TOKENS, 256 * KIB),
    of("jq_expressions", events::jq_expressions, events::JQ_TOKENS, 32 * MIB),
    of("jq_values", events::jq_values, events::TOKENS, 32 * MIB),
    of("sent_events", events::sent, events::TOKENS, 256 * KIB),
    of("catalogue", files::catalogue, files::CATALOGUE_TOKENS, MIB),
    of("online_retail", files::online_retail, files::RETAIL_TOKENS, 2 * MIB),
    of("report_manifest", files::report_manifest, files::MANIFEST_TOKENS, 256 * KIB),
    of("schedule", files::schedule, files::SCHEDULE_TOKENS, MIB),
    of("configuration", configuration::file, configuration::TOKENS, 4 * MIB),
    of("environment", configuration::environment, configuration::TOKENS, 4 * MIB),
    of("api_requests", requests::request, requests::TOKENS, MIB),
];

const fn of(
    name: &'static str,
    run: fn(&[u8]) -> u64,
    tokens: &'static [&'static str],
    heap_bytes: usize,
) -> Target {
    Target { name, run, tokens, heap_bytes }
}

/// A number for what is said, whatever it is said of: without digits and what stands in quotes.
fn answer(said: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    for part in said.split('"').step_by(2) {
        part.bytes().filter(u8::is_ascii_alphabetic).take(80).for_each(|b| hash.write_u8(b));
    }
    hash.finish()
}

/// An error is one line for a person, which a terminal can show.
fn told(error: &str) -> u64 {
    assert!(!error.is_empty() && !error.contains('\n'), "not one line: {error:?}");
    answer(error)
}
