//! Reads the facts from PostgreSQL, all from one snapshot: what is written meanwhile does not show.

use anyhow::Context;
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Executor, Row};
use uuid::Uuid;

use crate::amount;
use crate::digest::Digest;
use crate::facts::{
    Coordinates, Facts, Forgotten, Header, Line, LineKind, LogRow, Month, OrderStatus, Parked, Payment,
    PaymentEvent, PaymentStatus, Progress, Rejection, Replay, Slot, Source, StockResult, StockRow,
    StockStatus, TopFloor, TopUser, User,
};
use crate::names::Name;
use crate::record::Fingerprint;

/// A transaction that sees the database as it was at its start.
pub struct Snapshot {
    connection: PgConnection,
}

type Rows<T> = anyhow::Result<T>;

impl Snapshot {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn open(url: &str) -> Rows<Snapshot> {
        let mut connection = connect(url).await?;
        // It waits for Kafka with the snapshot open, and its queries may take long.
        connection
            .execute(
                "SET application_name = 'stocktide-verify'; SET timezone = 'UTC'; SET statement_timeout = 0;
                 SET idle_in_transaction_session_timeout = 0; SET jit = off;
                 BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            )
            .await?;
        Ok(Snapshot { connection })
    }

    /// The installation and how far its partitions are; this is the moment at which the snapshot is taken.
    ///
    /// # Errors
    /// The schema is missing, or the database fails.
    pub async fn progress(&mut self) -> Rows<Facts> {
        let installation: Option<(String, String)> =
            sqlx::query_as("SELECT timezone, currency FROM installation")
                .fetch_optional(&mut self.connection)
                .await
                .context("the schema is not there: run `stocktide migrate`")?;
        let (timezone, currency) =
            installation.context("the installation is not set up: run `stocktide migrate`")?;
        let timezone = timezone.parse().map_err(|e| anyhow::anyhow!("timezone {timezone}: {e}"))?;
        let mut facts = Facts::new(timezone, &currency);
        let sql = "SELECT topic, partition, start_offset, next_offset, published_offset, log_floor, applied, duplicates,
                          rejected, parked, timer_seq, timer_published
                   FROM partition_progress ORDER BY topic, partition";
        for row in sqlx::query(sql).fetch_all(&mut self.connection).await? {
            let slot = facts.slot(row.try_get(0)?, row.try_get(1)?);
            let progress = Progress {
                start_offset: row.try_get(2)?,
                next_offset: row.try_get(3)?,
                published_offset: row.try_get(4)?,
                log_floor: row.try_get(5)?,
                applied: row.try_get(6)?,
                duplicates: row.try_get(7)?,
                rejected: row.try_get(8)?,
                parked: row.try_get(9)?,
                timer_seq: row.try_get(10)?,
                timer_published: row.try_get(11)?,
            };
            if let Some(partition) = facts.partitions.get_mut(usize::from(slot.0)) {
                partition.progress = Some(progress);
            }
        }
        Ok(facts)
    }

    /// Everything else.
    ///
    /// # Errors
    /// The database fails, or holds what the schema does not allow.
    pub async fn load(&mut self, facts: &mut Facts) -> Rows<()> {
        self.log(facts).await.context("events_log")?;
        facts.applied = sqlx::query_scalar("SELECT event_id FROM applied_events")
            .fetch_all(&mut self.connection)
            .await
            .context("applied_events")?;
        self.catalogue(facts).await?;
        self.lines(facts).await?;
        self.headers(facts).await.context("order_headers")?;
        self.stock(facts).await.context("inventory")?;
        self.days(facts).await.context("fates_by_day")?;
        self.months(facts).await.context("sales_by_month")?;
        self.users(facts).await.context("user_stats")?;
        self.top_users(facts).await.context("top_users")?;
        self.payments(facts).await?;
        self.parked(facts).await.context("parked_payments")?;
        self.replays(facts).await.context("dlq_actions")?;
        self.forgotten(facts).await.context("forgotten_users")?;
        facts.sort();
        Ok(())
    }

    async fn log(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = r#"SELECT topic, partition, "offset", status = 'applied', event_id, sha256(raw_event), redacted, processed_at,
                            reason, record_key, header_names, header_values, timer_seq, erased_at IS NOT NULL
                     FROM events_log"#;
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            let at = coordinates(facts, &row, 0)?;
            let log = LogRow {
                at,
                applied: row.try_get(3)?,
                event: row.try_get(4)?,
                value: row.try_get::<Option<&[u8]>, _>(5)?.map(Digest::from_sha256),
                redacted: row.try_get(6)?,
                erased: row.try_get(13)?,
                processed_at: micros(&row, 7)?,
                timer_seq: row.try_get(12)?,
            };
            if !log.applied {
                let reason = name(facts, &row, 8)?;
                facts.rejections.insert(at, rejection(reason, &row)?);
            }
            facts.log.push(log);
        }
        Ok(())
    }

    async fn catalogue(&mut self, facts: &mut Facts) -> Rows<()> {
        let Facts { names, catalogue, .. } = facts;
        for (table, sql, known) in [
            ("products", "SELECT product_id FROM products", &mut catalogue.products),
            ("products", "SELECT product_id FROM products WHERE kind = 'service'", &mut catalogue.services),
            ("locations", "SELECT location_id FROM locations", &mut catalogue.locations),
            ("suppliers", "SELECT supplier_id FROM suppliers", &mut catalogue.suppliers),
        ] {
            let mut rows = sqlx::query(sql).fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await.context(table)? {
                known.insert(names.intern(row.try_get(0)?));
            }
        }
        Ok(())
    }

    async fn lines(&mut self, facts: &mut Facts) -> Rows<()> {
        // Both with the same columns, so that one reader does.
        let orders = r#"SELECT source, partition, "offset", event_id, kind, line_no, order_id, original_id, user_id, product_id,
                   location_id, quantity, (unit_price * 10000)::bigint, "timestamp", processed_at, delta, quantity_after,
                   version, stock_status
            FROM orders"#;
        let restocks = r#"SELECT source, partition, "offset", event_id, kind, line_no, restock_id, NULL::text, supplier_id,
                   product_id, location_id, quantity, (unit_cost * 10000)::bigint, "timestamp", processed_at, delta,
                   quantity_after, version, stock_status
            FROM restock_lines"#;
        for (table, sql) in [("orders", orders), ("restock_lines", restocks)] {
            let mut rows = sqlx::query(sql).fetch(&mut self.connection);
            while let Some(row) = rows.try_next().await.context(table)? {
                let line = line(facts, &row).context(table)?;
                facts.lines.push(line);
            }
        }
        Ok(())
    }

    async fn headers(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = "SELECT source, order_id, user_id, location_id, shipping_address, payment_method,
                          (stated_value * 10000)::bigint, (order_value * 10000)::bigint, value_mismatch, status, ordered_at,
                          event_id
                   FROM order_headers";
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        let digest = |text: Option<&str>| text.map(|text| Digest::of(text.as_bytes()));
        while let Some(row) = rows.try_next().await? {
            let (source, status): (&str, &str) = (row.try_get(0)?, row.try_get(9)?);
            let header = Header {
                source: Source::of_topic(source).with_context(|| format!("source {source:?}"))?,
                order: facts.names.intern(row.try_get(1)?),
                user: name(facts, &row, 2)?,
                location: facts.names.intern(row.try_get(3)?),
                address: digest(row.try_get(4)?),
                payment_method: digest(row.try_get(5)?),
                stated_value: row.try_get(6)?,
                order_value: row.try_get(7)?,
                value_mismatch: row.try_get(8)?,
                status: OrderStatus::of_name(status).with_context(|| format!("status {status:?}"))?,
                ordered_at: micros(&row, 10)?,
                event: row.try_get(11)?,
            };
            facts.add_header(header);
        }
        Ok(())
    }

    async fn stock(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = "SELECT product_id, location_id, quantity_on_hand, version, opening_quantity FROM inventory
                   ORDER BY product_id, location_id";
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            facts.stock.push(StockRow {
                product: facts.names.intern(row.try_get(0)?),
                location: facts.names.intern(row.try_get(1)?),
                on_hand: row.try_get(2)?,
                version: row.try_get(3)?,
                opening: row.try_get(4)?,
            });
        }
        Ok(())
    }

    async fn days(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql =
            "SELECT topic, partition, sum(applied)::bigint, sum(duplicates)::bigint, sum(rejected)::bigint,
                          sum(parked)::bigint
                   FROM fates_by_day GROUP BY topic, partition";
        for row in sqlx::query(sql).fetch_all(&mut self.connection).await? {
            let fates = [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?];
            let slot = facts.slot(row.try_get(0)?, row.try_get(1)?);
            facts.days.insert(slot, fates);
        }
        Ok(())
    }

    async fn months(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql =
            "SELECT month, topic, partition, orders, units, gross::text, cancelled_orders, cancelled_units,
                          cancelled_value::text, returns, returned_units, returned_value::text
                   FROM sales_by_month";
        for row in sqlx::query(sql).fetch_all(&mut self.connection).await? {
            let month = Month {
                orders: row.try_get(3)?,
                units: row.try_get(4)?,
                gross: money(&row, 5)?,
                cancelled_orders: row.try_get(6)?,
                cancelled_units: row.try_get(7)?,
                cancelled_value: money(&row, 8)?,
                returns: row.try_get(9)?,
                returned_units: row.try_get(10)?,
                returned_value: money(&row, 11)?,
            };
            let slot = facts.slot(row.try_get(1)?, row.try_get(2)?);
            facts.months.insert((row.try_get::<NaiveDate, _>(0)?, slot), month);
        }
        Ok(())
    }

    async fn users(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = "SELECT user_id, orders, units, gross::text, cancelled_orders, cancelled_value::text, returned_value::text,
                          first_order_at, last_order_at
                   FROM user_stats";
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            let moment = |column| {
                row.try_get::<Option<DateTime<Utc>>, _>(column).map(|at| at.map(|at| at.timestamp_micros()))
            };
            let user = User {
                orders: row.try_get(1)?,
                units: row.try_get(2)?,
                gross: money(&row, 3)?,
                cancelled_orders: row.try_get(4)?,
                cancelled_value: money(&row, 5)?,
                returned_value: money(&row, 6)?,
                first_order_at: moment(7)?,
                last_order_at: moment(8)?,
            };
            let name = facts.names.intern(row.try_get(0)?);
            facts.users.insert(name, user);
        }
        Ok(())
    }

    async fn top_users(&mut self, facts: &mut Facts) -> Rows<()> {
        let floor = "SELECT nullif(spend, '-Infinity')::text, orders FROM top_users_floor";
        let row = sqlx::query(floor).fetch_one(&mut self.connection).await?;
        let spend = row.try_get::<Option<&str>, _>(0)?.map(|_| money(&row, 0)).transpose()?;
        facts.top_floor = TopFloor { spend, orders: row.try_get(1)? };
        let mut rows =
            sqlx::query("SELECT user_id, spend::text, orders FROM top_users").fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            let name = facts.names.intern(row.try_get(0)?);
            facts.top_users.insert(name, TopUser { spend: money(&row, 1)?, orders: row.try_get(2)? });
        }
        Ok(())
    }

    async fn payments(&mut self, facts: &mut Facts) -> Rows<()> {
        let events = r#"SELECT payment_id, order_id, payment_method, card_last_four, payment_status, payment_datetime,
                   (amount * 10000)::bigint, amount_mismatch, event_id, 'payments', partition, "offset"
            FROM payment_events"#;
        let mut rows = sqlx::query(events).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.context("payment_events")? {
            let (payment, at) = (payment(facts, &row)?, coordinates(facts, &row, 9)?);
            facts.payment_events.push(PaymentEvent { at, payment });
        }
        drop(rows);
        let newest =
            "SELECT payment_id, order_id, payment_method, card_last_four, payment_status, payment_datetime,
                   (amount * 10000)::bigint, amount_mismatch, event_id
            FROM payments";
        let mut rows = sqlx::query(newest).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.context("payments")? {
            let payment = payment(facts, &row)?;
            facts.payments.push(payment);
        }
        Ok(())
    }

    async fn parked(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = r#"SELECT 'payments', partition, "offset", event_id, order_id, sha256(raw_event), redacted, order_seen,
                            NULL, record_key, header_names, header_values
                     FROM parked_payments"#;
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            let at = coordinates(facts, &row, 0)?;
            let Rejection { key, headers, header_count, .. } = rejection(None, &row)?;
            let value = row.try_get::<Option<&[u8]>, _>(5)?.map(Digest::from_sha256);
            facts.parked.push(Parked {
                at,
                event: row.try_get(3)?,
                order: facts.names.intern(row.try_get(4)?),
                print: Fingerprint { key, value, header_count, headers },
                redacted: row.try_get(6)?,
                order_seen: row.try_get(7)?,
            });
        }
        Ok(())
    }

    async fn replays(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = r#"SELECT topic, partition, "offset", replay_id, sent_offset, value_sha256 FROM dlq_actions
                     WHERE action = 'replayed'"#;
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            // Of a topic that is not an input any more nothing can be said.
            let Some(slot) = facts.find_slot(row.try_get(0)?, row.try_get(1)?) else { continue };
            facts.replays.push(Replay {
                of: Coordinates { slot, offset: row.try_get(2)? },
                id: row.try_get(3)?,
                sent_offset: row.try_get(4)?,
                value: row.try_get::<Option<&[u8]>, _>(5)?.map(Digest::from_sha256),
            });
        }
        Ok(())
    }

    async fn forgotten(&mut self, facts: &mut Facts) -> Rows<()> {
        let sql = "SELECT token, salt, digest, forgotten_at FROM forgotten_users";
        for row in sqlx::query(sql).fetch_all(&mut self.connection).await? {
            facts.forgotten.push(Forgotten {
                token: facts.names.intern(row.try_get(0)?),
                salt: row.try_get(1)?,
                digest: Digest::from_sha256(row.try_get(2)?),
                at: micros(&row, 3)?,
            });
        }
        Ok(())
    }

    /// The applied records of a partition below an offset, from the log: their topic has them no more.
    ///
    /// # Errors
    /// The database fails.
    pub async fn applied_below(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        mut each: impl FnMut(i64, &[u8]),
    ) -> Rows<()> {
        let sql = r#"SELECT "offset", raw_event FROM events_log
                     WHERE topic = $1 AND partition = $2 AND "offset" < $3 AND status = 'applied' AND raw_event IS NOT NULL"#;
        let query = sqlx::query(sql).bind(topic).bind(partition).bind(offset);
        let mut rows = query.fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            each(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(())
    }

    /// The digest of the first bytes of a record in the log, and its whole length.
    ///
    /// # Errors
    /// The database fails.
    pub async fn beginning(
        &mut self,
        facts: &Facts,
        at: Coordinates,
        bytes: i64,
    ) -> Rows<(Option<Digest>, i64)> {
        let Some(partition) = facts.partition(at.slot) else { return Ok((None, 0)) };
        let sql = r#"SELECT sha256(substring(raw_event for $4)), length(raw_event)::bigint FROM events_log
                     WHERE topic = $1 AND partition = $2 AND "offset" = $3"#;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let query =
            sqlx::query(sql).bind(&partition.topic).bind(partition.partition).bind(at.offset).bind(bytes);
        let Some(row) = query.fetch_optional(&mut self.connection).await? else { return Ok((None, 0)) };
        let hash = row.try_get::<Option<&[u8]>, _>(0)?.map(Digest::from_sha256);
        Ok((hash, row.try_get::<Option<i64>, _>(1)?.unwrap_or(0)))
    }
}

async fn connect(url: &str) -> Rows<PgConnection> {
    // Its statements read whole tables: that they take long is nothing to be warned of.
    let options: PgConnectOptions = url.parse().context("the database URL is not valid")?;
    options.disable_statement_logging().connect().await.context("cannot connect to the database")
}

/// How far an input partition is at a moment.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Position {
    /// Its topic.
    pub topic: String,
    /// Its number within the topic.
    pub partition: i32,
    /// P: records below it have met their fate.
    pub next_offset: i64,
    /// The number of the last output that a timer made.
    pub timer_seq: i64,
}

/// How far every partition is now, outside any snapshot.
///
/// # Errors
/// The database fails.
pub async fn positions_now(url: &str) -> Rows<Vec<Position>> {
    let mut connection = connect(url).await?;
    let sql = "SELECT topic, partition, next_offset, timer_seq FROM partition_progress";
    Ok(sqlx::query_as(sql).fetch_all(&mut connection).await?)
}

/// Topic, partition and offset, from three columns.
fn coordinates(facts: &mut Facts, row: &PgRow, column: usize) -> Rows<Coordinates> {
    let slot: Slot = facts.slot(row.try_get(column)?, row.try_get(column + 1)?);
    Ok(Coordinates { slot, offset: row.try_get(column + 2)? })
}

fn micros(row: &PgRow, column: usize) -> Rows<i64> {
    Ok(row.try_get::<DateTime<Utc>, _>(column)?.timestamp_micros())
}

fn name(facts: &mut Facts, row: &PgRow, column: usize) -> Rows<Option<Name>> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(|text| facts.names.intern(text)))
}

fn money(row: &PgRow, column: usize) -> Rows<i128> {
    let text: &str = row.try_get(column)?;
    amount::parse(text).with_context(|| format!("{text:?} is no amount"))
}

fn rejection(reason: Option<Name>, row: &PgRow) -> Rows<Rejection> {
    let names: Vec<String> = row.try_get::<Option<_>, _>(10)?.unwrap_or_default();
    let values: Vec<Option<Vec<u8>>> = row.try_get::<Option<_>, _>(11)?.unwrap_or_default();
    let headers = names.iter().map(String::as_str).zip(values.iter().map(Option::as_deref));
    Ok(Rejection {
        reason,
        key: row.try_get::<Option<&[u8]>, _>(9)?.map(Digest::of),
        headers: Digest::of_headers(headers),
        header_count: names.len(),
    })
}

/// A payment, from the nine columns that both tables begin with.
fn payment(facts: &mut Facts, row: &PgRow) -> Rows<Payment> {
    let method: Option<&str> = row.try_get(2)?;
    Ok(Payment {
        payment: facts.names.intern(row.try_get(0)?),
        order: facts.names.intern(row.try_get(1)?),
        method: method.map(|text| Digest::of(text.as_bytes())),
        last_four: name(facts, row, 3)?,
        status: PaymentStatus::of_name(row.try_get(4)?),
        paid_at: micros(row, 5)?,
        amount: row.try_get(6)?,
        amount_mismatch: row.try_get(7)?,
        event: row.try_get(8)?,
    })
}

fn line(facts: &mut Facts, row: &PgRow) -> Rows<Line> {
    let kind: &str = row.try_get(4)?;
    let result = match row.try_get::<Option<i64>, _>(15)? {
        None => None,
        Some(delta) => Some(StockResult {
            delta,
            // Whatever is missing beside a delta shows as a figure or a version that fits nothing.
            quantity_after: row.try_get::<Option<i64>, _>(16)?.unwrap_or(i64::MIN),
            version: row.try_get::<Option<i64>, _>(17)?.unwrap_or(0),
            status: StockStatus::of_name(row.try_get::<Option<&str>, _>(18)?.unwrap_or_default()),
        }),
    };
    Ok(Line {
        at: coordinates(facts, row, 0)?,
        event: row.try_get::<Uuid, _>(3)?,
        kind: LineKind::of_name(kind).with_context(|| format!("kind {kind:?}"))?,
        line_no: row.try_get(5)?,
        business_id: facts.names.intern(row.try_get(6)?),
        original: name(facts, row, 7)?,
        party: name(facts, row, 8)?,
        product: facts.names.intern(row.try_get(9)?),
        location: facts.names.intern(row.try_get(10)?),
        quantity: row.try_get(11)?,
        price: row.try_get(12)?,
        occurred_at: micros(row, 13)?,
        processed_at: micros(row, 14)?,
        result,
    })
}
