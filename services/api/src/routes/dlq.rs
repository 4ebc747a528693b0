//! Rejected records.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use stocktide_runtime::clock;
use stocktide_store::api::{self, ReasonCount, RejectFilter, RejectKey, RejectRow};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::answer::{Answer, Listed};
use crate::params::{Cursor, Hours, Limit, ReasonCode, Topic, page};
use crate::query::Query;
use crate::state::App;

/// Hours back, where nobody says.
const USUAL_HOURS: i64 = 24;

/// Which rejected records are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DlqQuery {
    /// Rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    limit: Option<Limit>,
    /// What `next` of the page before said.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<RejectKey>>,
    /// Of this reason code only.
    #[param(value_type = Option<String>, example = "unknown_product", pattern = "^[a-z_]+$")]
    reason: Option<ReasonCode>,
    /// Of this input topic only.
    #[param(value_type = Option<String>, pattern = "^(online_orders|store_sales|supplier_restocks|payments)$")]
    topic: Option<Topic>,
}

/// A rejected record.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejected {
    /// When it was rejected.
    processed_at: DateTime<Utc>,
    /// The input topic.
    topic: String,
    /// Its partition.
    partition: i32,
    /// Its offset.
    offset: i64,
    /// The reason's stable code.
    #[schema(example = "unknown_product")]
    reason: Option<String>,
    /// What exactly was wrong.
    detail: Option<String>,
    /// The event_id, where one could be read.
    event_id: Option<Uuid>,
    /// Whether card numbers were masked.
    redacted: bool,
    /// The beginning of the record's key, at most 4,096 bytes; null: it has none.
    key: Option<Bytes>,
    /// The key's whole length.
    key_bytes: Option<i32>,
    /// The beginning of its value, at most 4,096 bytes; null: a tombstone.
    value: Option<Bytes>,
    /// The value's whole length.
    value_bytes: Option<i32>,
    /// What became of it: `open`, `pending` (a replay broke off), `replayed`, `applied` (its event was, since) or `discarded`.
    #[schema(example = "open")]
    state: String,
    /// The last thing that was done with it; null: nothing.
    handled: Option<Handled>,
    /// How often it had been replayed before it was rejected here.
    replays: i32,
    /// Its earlier rejects, the latest first; empty where it had not been replayed.
    history: Vec<EarlierReject>,
}

/// What was done with a rejected record.
#[derive(Debug, Serialize, ToSchema)]
pub struct Handled {
    /// `replayed` or `discarded`.
    #[schema(example = "replayed")]
    action: String,
    /// When.
    at: Option<DateTime<Utc>>,
    /// By whom.
    by: Option<String>,
    /// Why, in their words.
    note: Option<String>,
    /// Where the replayed record lies, in the same topic and partition.
    sent_offset: Option<i64>,
}

/// An earlier reject of a record that was replayed and rejected again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EarlierReject {
    /// Its offset, in the same topic and partition.
    offset: i64,
    /// When it was rejected.
    rejected_at: DateTime<Utc>,
    /// Why.
    reason: Option<String>,
    /// When it was sent again.
    replayed_at: DateTime<Utc>,
    /// By whom.
    by_whom: Option<String>,
    /// Whether another value was sent.
    edited: bool,
}

/// Bytes, as text if they are UTF-8.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bytes {
    /// `utf-8` or `base64`.
    #[schema(example = "utf-8")]
    encoding: &'static str,
    /// The bytes in that encoding.
    data: String,
}

impl Bytes {
    fn of(bytes: Vec<u8>, is_cut: bool) -> Bytes {
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => Some(text),
            // A character that was cut in two is left out.
            Err(error) if is_cut && error.error_len().is_none() => {
                bytes.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
            }
            Err(_) => None,
        };
        match text {
            Some(text) => Bytes { encoding: "utf-8", data: text.to_owned() },
            None => Bytes { encoding: "base64", data: STANDARD.encode(bytes) },
        }
    }
}

impl From<RejectRow> for Rejected {
    fn from(row: RejectRow) -> Rejected {
        let is_cut = |bytes: Option<i32>| bytes.is_some_and(|whole| whole > api::SHOWN_BYTES);
        let (key_is_cut, value_is_cut) = (is_cut(row.key_bytes), is_cut(row.value_bytes));
        let handled = row.action.map(|action| Handled {
            action,
            at: row.handled_at,
            by: row.handled_by,
            note: row.note,
            sent_offset: row.sent_offset,
        });
        // The database has made it, so it is what it is read as.
        let history = row.history.and_then(|history| serde_json::from_str(&history).ok()).unwrap_or_default();
        Rejected {
            processed_at: row.processed_at,
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            reason: row.reason,
            detail: row.detail,
            event_id: row.event_id,
            redacted: row.redacted,
            key: row.record_key.map(|key| Bytes::of(key, key_is_cut)),
            key_bytes: row.key_bytes,
            value: row.value.map(|value| Bytes::of(value, value_is_cut)),
            value_bytes: row.value_bytes,
            state: row.state,
            handled,
            replays: row.replays,
            history,
        }
    }
}

/// Rejected records with their reasons and their bytes, the newest first.
#[utoipa::path(get, path = "/dlq", tag = "rejects", params(DlqQuery), responses((status = 200, body = Listed<Rejected>)))]
pub async fn list(State(app): State<App>, query: Query<DlqQuery>) -> Answer<Listed<Rejected>> {
    let DlqQuery { limit, cursor, reason, topic } = query.0;
    let page = page(limit, cursor);
    let filter = RejectFilter {
        reason: reason.map(|reason| reason.0.code().to_owned()),
        topic: topic.map(|topic| topic.0.to_owned()),
    };
    let rows = api::rejects(&app.pool, &filter, &page).await?;
    Ok(Json(Listed::of(rows, page.limit, RejectRow::key).map(Rejected::from)))
}

/// How far back it is counted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReasonsQuery {
    /// Hours back from now.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8784, default = 24)]
    hours: Option<Hours>,
}

/// Reasons, the most frequent first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reasons {
    /// What was rejected since.
    since: DateTime<Utc>,
    /// By topic and reason.
    items: Vec<ReasonCount>,
}

/// How many records were rejected of late, by topic and reason.
#[utoipa::path(get, path = "/dlq/reasons", tag = "rejects", params(ReasonsQuery), responses((status = 200, body = Reasons)))]
pub async fn reasons(State(app): State<App>, query: Query<ReasonsQuery>) -> Answer<Reasons> {
    let since = clock::now() - TimeDelta::hours(query.0.hours.map_or(USUAL_HOURS, |hours| hours.0));
    Ok(Json(Reasons { since, items: api::reasons(&app.pool, since).await? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        let of = |bytes: &[u8], cut| {
            let bytes = Bytes::of(bytes.to_vec(), cut);
            (bytes.encoding, bytes.data)
        };
        assert_eq!(of("<b>é".as_bytes(), false), ("utf-8", "<b>é".to_owned()));
        assert_eq!(of(b"a\xc3", true), ("utf-8", "a".to_owned()));
        assert_eq!(of(b"a\xc3", false), ("base64", "YcM=".to_owned()));
        assert_eq!(of(b"\xff\x00", true), ("base64", "/wA=".to_owned()));
    }
}
