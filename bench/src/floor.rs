//! Bare PostgreSQL taking in the rows that the product wrote: the least that any product must pay.

use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use stocktide_store::migrate;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use crate::meter;
use crate::world::{World, drop_database};

/// The tables that the product writes in proportion to the events, in its order.
const TABLES: [&str; 7] = [
    "events_log",
    "applied_events",
    "order_headers",
    "sales_by_month",
    "user_stats",
    "orders",
    "restock_lines",
];
/// The name of the database that they are copied into.
const FLOOR: &str = "floor";
/// PostgreSQL's header of binary COPY: signature, flags, length of the extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The rows of a table, as binary COPY writes them.
struct Rows {
    table: &'static str,
    rows: Vec<Bytes>,
}

/// What the floor took.
pub struct Floor {
    /// From the first BEGIN to the last COMMIT.
    pub seconds: f64,
    /// PostgreSQL's CPU, in seconds.
    pub cpu: f64,
}

/// Copies the product's rows into a second, empty database with the same tables and indexes, in as many transactions as the events make
/// batches, which the connections take in turn. The tables' triggers and foreign keys are left out, and what is sent is made beforehand:
/// it is no more than taking in rows.
pub async fn measure(world: &World, batch: usize, connections: usize) -> anyhow::Result<Floor> {
    let source = connect(&world.database_url).await?;
    let mut tables = Vec::new();
    for table in TABLES {
        tables.push(read(&source, table).await?);
    }
    tables.push(read(&source, "inventory").await?);
    let events = tables.first().context("no log")?.rows.len();
    let url = world.stack.create_database(FLOOR).await?;
    migrate::run(&url, "GBP", "UTC").await?;
    let target = connect(&url).await?;
    for table in ["products", "locations", "suppliers"] {
        let statement = target.prepare(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?;
        Piece::of(&read(&source, table).await?.rows).write(&target, &statement).await?;
    }
    let batches = events.div_ceil(batch);
    let mut work = Vec::new();
    for first in 0..connections {
        let client = connect(&url).await?;
        client.batch_execute("SET session_replication_role = replica").await?;
        let mut statements = Vec::new();
        for Rows { table, .. } in &tables {
            statements.push(client.prepare(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?);
        }
        let of =
            |at| tables.iter().map(move |Rows { rows, .. }| Piece::of(&rows[share(rows.len(), at, batches)]));
        let transactions: Vec<Vec<Piece>> =
            (first..batches).step_by(connections).map(|at| of(at).collect()).collect();
        work.push((client, statements, transactions));
    }
    drop(tables);
    target.batch_execute("CHECKPOINT").await?;

    let servers = world.servers();
    let cpu = meter::cpu(&servers)?;
    let begun = Instant::now();
    let mut copying = JoinSet::new();
    for (client, statements, transactions) in work {
        copying.spawn(async move {
            for pieces in transactions {
                client.batch_execute("BEGIN").await?;
                for (statement, piece) in statements.iter().zip(pieces) {
                    piece.write(&client, statement).await?;
                }
                client.batch_execute("COMMIT").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = copying.join_next().await {
        done??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = meter::cpu(&servers)?[0] - cpu[0];
    drop(target);
    drop_database(&world.database_url, FLOOR).await?;
    Ok(Floor { seconds, cpu })
}

/// The part of `rows` that belongs to one of the batches.
fn share(rows: usize, at: usize, batches: usize) -> std::ops::Range<usize> {
    rows * at / batches..rows * (at + 1) / batches
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn read(client: &Client, table: &'static str) -> anyhow::Result<Rows> {
    let stream = client.copy_out(&format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)")).await?;
    let mut data = BytesMut::new();
    let mut stream = std::pin::pin!(stream);
    while let Some(chunk) = stream.next().await {
        data.put(chunk?);
    }
    let mut data = data.freeze();
    ensure!(data.starts_with(HEADER), "COPY of {table} has another header than expected");
    let _ = data.split_to(HEADER.len());
    let mut rows = Vec::new();
    loop {
        let columns = i16::from_be_bytes(data[..2].try_into()?);
        if columns < 0 {
            return Ok(Rows { table, rows });
        }
        let mut length = 2;
        for _ in 0..columns {
            let field = i32::from_be_bytes(data[length..length + 4].try_into()?);
            length += 4 + usize::try_from(field).unwrap_or(0);
        }
        rows.push(data.split_to(length));
    }
}

/// Rows as one COPY sends them.
struct Piece {
    rows: u64,
    data: Bytes,
}

impl Piece {
    fn of(rows: &[Bytes]) -> Piece {
        let mut data = BytesMut::with_capacity(rows.iter().map(Bytes::len).sum::<usize>() + 32);
        data.put_slice(HEADER);
        for row in rows {
            data.put_slice(row);
        }
        data.put_i16(-1);
        Piece { rows: rows.len() as u64, data: data.freeze() }
    }

    async fn write(mut self, client: &Client, statement: &Statement) -> anyhow::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let sink = client.copy_in(statement).await?;
        let mut sink = std::pin::pin!(sink);
        while !self.data.is_empty() {
            sink.feed(self.data.split_to(self.data.len().min(256 * 1024))).await?;
        }
        ensure!(sink.finish().await? == self.rows, "a COPY lost rows");
        Ok(())
    }
}
