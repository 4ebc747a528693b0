//! The processor's own connection: one, with its statements prepared and its timeouts set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stocktide_domain::Catalogue;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage, Socket, Statement};

use crate::error::StoreError;
use crate::reads;
use crate::tls::Way;

/// How the processor writes.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Where the database is: a libpq URI.
    pub url: String,
    /// Business months follow it; must be the installation's.
    pub timezone: chrono_tz::Tz,
    /// Whether online orders that stock cannot cover are rejected; then stock is locked first.
    pub reject_uncovered: bool,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a payment waits for its order; zero: it does not.
    pub payments_wait: Duration,
}

impl WriterOptions {
    /// Whether there is a way to the database at all: its URL is one, and the files that it names are there.
    ///
    /// # Errors
    /// [`StoreError::Stop`], with the reason.
    pub fn check(&self) -> Result<(), StoreError> {
        Way::of(&self.url).map(drop).map_err(StoreError::Stop)
    }
}

/// A connection that applies batches.
pub struct Writer {
    pub(crate) client: Client,
    pub(crate) sql: Statements,
    pub(crate) catalogue: Catalogue,
    pub(crate) options: WriterOptions,
    /// Set by the connection's task when the server sends a WARNING.
    pub(crate) warned: Arc<AtomicBool>,
    /// Batches for which placed orders are looked up beforehand: grows when a COPY ran into a known order.
    pub(crate) look_up_orders: u32,
    /// Times that the database was waited for in this batch.
    pub(crate) round_trips: AtomicU32,
    /// Whether answers no longer belong to the questions.
    out_of_step: bool,
}

macro_rules! statements {
    ($($(#[doc = $doc:literal])* $name:ident = $sql:expr,)*) => {
        pub(crate) struct Statements { $($(#[doc = $doc])* pub(crate) $name: Statement,)* }

        impl Statements {
            async fn prepare(client: &Client) -> Result<Statements, StoreError> {
                Ok(Statements { $($name: client.prepare($sql).await?,)* })
            }
        }
    };
}

statements! {
    lock_progress = "SELECT p.topic, p.partition, p.next_offset, p.last_processed_at, p.timer_seq FROM partition_progress p
        JOIN unnest($1::text[], $2::int[]) AS u(topic, partition) ON p.topic = u.topic AND p.partition = u.partition
        ORDER BY p.topic, p.partition FOR UPDATE OF p",
    applied = "SELECT event_id FROM applied_events WHERE event_id = ANY($1::uuid[])",
    /// Also whether any payment waits for an order.
    catalogue_version = "SELECT catalogue_version, EXISTS (SELECT FROM parked_payments) FROM installation",
    /// Orders that something is about to happen to: locked, in key order.
    lock_orders = "SELECT order_id, status, user_id, order_value FROM order_headers WHERE source = $1 AND order_id = ANY($2::text[])
        ORDER BY order_id COLLATE \"C\" FOR UPDATE",
    find_orders = "SELECT order_id, status, user_id, order_value FROM order_headers WHERE source = $1 AND order_id = ANY($2::text[])",
    find_payments = "SELECT payment_id, order_id FROM payments WHERE payment_id = ANY($1::text[])",
    order_lines = "SELECT order_id, line_no, product_id, location_id, quantity, unit_price, delta IS NOT NULL, kind, original_id
        FROM orders WHERE source = $1 AND order_id = ANY($2::text[]) ORDER BY order_id, line_no",
    returns_of = "SELECT original_id, product_id, quantity FROM orders
        WHERE source = $1 AND original_id = ANY($2::text[]) AND kind = 'return' AND order_id <> original_id",
    create_stock = "INSERT INTO inventory (product_id, location_id, quantity_on_hand, last_updated)
        SELECT product_id, location_id, 0, $3 FROM unnest($1::text[], $2::text[]) AS u(product_id, location_id)
        ON CONFLICT DO NOTHING",
    lock_stock = "SELECT i.product_id, i.location_id, i.quantity_on_hand FROM inventory i
        JOIN unnest($1::text[], $2::text[]) AS u(product_id, location_id)
          ON i.product_id = u.product_id AND i.location_id = u.location_id
        ORDER BY i.product_id COLLATE \"C\", i.location_id COLLATE \"C\" FOR UPDATE OF i",
    copy_log = "COPY events_log (event_id, raw_event, processed_at, status, reason, topic, partition, \"offset\", detail,
        redacted, record_key, header_names, header_values) FROM STDIN (FORMAT binary)",
    copy_applied = "COPY applied_events (event_id) FROM STDIN (FORMAT binary)",
    copy_headers = "COPY order_headers (source, order_id, user_id, location_id, shipping_address, payment_method,
        stated_value, order_value, value_mismatch, status, ordered_at, event_id) FROM STDIN (FORMAT binary)",
    copy_orders = "COPY orders (order_id, line_no, product_id, quantity, unit_price, source, location_id, user_id,
        \"timestamp\", event_id, kind, original_id, delta, quantity_after, version, stock_status, processed_at, partition,
        \"offset\") FROM STDIN (FORMAT binary)",
    copy_restocks = "COPY restock_lines (restock_id, line_no, product_id, quantity, unit_cost, source, location_id,
        supplier_id, note, \"timestamp\", event_id, kind, delta, quantity_after, version, stock_status, processed_at,
        partition, \"offset\") FROM STDIN (FORMAT binary)",
    set_statuses = "UPDATE order_headers h SET status = u.status
        FROM unnest($1::text[], $2::text[], $3::text[]) AS u(source, order_id, status)
        WHERE h.source = u.source AND h.order_id = u.order_id",
    add_months = "INSERT INTO sales_by_month AS m (month, topic, partition, orders, units, gross, cancelled_orders,
            cancelled_units, cancelled_value, returns, returned_units, returned_value)
        SELECT * FROM unnest($1::date[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::numeric[], $7::bigint[],
            $8::bigint[], $9::numeric[], $10::bigint[], $11::bigint[], $12::numeric[])
        ON CONFLICT (month, topic, partition) DO UPDATE SET
            orders = m.orders + excluded.orders, units = m.units + excluded.units, gross = m.gross + excluded.gross,
            cancelled_orders = m.cancelled_orders + excluded.cancelled_orders,
            cancelled_units = m.cancelled_units + excluded.cancelled_units,
            cancelled_value = m.cancelled_value + excluded.cancelled_value,
            returns = m.returns + excluded.returns, returned_units = m.returned_units + excluded.returned_units,
            returned_value = m.returned_value + excluded.returned_value",
    add_users = "INSERT INTO user_stats AS s (user_id, orders, units, gross, cancelled_orders, cancelled_value,
            returned_value, first_order_at, last_order_at)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::numeric[], $5::bigint[], $6::numeric[],
            $7::numeric[], $8::timestamptz[], $9::timestamptz[])
        ON CONFLICT (user_id) DO UPDATE SET
            orders = s.orders + excluded.orders, units = s.units + excluded.units, gross = s.gross + excluded.gross,
            cancelled_orders = s.cancelled_orders + excluded.cancelled_orders,
            cancelled_value = s.cancelled_value + excluded.cancelled_value,
            returned_value = s.returned_value + excluded.returned_value,
            first_order_at = least(s.first_order_at, excluded.first_order_at),
            last_order_at = greatest(s.last_order_at, excluded.last_order_at)",
    /// Returns the rows as they are afterwards, in the order in which they were given.
    add_stock = "INSERT INTO inventory AS i (product_id, location_id, quantity_on_hand, version, last_updated)
        SELECT product_id, location_id, delta, changes, $5
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS u(product_id, location_id, delta, changes)
        ON CONFLICT (product_id, location_id) DO UPDATE SET
            quantity_on_hand = i.quantity_on_hand + excluded.quantity_on_hand,
            version = i.version + excluded.version, last_updated = greatest(i.last_updated, excluded.last_updated)
        RETURNING product_id, location_id, quantity_on_hand, version",
    copy_payment_events = "COPY payment_events (payment_id, order_id, payment_method, card_last_four, payment_status,
        payment_datetime, amount, amount_mismatch, event_id, processed_at, partition, \"offset\") FROM STDIN (FORMAT binary)",
    copy_parked = "COPY parked_payments (partition, \"offset\", event_id, payment_id, order_id, payment_method, card_last_four,
        payment_status, payment_datetime, amount, raw_event, record_key, header_names, header_values, redacted, parked_at,
        expires_at) FROM STDIN (FORMAT binary)",
    /// The whole row of the newer event; a payment never changes its order.
    upsert_payments = "INSERT INTO payments AS p (payment_id, order_id, payment_method, card_last_four, payment_status,
            payment_datetime, amount, amount_mismatch, event_id)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::numeric[],
            $8::bool[], $9::uuid[])
        ON CONFLICT (payment_id) DO UPDATE SET
            payment_method = excluded.payment_method, card_last_four = excluded.card_last_four,
            payment_status = excluded.payment_status, payment_datetime = excluded.payment_datetime,
            amount = excluded.amount, amount_mismatch = excluded.amount_mismatch, event_id = excluded.event_id
        WHERE p.order_id = excluded.order_id
          AND (excluded.payment_datetime, payment_status_order(excluded.payment_status), excluded.event_id)
            > (p.payment_datetime, payment_status_order(p.payment_status), p.event_id)",
    payments_of_orders = "SELECT count(*) FROM payments p
        JOIN unnest($1::text[], $2::text[]) AS u(payment_id, order_id)
          ON p.payment_id = u.payment_id AND p.order_id = u.order_id",
    mark_orders_seen = "UPDATE parked_payments SET order_seen = true WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM parked_payments WHERE order_id = ANY($1::text[]) AND NOT order_seen FOR UPDATE SKIP LOCKED))",
    /// How payments partitions stand, how many payments wait in each, and since when.
    waiting = "SELECT p.partition, p.next_offset, p.timer_seq, p.parked,
            (SELECT min(k.parked_at) FROM parked_payments k WHERE k.partition = p.partition)
        FROM partition_progress p WHERE p.topic = 'payments' AND p.partition = ANY($1::int[]) ORDER BY p.partition",
    /// Payments whose order has left word, those whose time is up, and those of some ages whose order is there. The look at
    /// the order is a subquery with a limit, so that it is made by key whatever the planner reckons.
    due_payments = "WITH due AS (
            (SELECT k.partition, k.\"offset\" FROM parked_payments k
                WHERE k.partition = ANY($1::int[]) AND k.order_seen LIMIT $5)
            UNION
            (SELECT k.partition, k.\"offset\" FROM parked_payments k
                WHERE k.partition = ANY($1::int[]) AND k.expires_at <= $2 LIMIT $5)
            UNION
            (SELECT k.partition, k.\"offset\" FROM unnest($3::timestamptz[], $4::timestamptz[]) AS w(after, until)
                JOIN parked_payments k
                  ON k.partition = ANY($1::int[]) AND k.parked_at > w.after AND k.parked_at <= w.until
                CROSS JOIN LATERAL (SELECT FROM order_headers h
                    WHERE h.source = 'online_orders' AND h.order_id = k.order_id LIMIT 1) h LIMIT $5))
        SELECT k.partition, k.\"offset\", k.event_id, k.payment_id, k.order_id, k.payment_method, k.card_last_four,
            k.payment_status, k.payment_datetime, k.amount, h.order_value, p.order_id, k.expires_at <= $2
        FROM due JOIN parked_payments k USING (partition, \"offset\")
        LEFT JOIN LATERAL (SELECT h.order_value FROM order_headers h
            WHERE h.source = 'online_orders' AND h.order_id = k.order_id LIMIT 1) h ON true
        LEFT JOIN LATERAL (SELECT p.order_id FROM payments p WHERE p.payment_id = k.payment_id LIMIT 1) p ON true
        ORDER BY k.partition, k.\"offset\" LIMIT $5",
    free_events = "DELETE FROM applied_events WHERE event_id = ANY($1::uuid[])",
    log_joined = "INSERT INTO events_log (event_id, raw_event, processed_at, status, topic, partition, \"offset\")
        SELECT k.event_id, k.raw_event, $3, 'applied', 'payments', k.partition, k.\"offset\"
        FROM unnest($1::int[], $2::bigint[]) AS u(partition, \"offset\")
        JOIN parked_payments k ON k.partition = u.partition AND k.\"offset\" = u.\"offset\"
        ORDER BY k.partition, k.\"offset\"",
    log_refused = "INSERT INTO events_log (event_id, raw_event, processed_at, status, reason, topic, partition, \"offset\",
            detail, redacted, record_key, header_names, header_values, timer_seq)
        SELECT k.event_id, k.raw_event, $3, 'rejected', u.reason, 'payments', k.partition, k.\"offset\", u.detail,
            k.redacted, k.record_key, k.header_names, k.header_values, u.timer_seq
        FROM unnest($1::int[], $2::bigint[], $4::text[], $5::text[], $6::bigint[])
            AS u(partition, \"offset\", reason, detail, timer_seq)
        JOIN parked_payments k ON k.partition = u.partition AND k.\"offset\" = u.\"offset\"
        ORDER BY k.partition, k.\"offset\"
        RETURNING \"offset\", record_key, raw_event, header_names, header_values, redacted, reason, detail, partition",
    leave = "DELETE FROM parked_payments k USING unnest($1::int[], $2::bigint[]) AS u(partition, \"offset\")
        WHERE k.partition = u.partition AND k.\"offset\" = u.\"offset\"",
    advance_timer = "UPDATE partition_progress p SET parked = p.parked - u.joined - u.rejected,
            applied = p.applied + u.joined, rejected = p.rejected + u.rejected,
            timer_seq = p.timer_seq + u.rejected, last_processed_at = $4
        FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS u(partition, joined, rejected)
        WHERE p.topic = 'payments' AND p.partition = u.partition",
    advance = "UPDATE partition_progress p SET next_offset = u.next_offset, last_offset = u.last_offset,
            last_digest = u.last_digest, last_processed_at = $9, applied = p.applied + u.applied,
            duplicates = p.duplicates + u.duplicates, rejected = p.rejected + u.rejected,
            parked = p.parked + u.parked, timer_published = greatest(p.timer_published, u.timer_published),
            published_offset = greatest(p.published_offset, u.published_offset),
            published_at = CASE WHEN u.published_offset > coalesce(p.published_offset, -1) THEN u.published_at
                                ELSE p.published_at END
        FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[],
            $10::bigint[], $11::timestamptz[], $12::bigint[], $13::bigint[])
            AS u(topic, partition, next_offset, last_offset, last_digest, applied, duplicates, rejected, published_offset,
                 published_at, parked, timer_published)
        WHERE p.topic = u.topic AND p.partition = u.partition",
}

impl Writer {
    /// Connects, checks the server and the schema, and reads the catalogue.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where trying again may help, [`StoreError::Stop`] where it does not: PostgreSQL 18.0
    /// or 18.1 (they lose updates), `synchronous_commit` off, another installation's timezone.
    pub async fn connect(options: WriterOptions) -> Result<Writer, StoreError> {
        let Way { mut config, tls } = Way::of(&options.url).map_err(StoreError::Stop)?;
        config
            .application_name("stocktide-processor")
            .connect_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20));
        let warned = Arc::new(AtomicBool::new(false));
        let client = match tls {
            Some(tls) => open(&config, tls, Arc::clone(&warned)).await?,
            None => open(&config, NoTls, Arc::clone(&warned)).await?,
        };
        reads::check_server(&client).await?;
        client.batch_execute(&session_settings(&options)).await?;
        reads::check_installation(&client, &options).await?;
        let sql = Statements::prepare(&client).await?;
        let catalogue = reads::catalogue(&client).await?;
        Ok(Writer {
            client,
            sql,
            catalogue,
            options,
            warned,
            look_up_orders: 0,
            round_trips: AtomicU32::new(0),
            out_of_step: false,
        })
    }

    /// Counts a flight: requests that go out together and are waited for together.
    pub(crate) fn waited(&self) {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection is gone, or good for nothing any more.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed() || self.out_of_step
    }

    /// Ends a transaction that has failed, and finds out whether the connection can be used further. A COPY that begins in a
    /// failed transaction is ended twice by the client (tokio-postgres 0.7: a Sync with its Execute, and one more with the
    /// CopyFail), and the server answers both: from then on every answer would be taken for the next question's.
    pub(crate) async fn roll_back(&mut self) {
        if self.is_closed() {
            return;
        }
        // Its own failure shows in the answer to the next question.
        let _ = self.client.batch_execute("ROLLBACK").await;
        let number = uuid::Uuid::new_v4().as_u128() as u32;
        let answer = self.client.simple_query(&format!("SELECT {number}")).await.unwrap_or_default();
        let is_number = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some(number.to_string().as_str()),
            _ => false,
        };
        self.out_of_step = !answer.iter().any(is_number);
    }
}

/// Connects, and lets the connection's own task note when the server has warned.
async fn open<T>(
    config: &tokio_postgres::Config,
    tls: T,
    warned: Arc<AtomicBool>,
) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && is_warning(&notice)
            {
                // A COMMIT in the flight of a failed transaction rolls it back, so the ROLLBACK after it finds none.
                if *notice.code() == SqlState::NO_ACTIVE_SQL_TRANSACTION {
                    tracing::debug!("PostgreSQL: {}", notice.message());
                } else {
                    tracing::warn!("PostgreSQL: {}", notice.message());
                }
                if raises_doubt(notice.code()) {
                    warned.store(true, Ordering::SeqCst);
                }
            }
        }
    });
    Ok(client)
}

/// Whether a warning may be about what a COMMIT has done. One that only says that the connection ends is not: it may follow
/// upon a COMMIT that was answered, and where the server gives up waiting for a standby as it ends, it answers no COMMIT.
fn raises_doubt(code: &SqlState) -> bool {
    ![SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code)
}

/// Rule 7 of the protocol: a frozen process must not hold stock locks against everyone, so the server ends its
/// transaction, and nobody waits for a lock without end. Plans are made once, and by index: a table that was empty when
/// its plan was made would otherwise be scanned as it grows.
fn session_settings(options: &WriterOptions) -> String {
    format!(
        "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = {}; SET statement_timeout = '60s';
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;
         SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET timezone = 'UTC'; SET jit = off",
        options.lock_timeout.as_millis()
    )
}

/// Not by its text, which is in the server's language, where there is more.
fn is_warning(notice: &DbError) -> bool {
    notice.parsed_severity().map_or_else(|| notice.severity() == "WARNING", |is| is == Severity::Warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_a_connection_raises_no_doubt_about_the_commit_before() {
        assert!(!raises_doubt(&SqlState::ADMIN_SHUTDOWN));
        assert!(!raises_doubt(&SqlState::CRASH_SHUTDOWN));
        // What it says where it is told to give up waiting for a standby.
        assert!(raises_doubt(&SqlState::WARNING));
    }
}
