//! OpenTelemetry: spans go to a collector by OTLP when `traces.endpoint` is set, and cost next to nothing when it is not.
//!
//! A span is a `tracing` span of the target [`TARGET`]; logs know nothing of it. A batch takes records of many traces: it is a
//! trace of its own that is linked to theirs, as OpenTelemetry's conventions for messaging have it. What comes after a record
//! goes on with the record's own context, which is carried along in its headers (<https://www.w3.org/TR/trace-context/>).

use std::collections::HashMap;

use anyhow::Context as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::Config;

/// The target of all spans.
pub const TARGET: &str = "stocktide::traces";

/// The header that says which span a record or a request comes from.
pub const TRACEPARENT: &str = "traceparent";

/// The header with what vendors add to it.
pub const TRACESTATE: &str = "tracestate";

/// A longer header of the two is nobody's trace context, in bytes.
pub const CONTEXT_MAX_BYTES: usize = 512;

/// A span has no more links than this; a batch of thousands of records names the first ones.
const MOST_LINKS: usize = 128;

/// The way to the collector. What waits is sent when it is dropped.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Opens it; none where `traces.endpoint` is not set. `service` is the command's name, such as `processor`.
    ///
    /// # Errors
    /// When the exporter cannot be built. A collector that is away is no error: what it misses is logged.
    pub fn open(config: &Config, service: &str) -> anyhow::Result<Option<Traces>> {
        let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .context("traces.endpoint")?;
        let resource = Resource::builder().with_service_name(format!("stocktide-{service}")).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Traces { provider }))
    }

    /// What makes the spans.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("stocktide")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!("the last traces could not be sent: {error}");
        }
    }
}

/// The context that a `traceparent` names, if it is one.
fn context_of(traceparent: &str) -> Option<SpanContext> {
    // The propagator takes shorter ids for numbers.
    if traceparent.len() < "00-00000000000000000000000000000000-0000000000000000-00".len() {
        return None;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// Links a span to those that records come from, each once. Nothing is read where nobody takes the span.
pub fn link<'t>(span: &Span, traceparents: impl Iterator<Item = &'t str>) {
    if span.is_disabled() {
        return;
    }
    let mut seen = std::collections::HashSet::new();
    for traceparent in traceparents {
        if seen.len() == MOST_LINKS {
            break;
        }
        if let Some(context) = context_of(traceparent).filter(|_| seen.insert(traceparent)) {
            span.add_link(context);
        }
    }
}

/// Makes a span go on with the trace that a request comes from.
pub fn go_on_with(span: &Span, traceparent: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = traceparent.and_then(context_of) {
        // It fails only for a span that has begun, which a caller's has not.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
    }
}

#[cfg(test)]
mod tests {
    use super::context_of;

    #[test]
    fn a_context_is_read_as_the_standard_has_it() {
        let context = context_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(
            context.map(|context| context.trace_id().to_string()).as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        for wrong in [
            "",
            "00",
            "00-4bf9-00f0-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "\u{1b}[2J",
        ] {
            assert_eq!(context_of(wrong), None, "{wrong:?}");
        }
    }
}
