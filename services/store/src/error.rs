//! What can go wrong with the database, and what the caller does next.

use tokio_postgres::error::{DbError, SqlState};

/// An error of the processor's transaction. The variant says what helps.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The progress is not where this processor believes it to be: another one owns the partition, or a COMMIT whose
    /// answer was lost went through. Drop the batch and read the positions again.
    #[error(
        "the progress of {topic}/{partition} is at {found}, not at {expected}: this processor's view is out of date"
    )]
    Fenced {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that the batch begins at, or the number that the timer left.
        expected: i64,
        /// The one that the database has.
        found: i64,
    },
    /// Another transaction was first: run the whole batch again from its look-up.
    #[error("another transaction was first: {0}")]
    Contended(String),
    /// The database refuses the data: find the record that is to blame.
    #[error("the database refuses the data: {0}")]
    Refused(String),
    /// The database is away, or in no state to serve: wait, connect anew, try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// COMMIT came back with a warning: the standby may not have it. Publish nothing; stop.
    #[error("COMMIT answered with a warning, so the batch may not be durable: {0}")]
    Doubtful(String),
    /// What the database holds cannot be gone on from: stop and say so.
    #[error("{0}")]
    Stop(String),
    /// Fewer rows were touched than were sent: never to be taken for success.
    #[error("rows were lost: {0}")]
    Lost(String),
    /// A value has no binary form.
    #[error("cannot encode a value: {0}")]
    Encode(String),
}

/// Unique keys that two processors may race for; a violation of any other one is the data's fault.
const RACED_KEYS: [&str; 6] = [
    "applied_events_pkey",
    "order_headers_pkey",
    "inventory_pkey",
    "user_stats_pkey",
    "sales_by_month_pkey",
    "partition_progress_pkey",
];

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> StoreError {
        match error.as_db_error() {
            Some(db) => classify(db),
            None => StoreError::Unavailable(with_causes(&error)),
        }
    }
}

/// Rule 8: who has lost a race runs the batch again; only what is refused as data is bisected.
fn classify(db: &DbError) -> StoreError {
    let text = describe(db);
    let code = db.code();
    let raced = || db.constraint().is_some_and(|name| RACED_KEYS.contains(&name));
    if *code == SqlState::UNIQUE_VIOLATION && raced() {
        return StoreError::Contended(text);
    }
    let again = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        // A statement before it in the same flight failed, and its answer has not been looked at yet: the next run tells why.
        SqlState::IN_FAILED_SQL_TRANSACTION,
    ];
    if again.contains(code) {
        return StoreError::Contended(text);
    }
    match code.code().get(..2) {
        // data exception, integrity constraint, limit exceeded (an index row too long), raised by a trigger
        Some("22" | "23" | "54" | "P0") => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}

/// One line: message, code, and where it names them, table and constraint. Never the row's content.
pub(crate) fn describe(db: &DbError) -> String {
    let mut text = format!("{} ({})", db.message(), db.code().code());
    for (label, name) in [("table", db.table()), ("constraint", db.constraint())] {
        if let Some(name) = name {
            text = format!("{text}, {label} {name}");
        }
    }
    text
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
