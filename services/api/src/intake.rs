//! Events that come in by HTTP: validated with the domain's own code, and accepted once Kafka has acknowledged them.

pub mod body;
pub mod events;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;
use serde_json::json;
use stocktide_domain::Source;
use stocktide_domain::decode::{Limits, Rules};
use stocktide_producers::outgoing::Outgoing;
use stocktide_runtime::kafka::{LogContext, client_config};
use stocktide_runtime::traces::{CONTEXT_MAX_BYTES, TRACEPARENT, TRACESTATE};
use stocktide_runtime::{Config, clock};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::metrics::Metrics;
use crate::params::{Id, Parameter as _};
use crate::problem::{Problem, shown};
use crate::query::{Nothing, PathOf, Query};
use crate::state::App;

/// Bodies that may be in hand at once, in bytes.
const ROOM_BYTES: usize = 64 * 1024 * 1024;
/// What room is counted in, in bytes.
const ROOM_UNIT: usize = 1_024;

type Producer = FutureProducer<LogContext>;

/// The way to Kafka.
pub struct Intake {
    client: rdkafka::ClientConfig,
    producer: RwLock<Producer>,
    metrics: Arc<Metrics>,
    currency: String,
    limits: Limits,
    body_max: usize,
    /// How long Kafka is waited for, so that the answer comes, one way or the other, before the request is given up. The client's own
    /// timeout may come a second late.
    patience: Duration,
    /// For bodies, in units of [`ROOM_UNIT`].
    room: Arc<Semaphore>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventAnswer {
    /// Its place in the request, from 0.
    pub index: usize,
    /// `accepted`: Kafka has it; `rejected`: it is not a valid event, and was not sent; `failed`: Kafka has not
    /// acknowledged it, and may have it all the same.
    #[schema(example = "accepted")]
    pub status: &'static str,
    /// Its event_id, where it has a valid one or got one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// The partition that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Its offset there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Why not: a reason code, or `not_acknowledged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What exactly is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What became of all events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IntakeAnswer {
    /// The topic.
    #[schema(example = "online_orders")]
    pub topic: &'static str,
    /// How many Kafka has.
    pub accepted: usize,
    /// How many were not sent.
    pub rejected: usize,
    /// Each event, in the order of the request.
    pub events: Vec<EventAnswer>,
}

impl Intake {
    /// Connects when it is first needed.
    ///
    /// # Errors
    /// When the configuration makes no producer.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Intake> {
        let mut client = client_config(config);
        let timeout = config.api.request_timeout.mul_f64(0.7).as_millis().max(10);
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("delivery.timeout.ms", timeout.to_string())
            .set("message.max.bytes", config.topics.max_message_bytes.to_string())
            .set("reconnect.backoff.max.ms", "1000");
        let producer = client.create_with_context(LogContext).context("no Kafka producer")?;
        let room = ROOM_BYTES.max(2 * config.api.body_max_bytes) / ROOM_UNIT;
        Ok(Intake {
            client,
            producer: RwLock::new(producer),
            metrics,
            currency: config.business.currency.clone(),
            limits: Limits { value_bytes: config.processor.event_max_bytes, ..Limits::default() },
            body_max: config.api.body_max_bytes,
            patience: config.api.request_timeout.mul_f64(0.85),
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        })
    }

    fn producer(&self) -> Producer {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A producer that can go on no more is thrown away.
    fn renew(&self, broken: &Producer) {
        let Some((code, reason)) = broken.client().fatal_error() else { return };
        tracing::error!("Kafka refuses to go on ({code}): {reason}");
        match self.client.create_with_context(LogContext) {
            Ok(producer) => *self.producer.write().unwrap_or_else(PoisonError::into_inner) = producer,
            Err(error) => tracing::error!("no Kafka producer: {error}"),
        }
    }

    fn rules(&self) -> Rules {
        Rules { currency: self.currency.clone(), now: clock::now(), limits: self.limits }
    }
}

/// Sends events: one JSON object, an array of them (`application/json`), or one a line (`application/x-ndjson`).
///
/// Each is validated as the processor would, and sent if it is valid; an event without event_id gets one: from the header
/// Idempotency-Key, the topic, the event's place in the request and its bytes, so that the same request sent again is applied
/// once, or else a new one. Whether a valid event fits the catalogue and the stock is the processor's to judge.
#[utoipa::path(post, path = "/events/{topic}", tag = "intake",
    params(
        ("topic" = String, Path, description = "An input topic", example = "online_orders"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 256 visible ASCII characters"),
    ),
    request_body(description = "The events", content((Object = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 202, description = "Kafka has every event (acks=all)", body = IntakeAnswer),
        (status = 207, description = "Kafka has some; the others are not valid and were not sent", body = IntakeAnswer),
        (status = 404, description = "There is no such topic to send to", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "The body is longer than api.body_max_bytes, or holds more than 10,000 events",
         body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is neither JSON nor NDJSON", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "No event is valid; the member `events` says why", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "Kafka has not acknowledged every event (the member `events` says which), is away, \
         or too much is in hand", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn send(
    State(app): State<App>,
    topic: PathOf<Id>,
    _: Query<Nothing>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let name = topic.0.0;
    let source = Source::from_topic(&name).ok_or_else(|| {
        let allowed = Source::ALL.map(Source::topic).join(", ");
        Problem::not_found(format!("there is no topic {:?} to send to; allowed: {allowed}", shown(&name)))
    })?;
    let kind = body::Kind::of(&headers)?;
    let key = idempotency_key(&headers)?;
    if let Some(part) = app.pulse.status().parts.remove("kafka").filter(|part| !part.ok) {
        return Err(Problem::unavailable(part.detail.unwrap_or_default()).of("kafka"));
    }
    let intake = &app.intake;
    let units = u32::try_from(body::expected(&headers, intake.body_max).div_ceil(ROOM_UNIT).max(1));
    let room = Arc::clone(&intake.room).try_acquire_many_owned(units.unwrap_or(u32::MAX));
    let room = room.map_err(|_| Problem::overloaded("too many events are in hand; try again"))?;
    let bytes = body::read(request.into_body(), intake.body_max).await?;
    let rules = intake.rules();
    let prepared = tokio::task::spawn_blocking(move || -> Result<Vec<events::Prepared>, Problem> {
        let parts = body::split(kind, &bytes)?.into_iter().enumerate();
        Ok(parts.map(|(at, part)| events::prepare(source, part, &rules, key.as_deref(), at)).collect())
    });
    let prepared = prepared.await.map_err(|_| Problem::internal("the log says more"))??;
    let events = deliver(intake, source, prepared, trace_of(&headers)).await;
    drop(room);
    Ok(answer(&intake.metrics, source, events))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
    let read = text.and_then(Id::read).filter(|_| given.next().is_none());
    read.map(|id| Some(id.0)).ok_or_else(|| {
        let detail = "Idempotency-Key must stand once and have 1 to 256 visible ASCII characters";
        Problem::invalid_parameter(detail).about("Idempotency-Key")
    })
}

/// The request's trace context, for the records that it becomes.
fn trace_of(headers: &HeaderMap) -> Option<OwnedHeaders> {
    let mut kept: Option<OwnedHeaders> = None;
    for key in [TRACEPARENT, TRACESTATE] {
        if let Some(value) = headers.get(key).filter(|value| value.len() < CONTEXT_MAX_BYTES) {
            kept = Some(kept.unwrap_or_default().insert(Header { key, value: Some(value.as_bytes()) }));
        }
    }
    kept
}

/// Sends what is valid, in order, and waits for Kafka's answers.
async fn deliver(
    intake: &Intake,
    source: Source,
    prepared: Vec<events::Prepared>,
    trace: Option<OwnedHeaders>,
) -> Vec<EventAnswer> {
    let deadline = Instant::now() + intake.patience;
    let producer = intake.producer();
    let mut answers = Vec::with_capacity(prepared.len());
    let mut under_way = Vec::new();
    for (index, event) in prepared.into_iter().enumerate() {
        let mut answer = EventAnswer {
            index,
            status: "rejected",
            event_id: None,
            partition: None,
            offset: None,
            reason: None,
            detail: None,
        };
        match event {
            Err(reject) => {
                (answer.event_id, answer.reason) = (reject.event_id, Some(reject.reason.code()));
                answer.detail = Some(reject.detail);
            }
            Ok((event_id, Outgoing { key, value, .. })) => {
                answer.event_id = Some(event_id);
                let mut record: FutureRecord<'_, str, [u8]> =
                    FutureRecord::to(source.topic()).payload(&value);
                record.key = key.as_deref();
                record.headers.clone_from(&trace);
                match producer.send_result(record) {
                    Ok(delivery) => under_way.push((index, delivery)),
                    Err((error, _)) => fail(&mut answer, &error),
                }
            }
        }
        answers.push(answer);
    }
    for (index, delivery) in under_way {
        let answer = &mut answers[index];
        match timeout_at(deadline, delivery).await {
            Ok(Ok(Ok(at))) => {
                (answer.status, answer.partition, answer.offset) =
                    ("accepted", Some(at.partition), Some(at.offset));
            }
            Ok(Ok(Err((error, _)))) => fail(answer, &error),
            Ok(Err(_)) => fail(answer, &KafkaError::Canceled),
            Err(_) => fail(answer, &KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
        }
    }
    if answers.iter().any(|answer| answer.status == "failed") {
        intake.renew(&producer);
    }
    answers
}

fn fail(answer: &mut EventAnswer, error: &KafkaError) {
    answer.status = "failed";
    answer.reason = Some("not_acknowledged");
    let told = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => "too many events wait for Kafka".to_owned(),
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    answer.detail = Some(told);
}

fn answer(metrics: &Metrics, source: Source, events: Vec<EventAnswer>) -> Response {
    let count = |status: &str| events.iter().filter(|event| event.status == status).count();
    let (accepted, rejected, failed) = (count("accepted"), count("rejected"), count("failed"));
    for (outcome, n) in [("accepted", accepted), ("rejected", rejected), ("failed", failed)] {
        metrics.intake.with_label_values(&[source.topic(), outcome]).inc_by(n as u64);
    }
    let more =
        json!({ "topic": source.topic(), "accepted": accepted, "rejected": rejected, "events": events });
    if failed > 0 {
        let detail =
            format!("{failed} of {} events were not acknowledged; they may have arrived", events.len());
        return Problem::not_acknowledged(detail).of("kafka").with(more).into_response();
    }
    if accepted == 0 {
        let detail = format!("none of {} events is valid; nothing was sent", events.len());
        return Problem::events_rejected(detail).with(more).into_response();
    }
    let status = if rejected == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    (status, Json(IntakeAnswer { topic: source.topic(), accepted, rejected, events })).into_response()
}
