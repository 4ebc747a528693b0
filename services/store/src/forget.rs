//! Forgets a user: takes the user_id and the addresses out of the tables and out of the log.
//!
//! A token stands in their place, one for each user, so that every sum stays what it was. The books' lines, the payments (which
//! name no user) and the counts stay. What is in Kafka is out of reach: docs/data.md.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};
use stocktide_domain::erase::Person;
use uuid::Uuid;

/// How often it is tried again when processors were in the way.
const ATTEMPTS: u32 = 5;
/// A batch says when it was processed at its beginning; it has long been given up when it is still open after this.
const LATE: TimeDelta = TimeDelta::hours(1);
/// Rows of the log that are looked at before the changed ones are written.
const WRITTEN_AT_ONCE: usize = 500;

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// What stands in place of the user_id now; none: there was nothing to forget.
    pub token: Option<String>,
    /// Orders whose user and address were erased.
    pub orders: u64,
    /// Lines of the ledger.
    pub lines: u64,
    /// Rows of the log whose record named the user or one of their orders.
    pub log_rows: u64,
    /// Of these, rejected records.
    pub rejects: u64,
    /// Payments that wait for an order and speak of the user: they are out of reach until they are settled.
    pub waiting: u64,
    /// When the user had been forgotten before.
    pub before: Option<DateTime<Utc>>,
}

/// Forgets a user: first in the log and the ledger, which takes as long as reading them does and holds nobody up, and then, in a
/// short transaction, in the tables and in what was added to both meanwhile. With `dry_run` nothing is changed, and it is said what
/// would be.
///
/// # Errors
/// The database fails, or processors were in the way too often; what is done by then stays done, and the next call does the rest.
pub async fn forget(
    pool: &PgPool,
    user_id: &str,
    by: &str,
    now: DateTime<Utc>,
    dry_run: bool,
) -> Result<Forgotten, sqlx::Error> {
    let options = pool.connect_options().as_ref().clone().disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await?;
    // One after the other: two would make two tokens for one user. The lock ends with the connection at the latest.
    sqlx::query("SELECT pg_advisory_lock(hashtext('stocktide forget'))").execute(&mut connection).await?;
    let order = Order { user_id, by, now };
    let mut transaction = connection.begin().await?;
    let (mut forgotten, seen) = order.in_the_log(&mut transaction).await?;
    if dry_run {
        order.in_the_tables(&mut transaction, &seen, &mut forgotten).await?;
        transaction.rollback().await?;
        connection.close().await?;
        return Ok(forgotten);
    }
    transaction.commit().await?;
    let mut attempt = 1;
    loop {
        let mut transaction = connection.begin().await?;
        let mut tried = forgotten.clone();
        match order.in_the_tables(&mut transaction, &seen, &mut tried).await {
            Ok(()) => {
                transaction.commit().await?;
                connection.close().await?;
                return Ok(tried);
            }
            Err(error) if attempt < ATTEMPTS && lost_a_race(&error) => {
                transaction.rollback().await?;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Who is to be forgotten, by whom and when.
#[derive(Clone, Copy)]
struct Order<'a> {
    user_id: &'a str,
    by: &'a str,
    now: DateTime<Utc>,
}

/// What the first look, which holds nobody up, has seen.
struct Seen {
    /// Rows of transactions from this one on, its number cut to 32 bits as a row has it, may have been missed.
    from: String,
    orders: HashSet<String>,
}

impl Order<'_> {
    async fn in_the_log(self, connection: &mut PgConnection) -> Result<(Forgotten, Seen), sqlx::Error> {
        let sql = "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::numeric % 4294967296)::text";
        let from: String = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        let (token, before) = self.token(connection).await?;
        let orders = self.orders(connection, &token, None).await?;
        let mut forgotten = Forgotten { before, ..Forgotten::default() };
        let person = Person { user_id: self.user_id, orders: &orders, token: &token };
        erase_log(connection, &person, self.now, None, &mut forgotten).await?;
        forgotten.lines = erase_lines(connection, &person, None).await?;
        if forgotten.log_rows + forgotten.lines > 0 {
            self.note(connection, &token, 0, forgotten.log_rows).await?;
            forgotten.token = Some(token);
        }
        Ok((forgotten, Seen { from, orders }))
    }

    /// The locks are taken in the processors' order: orders, then users. While they are held nothing of the user is added.
    async fn in_the_tables(
        self,
        connection: &mut PgConnection,
        seen: &Seen,
        forgotten: &mut Forgotten,
    ) -> Result<(), sqlx::Error> {
        let lock = "SELECT source, order_id FROM order_headers WHERE user_id = $1 ORDER BY source, order_id FOR UPDATE";
        sqlx::query(lock).bind(self.user_id).fetch_all(&mut *connection).await?;
        let lock = "SELECT 1 FROM user_stats WHERE user_id = $1 FOR UPDATE";
        sqlx::query(lock).bind(self.user_id).fetch_all(&mut *connection).await?;
        let (token, _) = match &forgotten.token {
            Some(token) => (token.clone(), None),
            None => self.token(connection).await?,
        };
        let since = Since { at: self.now - LATE, from: &seen.from };
        let mut orders = self.orders(connection, &token, Some(since)).await?;
        orders.extend(seen.orders.iter().cloned());
        let person = Person { user_id: self.user_id, orders: &orders, token: &token };
        let before = forgotten.log_rows;
        erase_log(connection, &person, self.now, Some(since), forgotten).await?;
        forgotten.lines += erase_lines(connection, &person, Some(since)).await?;
        forgotten.waiting = waiting(connection, &person).await?;
        erase_tables(connection, &person, forgotten).await?;
        if forgotten.orders + forgotten.lines + forgotten.log_rows > 0 {
            self.note(connection, &token, forgotten.orders, forgotten.log_rows - before).await?;
            forgotten.token = Some(token);
        }
        Ok(())
    }

    /// What stands for the user: the token of the last time, or a new one.
    async fn token(
        self,
        connection: &mut PgConnection,
    ) -> Result<(String, Option<DateTime<Utc>>), sqlx::Error> {
        let sql = "SELECT token, forgotten_at FROM forgotten_users WHERE digest = sha256(salt || convert_to($1, 'UTF8'))";
        let known: Option<(String, DateTime<Utc>)> =
            sqlx::query_as(sql).bind(self.user_id).fetch_optional(connection).await?;
        Ok(known
            .map_or_else(|| (format!("forgotten:{}", Uuid::new_v4()), None), |(token, at)| (token, Some(at))))
    }

    /// Their online orders, those that were taken over by the token before included: events on them may have come since. Those
    /// that were rejected stand in the log alone, and so do rejected events on them; an order that is somebody else's is not theirs
    /// because they tried to place it, too.
    async fn orders(
        self,
        connection: &mut PgConnection,
        token: &str,
        since: Option<Since<'_>>,
    ) -> Result<HashSet<String>, sqlx::Error> {
        let sql = format!(
            "SELECT raw_event FROM events_log WHERE status = 'rejected' AND {NEW} AND (position('\\x5c'::bytea in raw_event) > 0
                OR position($3::bytea in raw_event) > 0 OR position($4::bytea in raw_event) > 0)"
        );
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        let query = query.bind(since.map(|since| since.at)).bind(since.map(|since| since.from));
        let query = query.bind(self.user_id.as_bytes()).bind(token.as_bytes());
        let (none, mut rejected) = (HashSet::new(), HashSet::new());
        let person = Person { user_id: self.user_id, orders: &none, token };
        let mut values = query.fetch(&mut *connection);
        while let Some(value) = values.try_next().await? {
            let value: Vec<u8> = value;
            rejected.extend(person.order_in(&value));
        }
        drop(values);
        let sql = "SELECT order_id, true FROM order_headers WHERE user_id IN ($1, $2) AND source = 'online_orders'
            UNION ALL SELECT order_id, false FROM order_headers
            WHERE order_id = ANY($3) AND source = 'online_orders' AND (user_id IS NULL OR user_id NOT IN ($1, $2))";
        let known: Vec<(String, bool)> = sqlx::query_as(sql)
            .bind(self.user_id)
            .bind(token)
            .bind(rejected.iter().cloned().collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        for (order, is_theirs) in known {
            if is_theirs {
                rejected.insert(order);
            } else {
                rejected.remove(&order);
            }
        }
        Ok(rejected)
    }

    async fn note(
        self,
        connection: &mut PgConnection,
        token: &str,
        orders: u64,
        log_rows: u64,
    ) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO forgotten_users AS f (token, salt, digest, forgotten_at, by_whom, orders, log_rows)
            VALUES ($1, $2, sha256($2 || convert_to($3, 'UTF8')), $4, $5, $6, $7)
            ON CONFLICT (token) DO UPDATE SET forgotten_at = excluded.forgotten_at, by_whom = excluded.by_whom,
                orders = f.orders + excluded.orders, log_rows = f.log_rows + excluded.log_rows";
        let salt = Uuid::new_v4();
        let query = sqlx::query(sql).bind(token).bind(salt.as_bytes().as_slice()).bind(self.user_id);
        let query = query.bind(self.now).bind(self.by).bind(orders as i64).bind(log_rows as i64);
        query.execute(connection).await?;
        Ok(())
    }
}

/// A deadlock or a serialisation failure that was ended at our cost.
fn lost_a_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "40P01" || code == "40001" || code == "55P03")
}

/// Rows that the first look may have missed: not older than this, and of a transaction from that number on.
#[derive(Clone, Copy)]
struct Since<'a> {
    at: DateTime<Utc>,
    from: &'a str,
}

/// Of [`Since`] ($1, $2): cheap enough to look at each row of the last hour while somebody waits.
const NEW: &str =
    "processed_at >= coalesce($1, '-infinity') AND ($2::text IS NULL OR age(xmin) <= age($2::text::xid))";

/// Which rows may speak of the person is found by their bytes: their key ($3), one of the spellings of the user_id ($4), or the id of
/// an order of theirs ($5) in the event's own field, however many these are; JSON can spell an id in many ways, but only with a
/// backslash.
const SUSPECTS: &str = r#"(record_key = $3 OR position('\x5c'::bytea in raw_event) > 0
    OR EXISTS (SELECT FROM unnest($4::bytea[]) s WHERE position(s in raw_event) > 0)
    OR coalesce(substring(encode(raw_event, 'escape') from '"order_id"[[:space:]]*:[[:space:]]*"([^"]*)"'),
                substring(encode(raw_event, 'escape') from '"order_id"[[:space:]]*:[[:space:]]*([0-9-]+)')) IN (SELECT unnest($5::text[]))
    OR coalesce(substring(encode(raw_event, 'escape') from '"original_id"[[:space:]]*:[[:space:]]*"([^"]*)"'),
                substring(encode(raw_event, 'escape') from '"original_id"[[:space:]]*:[[:space:]]*([0-9-]+)')) IN (SELECT unnest($5::text[])))"#;

/// An order's id as `encode(…, 'escape')` writes it; backslashes are looked for anyway.
fn escaped(order: &str) -> String {
    order
        .bytes()
        .map(|byte| match byte {
            0 | 0x80.. => format!("\\{byte:03o}"),
            byte => char::from(byte).to_string(),
        })
        .collect()
}

struct Row {
    topic: String,
    partition: i32,
    offset: i64,
    processed_at: DateTime<Utc>,
    is_reject: bool,
    value: Vec<u8>,
    detail: Option<String>,
    key: Option<Vec<u8>>,
    headers: Option<Vec<Option<Vec<u8>>>>,
}

async fn erase_log(
    connection: &mut PgConnection,
    person: &Person<'_>,
    now: DateTime<Utc>,
    since: Option<Since<'_>>,
    forgotten: &mut Forgotten,
) -> Result<(), sqlx::Error> {
    let declare = format!(
        "DECLARE suspects NO SCROLL CURSOR FOR SELECT topic, partition, \"offset\", processed_at, status = 'rejected', raw_event,
            detail, record_key, header_values
         FROM events_log WHERE {NEW} AND raw_event <> '[erased]' AND {SUSPECTS}"
    );
    sqlx::query(sqlx::AssertSqlSafe(declare))
        .bind(since.map(|since| since.at))
        .bind(since.map(|since| since.from))
        .bind(person.user_id.as_bytes())
        .bind(person.spellings().to_vec())
        .bind(person.orders.iter().map(|order| escaped(order)).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    loop {
        let fetch = sqlx::query(sqlx::AssertSqlSafe(format!("FETCH {WRITTEN_AT_ONCE} FROM suspects")));
        let rows = fetch.fetch_all(&mut *connection).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let row = Row {
                topic: row.try_get(0)?,
                partition: row.try_get(1)?,
                offset: row.try_get(2)?,
                processed_at: row.try_get(3)?,
                is_reject: row.try_get(4)?,
                value: row.try_get(5)?,
                detail: row.try_get(6)?,
                key: row.try_get(7)?,
                headers: row.try_get(8)?,
            };
            if erase_row(connection, person, now, row, forgotten).await? {
                forgotten.log_rows += 1;
            }
        }
    }
    sqlx::query("CLOSE suspects").execute(&mut *connection).await?;
    Ok(())
}

async fn erase_row(
    connection: &mut PgConnection,
    person: &Person<'_>,
    now: DateTime<Utc>,
    row: Row,
    forgotten: &mut Forgotten,
) -> Result<bool, sqlx::Error> {
    let erased = person.erased_from(row.key.as_deref(), &row.value);
    let Some(value) = erased.filter(|value| *value != row.value) else {
        return Ok(false);
    };
    forgotten.rejects += u64::from(row.is_reject);
    let is_theirs = |bytes: &[u8]| bytes == person.user_id.as_bytes();
    let token = || person.token.as_bytes().to_vec();
    let key = row.key.map(|key| if is_theirs(&key) { token() } else { key });
    // Headers are nobody's fields: of a record that names the person none is kept but by its name.
    let headers = row.headers.map(|headers| {
        headers.into_iter().map(|value| value.map(|_| b"[erased]".to_vec())).collect::<Vec<_>>()
    });
    let detail = row.detail.map(|detail| person.erased_from_text(&detail));
    let sql = "UPDATE events_log SET raw_event = $5, erased_at = $6, detail = $7, record_key = $8, header_values = $9
        WHERE topic = $1 AND partition = $2 AND \"offset\" = $3 AND processed_at = $4";
    sqlx::query(sql)
        .bind(row.topic)
        .bind(row.partition)
        .bind(row.offset)
        .bind(row.processed_at)
        .bind(value)
        .bind(now)
        .bind(detail)
        .bind(key)
        .bind(headers)
        .execute(connection)
        .await?;
    Ok(true)
}

async fn waiting(connection: &mut PgConnection, person: &Person<'_>) -> Result<u64, sqlx::Error> {
    // The first two parameters are for rows of the log.
    let sql = format!(
        "SELECT record_key, raw_event FROM parked_payments WHERE $1::text IS NULL AND $2::text IS NULL AND {SUSPECTS}"
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(None::<String>).bind(None::<String>);
    let query = query.bind(person.user_id.as_bytes()).bind(person.spellings().to_vec());
    let query = query.bind(person.orders.iter().map(|order| escaped(order)).collect::<Vec<_>>());
    let rows: Vec<(Option<Vec<u8>>, Vec<u8>)> = query.fetch(connection).try_collect().await?;
    let theirs = rows.iter().filter(|(key, value)| person.erased_from(key.as_deref(), value).is_some());
    Ok(theirs.count() as u64)
}

/// The ledger's lines; nobody else ever writes one again, and there is no index by user. How many.
async fn erase_lines(
    connection: &mut PgConnection,
    person: &Person<'_>,
    since: Option<Since<'_>>,
) -> Result<u64, sqlx::Error> {
    let sql = format!("UPDATE orders SET user_id = $4 WHERE user_id = $3 AND {NEW}");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql));
    let query = query.bind(since.map(|since| since.at)).bind(since.map(|since| since.from));
    let query = query.bind(person.user_id).bind(person.token);
    Ok(query.execute(connection).await?.rows_affected())
}

async fn erase_tables(
    connection: &mut PgConnection,
    person: &Person<'_>,
    forgotten: &mut Forgotten,
) -> Result<(), sqlx::Error> {
    let Person { user_id, token, .. } = person;
    let headers = "UPDATE order_headers SET user_id = $2, shipping_address = NULL WHERE user_id = $1";
    let done = sqlx::query(headers).bind(user_id).bind(token).execute(&mut *connection).await?;
    forgotten.orders = done.rows_affected();
    let stats = "INSERT INTO user_stats AS s (user_id, orders, units, gross, cancelled_orders, cancelled_value, returned_value,
            first_order_at, last_order_at)
        SELECT $2, orders, units, gross, cancelled_orders, cancelled_value, returned_value, first_order_at, last_order_at
        FROM user_stats WHERE user_id = $1
        ON CONFLICT (user_id) DO UPDATE SET orders = s.orders + excluded.orders, units = s.units + excluded.units,
            gross = s.gross + excluded.gross, cancelled_orders = s.cancelled_orders + excluded.cancelled_orders,
            cancelled_value = s.cancelled_value + excluded.cancelled_value,
            returned_value = s.returned_value + excluded.returned_value,
            first_order_at = least(s.first_order_at, excluded.first_order_at),
            last_order_at = greatest(s.last_order_at, excluded.last_order_at)";
    sqlx::query(stats).bind(user_id).bind(token).execute(&mut *connection).await?;
    for gone in ["DELETE FROM user_stats WHERE user_id = $1", "DELETE FROM top_users WHERE user_id = $1"] {
        sqlx::query(gone).bind(user_id).execute(&mut *connection).await?;
    }
    Ok(())
}
