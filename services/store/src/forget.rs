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

/// Forgets a user: first in the log, which takes as long as reading it does and holds nobody up, and then, in a short
/// transaction, in the tables and in what was added to the log meanwhile. With `dry_run` nothing is changed, and it is said what
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
    let order = Order { user_id, by, now };
    let mut transaction = connection.begin().await?;
    let mut forgotten = order.in_the_log(&mut transaction).await?;
    if dry_run {
        order.in_the_tables(&mut transaction, &mut forgotten).await?;
        transaction.rollback().await?;
        connection.close().await?;
        return Ok(forgotten);
    }
    transaction.commit().await?;
    let mut attempt = 1;
    loop {
        let mut transaction = connection.begin().await?;
        let mut tried = forgotten.clone();
        match order.in_the_tables(&mut transaction, &mut tried).await {
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

impl Order<'_> {
    async fn in_the_log(self, connection: &mut PgConnection) -> Result<Forgotten, sqlx::Error> {
        let (token, before) = self.token(connection).await?;
        let orders = orders_of(connection, self.user_id, &token).await?;
        let mut forgotten = Forgotten { before, ..Forgotten::default() };
        let person = Person { user_id: self.user_id, orders: &orders, token: &token };
        erase_log(connection, &person, self.now, None, &mut forgotten).await?;
        if forgotten.log_rows > 0 {
            self.note(connection, &token, 0, forgotten.log_rows).await?;
            forgotten.token = Some(token);
        }
        Ok(forgotten)
    }

    /// The locks are taken in the processors' order: orders, then users. While they are held nothing of the user is added.
    async fn in_the_tables(
        self,
        connection: &mut PgConnection,
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
        let orders = orders_of(connection, self.user_id, &token).await?;
        let person = Person { user_id: self.user_id, orders: &orders, token: &token };
        let before = forgotten.log_rows;
        erase_log(connection, &person, self.now, Some(self.now - LATE), forgotten).await?;
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

/// Their online orders, those that were taken over by the token before included: events on them may have come since.
async fn orders_of(
    connection: &mut PgConnection,
    user_id: &str,
    token: &str,
) -> Result<HashSet<String>, sqlx::Error> {
    let sql = "SELECT order_id FROM order_headers WHERE user_id IN ($1, $2) AND source = 'online_orders'";
    let orders: Vec<String> = sqlx::query_scalar(sql).bind(user_id).bind(token).fetch_all(connection).await?;
    Ok(orders.into_iter().collect())
}

/// Which rows may speak of the person is found by their bytes; JSON can spell an id in many ways, but only with a backslash.
const SUSPECTS: &str =
    "(position(convert_to($1, 'UTF8') in raw_event) > 0 OR position('\\x5c'::bytea in raw_event) > 0
    OR EXISTS (SELECT FROM unnest($2::text[]) o WHERE position(convert_to(o, 'UTF8') in raw_event) > 0))";

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
    since: Option<DateTime<Utc>>,
    forgotten: &mut Forgotten,
) -> Result<(), sqlx::Error> {
    let declare = format!(
        "DECLARE suspects NO SCROLL CURSOR FOR SELECT topic, partition, \"offset\", processed_at, status = 'rejected', raw_event,
            detail, record_key, header_values
         FROM events_log WHERE processed_at >= coalesce($3, '-infinity') AND raw_event <> '[erased]' AND {SUSPECTS}"
    );
    let orders: Vec<&str> = person.orders.iter().map(String::as_str).collect();
    sqlx::query(sqlx::AssertSqlSafe(declare))
        .bind(person.user_id)
        .bind(orders)
        .bind(since)
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
    let Some(value) = person.erased_from(&row.value).filter(|value| *value != row.value) else {
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
    let sql = format!("SELECT raw_event FROM parked_payments WHERE {SUSPECTS}");
    let orders: Vec<&str> = person.orders.iter().map(String::as_str).collect();
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(person.user_id).bind(orders);
    let values: Vec<Vec<u8>> = query.fetch(connection).try_collect().await?;
    Ok(values.iter().filter(|value| person.erased_from(value).is_some()).count() as u64)
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
    let lines = "UPDATE orders SET user_id = $2 WHERE user_id = $1";
    let done = sqlx::query(lines).bind(user_id).bind(token).execute(&mut *connection).await?;
    forgotten.lines = done.rows_affected();
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
