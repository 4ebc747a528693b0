//! Writes down what is done with rejected records, for one run at a time.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use super::{At, CHOSEN, Selection, bound, some};

/// The right to act on rejected records: a lock of the session, so that it ends with the connection at the latest.
pub struct Desk {
    connection: PgConnection,
}

/// Why there is no right to act.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Another run has it.
    #[error("another replay or discard is running; wait for its end, and try again")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A record that is about to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The reject.
    pub at: At,
    /// What the header `stocktide.replay.id` will say.
    pub replay_id: Uuid,
    /// The reject's reason.
    pub reason: Option<String>,
    /// When it was rejected.
    pub rejected_at: DateTime<Utc>,
    /// The event of the value that is sent, where it is known.
    pub event_id: Option<Uuid>,
    /// Whether another value than the reject's is sent.
    pub edited: bool,
    /// Of the value that is sent; none: a tombstone.
    pub value_sha256: Option<Vec<u8>>,
    /// How often the record has been replayed with this time.
    pub replays: i32,
    /// The end of the partition before.
    pub search_from: i64,
}

/// Who acts, when, and why.
#[derive(Debug, Clone)]
pub struct Run {
    /// The run of the command.
    pub id: Uuid,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub note: Option<String>,
    /// Whether what was dealt with before is dealt with again.
    pub again: bool,
}

/// An intention of a run that broke off.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Pending {
    /// What the header of the record says, if it was sent.
    pub replay_id: Uuid,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The reject's offset.
    pub offset: i64,
    /// Where to begin to look for it.
    pub search_from: i64,
}

impl Desk {
    /// Takes the right, on a connection of its own to where the pool's lead.
    ///
    /// # Errors
    /// [`DeskError::Taken`] while another run has it.
    pub async fn take(pool: &PgPool) -> Result<Desk, DeskError> {
        let options = pool.connect_options().as_ref().clone().disable_statement_logging();
        let mut connection = PgConnection::connect_with(&options).await?;
        let sql = "SELECT pg_try_advisory_lock(hashtext('stocktide dlq'))";
        let taken: bool = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        if taken { Ok(Desk { connection }) } else { Err(DeskError::Taken) }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The database fails.
    pub async fn leave(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }

    /// Intentions of runs that broke off.
    ///
    /// # Errors
    /// The database fails.
    pub async fn pending(&mut self) -> Result<Vec<Pending>, sqlx::Error> {
        let sql = "SELECT replay_id, topic, partition, \"offset\", search_from FROM dlq_actions
            WHERE done_at IS NULL ORDER BY topic, partition, \"offset\", attempt";
        sqlx::query_as(sql).fetch_all(&mut self.connection).await
    }

    /// Writes intentions down, in one transaction. Those whose record has been dealt with meanwhile are left out, unless the run
    /// does so again; the ones that stand are answered.
    ///
    /// # Errors
    /// The database fails: then nothing may be sent.
    pub async fn intend(
        &mut self,
        run: &Run,
        intents: &[Intent],
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let sql = "INSERT INTO dlq_actions (topic, partition, \"offset\", attempt, action, run_id, replay_id, intended_at, by_whom,
                note, reason, rejected_at, event_id, edited, value_sha256, replays, search_from)
            SELECT u.topic, u.partition, u.\"offset\", 1 + coalesce(last.attempt, 0), 'replayed', $1, u.replay_id, $2, $3, $4,
                u.reason, u.rejected_at, u.event_id, u.edited, u.value_sha256, u.replays, u.search_from
            FROM unnest($5::text[], $6::int[], $7::bigint[], $8::uuid[], $9::text[], $10::timestamptz[], $11::uuid[], $12::bool[],
                        $13::bytea[], $14::int[], $15::bigint[])
                AS u(topic, partition, \"offset\", replay_id, reason, rejected_at, event_id, edited, value_sha256, replays, search_from)
            LEFT JOIN LATERAL (SELECT max(d.attempt) AS attempt FROM dlq_actions d
                WHERE d.topic = u.topic AND d.partition = u.partition AND d.\"offset\" = u.\"offset\") last ON true
            WHERE $16 OR last.attempt IS NULL
            RETURNING replay_id";
        let of = |field: fn(&Intent) -> i64| intents.iter().map(field).collect::<Vec<_>>();
        sqlx::query_scalar(sql)
            .bind(run.id)
            .bind(now)
            .bind(&run.by)
            .bind(&run.note)
            .bind(intents.iter().map(|i| i.at.topic.as_str()).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.at.partition).collect::<Vec<_>>())
            .bind(of(|i| i.at.offset))
            .bind(intents.iter().map(|i| i.replay_id).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.reason.clone()).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.rejected_at).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.event_id).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.edited).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.value_sha256.clone()).collect::<Vec<_>>())
            .bind(intents.iter().map(|i| i.replays).collect::<Vec<_>>())
            .bind(of(|i| i.search_from))
            .bind(run.again)
            .fetch_all(&mut self.connection)
            .await
    }

    /// Notes where the records lie that were sent; none: whether they were sent cannot be told any more.
    ///
    /// # Errors
    /// The database fails: the next run finds out by itself.
    pub async fn sent(
        &mut self,
        sent: &[(Uuid, Option<i64>)],
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let sql = "UPDATE dlq_actions d SET done_at = $3, sent_offset = u.sent_offset
            FROM unnest($1::uuid[], $2::bigint[]) AS u(replay_id, sent_offset) WHERE d.replay_id = u.replay_id";
        let (ids, offsets): (Vec<Uuid>, Vec<Option<i64>>) = sent.iter().copied().unzip();
        sqlx::query(sql).bind(ids).bind(offsets).bind(now).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Takes intentions back that are known not to have been carried out.
    ///
    /// # Errors
    /// The database fails.
    pub async fn take_back(&mut self, replays: &[Uuid]) -> Result<(), sqlx::Error> {
        let sql = "DELETE FROM dlq_actions WHERE replay_id = ANY($1) AND done_at IS NULL";
        sqlx::query(sql).bind(replays).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Gives up the records of a selection that nobody has dealt with; with `again` also those that were replayed. How many.
    ///
    /// # Errors
    /// The database fails: nothing is changed.
    pub async fn discard(
        &mut self,
        run: &Run,
        selection: &Selection,
        limit: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<u64, sqlx::Error> {
        let sql = format!(
            "INSERT INTO dlq_actions (topic, partition, \"offset\", attempt, action, run_id, intended_at, done_at, by_whom, note, reason,
                rejected_at, event_id, replays)
             SELECT r.topic, r.partition, r.\"offset\", r.attempts + 1, 'discarded', $8, $9, $9, $10, $11, r.reason, r.rejected_at,
                r.event_id, r.replays
             FROM dlq_records r WHERE {CHOSEN} AND (r.state = 'open' OR $12 AND r.state = 'replayed')
             ORDER BY r.rejected_at, r.topic, r.partition, r.\"offset\" LIMIT $13"
        );
        let query = bound!(sqlx::query(AssertSqlSafe(sql)), selection);
        let query = query.bind(run.id).bind(now).bind(&run.by).bind(&run.note).bind(run.again).bind(limit);
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }
}
