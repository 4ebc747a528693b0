//! Rejected records, and what was done with them: the view `dlq_records`, and the table `dlq_actions`.
//!
//! The log says what was rejected, and an action what became of it. Of a replay the intention is written down before the record
//! is sent, and the place of the record once it is; an intention without a place is settled by the next run ([`actions`]).

pub mod actions;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{Stream, TryStreamExt as _};
use serde::Serialize;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, Row as _};
use uuid::Uuid;

/// Where a record lies, for people: `online_orders/0@41`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct At {
    /// The input topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl At {
    /// Reads `online_orders/0@41`.
    pub fn parse(text: &str) -> Option<At> {
        let (topic, rest) = text.split_once('/')?;
        let (partition, offset) = rest.split_once('@')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if topic.is_empty() || !is_number(partition) || !is_number(offset) {
            return None;
        }
        Some(At { topic: topic.to_owned(), partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    }
}

/// What became of a rejected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has dealt with it.
    Open,
    /// A replay broke off, and it is not known whether it was sent.
    Pending,
    /// Sent again; its event has not been applied (yet).
    Replayed,
    /// Its event was applied since, by whatever record.
    Applied,
    /// Given up.
    Discarded,
}

impl State {
    /// Every state there is.
    pub const ALL: [State; 5] =
        [State::Open, State::Pending, State::Replayed, State::Applied, State::Discarded];

    /// Its name, as the view has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Pending => "pending",
            State::Replayed => "replayed",
            State::Applied => "applied",
            State::Discarded => "discarded",
        }
    }

    /// The state of a name.
    pub fn of_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Which rejected records are wanted; what is empty or absent asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of one of these reasons.
    pub reasons: Vec<String>,
    /// Of one of these input topics.
    pub topics: Vec<String>,
    /// Rejected at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Rejected before this moment.
    pub until: Option<DateTime<Utc>>,
    /// These records, or those of `events`.
    pub records: Vec<At>,
    /// Records of these events, or those of `records`.
    pub events: Vec<Uuid>,
    /// In one of these states.
    pub states: Vec<State>,
}

/// Of the view `dlq_records` as `r`; its parameters are bound by [`bound`], the first eight.
const CHOSEN: &str = "r.rejected_at >= coalesce($1::timestamptz, '-infinity') AND r.rejected_at < coalesce($2::timestamptz, 'infinity')
    AND ($3::text[] IS NULL OR r.reason = ANY($3)) AND ($4::text[] IS NULL OR r.topic = ANY($4))
    AND (($5::text[] IS NULL AND $6::uuid[] IS NULL) OR r.event_id = ANY($6)
         OR r.topic || '/' || r.partition || '@' || r.\"offset\" = ANY($5))
    AND ($7::text[] IS NULL OR r.state = ANY($7))";

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

macro_rules! bound {
    ($query:expr, $selection:expr) => {{
        let s: &Selection = $selection;
        $query
            .bind(s.since)
            .bind(s.until)
            .bind(some(s.reasons.clone()))
            .bind(some(s.topics.clone()))
            .bind(some(s.records.iter().map(At::to_string).collect::<Vec<_>>()))
            .bind(some(s.events.clone()))
            .bind(some(s.states.iter().map(|state| state.as_str()).collect::<Vec<_>>()))
    }};
}
pub(crate) use bound;

fn ask(sql: String, selection: &Selection) -> Query<'static, Postgres, PgArguments> {
    bound!(sqlx::query(AssertSqlSafe(sql)), selection)
}

fn ask_for<T>(sql: String, selection: &Selection) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    bound!(sqlx::query_as(AssertSqlSafe(sql)), selection)
}

/// A record's headers, in their order.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A rejected record with its bytes, as the log keeps them: card numbers are masked.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Where it lies.
    pub at: At,
    /// When it was rejected.
    pub rejected_at: DateTime<Utc>,
    /// The reason's stable code.
    pub reason: Option<String>,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// The event_id, where one could be read, or was given to it by the value that was sent in its place.
    pub event_id: Option<Uuid>,
    /// Whether card numbers were masked.
    pub redacted: bool,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Its value; none: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
    /// What became of it.
    pub handling: Handling,
}

/// What was done with a rejected record.
#[derive(Debug, Clone, PartialEq)]
pub struct Handling {
    /// What became of it.
    pub state: State,
    /// How many actions there are.
    pub attempts: i32,
    /// The last action, if there is one: `replayed` or `discarded`.
    pub action: Option<String>,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// By whom.
    pub by: Option<String>,
    /// Why, in their words.
    pub note: Option<String>,
    /// Whether another value was sent.
    pub edited: Option<bool>,
    /// Where the replayed record lies, in the same partition.
    pub sent_offset: Option<i64>,
    /// How often the record had been replayed before it was rejected here.
    pub replays: i32,
    /// How often it was sent again from here.
    pub resent: i64,
}

/// A word of the view that is none of ours can only come from a newer schema.
fn state_of(word: &str) -> Result<State, sqlx::Error> {
    State::of_name(word).ok_or_else(|| sqlx::Error::Decode(format!("state {word:?}").into()))
}

/// The columns of [`Handling`] of the view as `r`.
pub(crate) const HANDLING: &str = "r.state, r.attempts, r.action, r.handled_at, r.handled_by, r.note, r.edited, r.sent_offset, r.replays, r.resent";

pub(crate) fn handling(row: &PgRow) -> Result<Handling, sqlx::Error> {
    Ok(Handling {
        state: state_of(row.try_get("state")?)?,
        attempts: row.try_get("attempts")?,
        action: row.try_get("action")?,
        at: row.try_get("handled_at")?,
        by: row.try_get("handled_by")?,
        note: row.try_get("note")?,
        edited: row.try_get("edited")?,
        sent_offset: row.try_get("sent_offset")?,
        replays: row.try_get("replays")?,
        resent: row.try_get("resent")?,
    })
}

fn at(row: &PgRow) -> Result<At, sqlx::Error> {
    Ok(At {
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
    })
}

fn reject(row: &PgRow) -> Result<Reject, sqlx::Error> {
    let names: Vec<String> = row.try_get::<Option<_>, _>("header_names")?.unwrap_or_default();
    let values: Vec<Option<Vec<u8>>> = row.try_get::<Option<_>, _>("header_values")?.unwrap_or_default();
    Ok(Reject {
        at: at(row)?,
        rejected_at: row.try_get("rejected_at")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        event_id: row.try_get("event_id")?,
        redacted: row.try_get("redacted")?,
        key: row.try_get("record_key")?,
        value: row.try_get("raw_event")?,
        headers: names.into_iter().zip(values).collect(),
        handling: handling(row)?,
    })
}

/// Rejected records in the order in which they were rejected, as one statement sees them: what is rejected while they are read
/// does not show.
pub fn rejects<'p>(
    pool: &'p PgPool,
    selection: &Selection,
    limit: Option<i64>,
) -> impl Stream<Item = Result<Reject, sqlx::Error>> + use<'p> {
    let sql = format!(
        "SELECT r.topic, r.partition, r.\"offset\", r.rejected_at, r.reason, r.detail, r.event_id, r.redacted, r.record_key,
                r.raw_event, r.header_names, r.header_values, {HANDLING}
         FROM dlq_records r WHERE {CHOSEN}
         ORDER BY r.rejected_at, r.topic, r.partition, r.\"offset\" LIMIT $8"
    );
    ask(sql, selection).bind(limit).fetch(pool).and_then(|row| async move { reject(&row) })
}

/// A rejected record without its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Where it lies.
    pub at: At,
    /// When it was rejected.
    pub rejected_at: DateTime<Utc>,
    /// The reason's stable code.
    pub reason: Option<String>,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// The event_id, where one could be read.
    pub event_id: Option<Uuid>,
    /// What became of it.
    pub handling: Handling,
}

/// Rejected records without their bytes, the newest first.
///
/// # Errors
/// The database fails.
pub async fn lines(pool: &PgPool, selection: &Selection, limit: i64) -> Result<Vec<Line>, sqlx::Error> {
    let sql = format!(
        "SELECT r.topic, r.partition, r.\"offset\", r.rejected_at, r.reason, r.detail, r.event_id, {HANDLING}
         FROM dlq_records r WHERE {CHOSEN}
         ORDER BY r.rejected_at DESC, r.topic, r.partition, r.\"offset\" DESC LIMIT $8"
    );
    let rows = ask(sql, selection).bind(limit).fetch_all(pool).await?;
    let line = |row: &PgRow| {
        Ok(Line {
            at: at(row)?,
            rejected_at: row.try_get("rejected_at")?,
            reason: row.try_get("reason")?,
            detail: row.try_get("detail")?,
            event_id: row.try_get("event_id")?,
            handling: handling(row)?,
        })
    };
    rows.iter().map(line).collect()
}

/// Rejected records of one business day, topic and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Group {
    /// The business day on which they were rejected.
    pub day: NaiveDate,
    /// The input topic.
    pub topic: String,
    /// The reason's stable code.
    pub reason: String,
    /// How many.
    pub records: i64,
    /// Of these, nobody has dealt with so many.
    pub open: i64,
    /// See [`State::Pending`].
    pub pending: i64,
    /// See [`State::Replayed`].
    pub replayed: i64,
    /// See [`State::Applied`].
    pub applied: i64,
    /// See [`State::Discarded`].
    pub discarded: i64,
    /// Those that had been replayed before and came back.
    pub came_back: i64,
    /// When one of them was last dealt with.
    pub handled_at: Option<DateTime<Utc>>,
    /// By whom, all of them, with commas between.
    pub handled_by: Option<String>,
}

const COUNTS: &str = "count(*) AS records, count(*) FILTER (WHERE r.state = 'open') AS open,
    count(*) FILTER (WHERE r.state = 'pending') AS pending, count(*) FILTER (WHERE r.state = 'replayed') AS replayed,
    count(*) FILTER (WHERE r.state = 'applied') AS applied, count(*) FILTER (WHERE r.state = 'discarded') AS discarded,
    count(*) FILTER (WHERE r.replays > 0) AS came_back";

/// Rejected records by day, topic and reason, the newest day first.
///
/// # Errors
/// The database fails.
pub async fn groups(pool: &PgPool, selection: &Selection, limit: i64) -> Result<Vec<Group>, sqlx::Error> {
    let sql = format!(
        "SELECT (r.rejected_at AT TIME ZONE (SELECT timezone FROM installation))::date AS day, r.topic,
                coalesce(r.reason, '') AS reason, {COUNTS}, max(r.handled_at) AS handled_at,
                string_agg(DISTINCT r.handled_by, ', ') AS handled_by
         FROM dlq_records r WHERE {CHOSEN} GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 4 DESC, 3 LIMIT $8"
    );
    ask_for(sql, selection).bind(limit).fetch_all(pool).await
}

/// Rejected records of one topic and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Stats {
    /// The input topic.
    pub topic: String,
    /// The reason's stable code.
    pub reason: String,
    /// How many.
    pub records: i64,
    /// Of these, nobody has dealt with so many.
    pub open: i64,
    /// See [`State::Pending`].
    pub pending: i64,
    /// See [`State::Replayed`].
    pub replayed: i64,
    /// See [`State::Applied`].
    pub applied: i64,
    /// See [`State::Discarded`].
    pub discarded: i64,
    /// Those that had been replayed before and came back.
    pub came_back: i64,
    /// When the oldest open one was rejected.
    pub oldest_open: Option<DateTime<Utc>>,
    /// When the last one was rejected.
    pub last: DateTime<Utc>,
}

/// Rejected records by topic and reason.
///
/// # Errors
/// The database fails.
pub async fn stats(pool: &PgPool, selection: &Selection) -> Result<Vec<Stats>, sqlx::Error> {
    let sql = format!(
        "SELECT r.topic, coalesce(r.reason, '') AS reason, {COUNTS},
                min(r.rejected_at) FILTER (WHERE r.state = 'open') AS oldest_open, max(r.rejected_at) AS last
         FROM dlq_records r WHERE {CHOSEN} GROUP BY 1, 2 ORDER BY 4 DESC, 3 DESC, 1, 2"
    );
    ask_for(sql, selection).fetch_all(pool).await
}

/// How many rejected records are in which state.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Standing {
    /// The state's name.
    pub state: String,
    /// How often they had been replayed before they were rejected.
    pub replays: i32,
    /// How many.
    pub records: i64,
    /// Of these, the ones whose event_id is not known.
    pub without_event_id: i64,
}

/// How the records of a selection stand.
///
/// # Errors
/// The database fails.
pub async fn standing(pool: &PgPool, selection: &Selection) -> Result<Vec<Standing>, sqlx::Error> {
    let sql = format!(
        "SELECT r.state, r.replays, count(*) AS records,
                count(*) FILTER (WHERE r.event_id IS NULL) AS without_event_id
         FROM dlq_records r WHERE {CHOSEN} GROUP BY 1, 2 ORDER BY 1, 2"
    );
    ask_for(sql, selection).fetch_all(pool).await
}

/// Where records of a selection come from that stand alike.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The highest partition.
    pub partition: i32,
    /// The state's name.
    pub state: String,
    /// How often they had been replayed before they were rejected.
    pub replays: i32,
}

/// The topics of a selection, by how their records stand.
///
/// # Errors
/// The database fails.
pub async fn origins(pool: &PgPool, selection: &Selection) -> Result<Vec<Origin>, sqlx::Error> {
    let sql = format!(
        "SELECT r.topic, max(r.partition) AS partition, r.state, r.replays
         FROM dlq_records r WHERE {CHOSEN} GROUP BY 1, 3, 4 ORDER BY 1, 3, 4"
    );
    ask_for(sql, selection).fetch_all(pool).await
}

/// An earlier reject of a record that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, FromRow)]
pub struct Earlier {
    /// Its offset, in the same topic and partition.
    pub offset: i64,
    /// When it was rejected.
    pub rejected_at: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// When it was sent again.
    pub replayed_at: DateTime<Utc>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_whom: Option<String>,
    /// Whether another value was sent.
    pub edited: bool,
}

/// The earlier rejects of a record, the latest first.
///
/// # Errors
/// The database fails.
pub async fn history(pool: &PgPool, at: &At) -> Result<Vec<Earlier>, sqlx::Error> {
    let sql =
        "SELECT \"offset\", rejected_at, reason, replayed_at, by_whom, edited FROM dlq_history($1, $2, $3)";
    sqlx::query_as(sql).bind(&at.topic).bind(at.partition).bind(at.offset).fetch_all(pool).await
}

/// An action on a rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Action {
    /// From 1.
    pub attempt: i32,
    /// `replayed` or `discarded`.
    pub action: String,
    /// When it was written down.
    pub intended_at: DateTime<Utc>,
    /// When it was done; none: the run broke off.
    pub done_at: Option<DateTime<Utc>>,
    /// By whom.
    pub by_whom: String,
    /// Why, in their words.
    pub note: Option<String>,
    /// Whether another value was sent.
    pub edited: bool,
    /// Where the record lies now, in the same topic and partition.
    pub sent_offset: Option<i64>,
    /// What the header `stocktide.replay.id` says.
    pub replay_id: Option<Uuid>,
}

/// All actions on a record, in their order.
///
/// # Errors
/// The database fails.
pub async fn actions_on(pool: &PgPool, at: &At) -> Result<Vec<Action>, sqlx::Error> {
    let sql = "SELECT attempt, action, intended_at, done_at, by_whom, note, edited, sent_offset, replay_id FROM dlq_actions
        WHERE topic = $1 AND partition = $2 AND \"offset\" = $3 ORDER BY attempt";
    sqlx::query_as(sql).bind(&at.topic).bind(at.partition).bind(at.offset).fetch_all(pool).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_as_it_is_shown() {
        let at = At { topic: "online_orders".to_owned(), partition: 2, offset: 41 };
        assert_eq!(At::parse(&at.to_string()), Some(at));
        for wrong in
            ["", "online_orders", "online_orders/2", "/2@41", "online_orders/-1@4", "online_orders/2@+4"]
        {
            assert_eq!(At::parse(wrong), None, "{wrong}");
        }
    }
}
