//! Bare PostgreSQL taking in the rows that the product wrote: the least that any product must pay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use stocktide_store::migrate;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::world::World;

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
/// PostgreSQL's header of binary COPY: signature, flags, length of the extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The rows of a table, as binary COPY writes them.
struct Rows {
    table: &'static str,
    rows: Vec<Bytes>,
}

/// Copies the product's rows into a second, empty database with the same schema, in as many transactions as the events
/// make batches, which the connections take in turn; returns how long that took.
pub async fn measure(world: &World, batch: usize, connections: usize) -> anyhow::Result<Duration> {
    let source = connect(&world.stack.database_url()).await?;
    let mut tables = Vec::new();
    for table in TABLES {
        tables.push(read(&source, table).await?);
    }
    tables.push(read(&source, "inventory").await?);
    let events = tables.first().context("no log")?.rows.len();
    let url = world.stack.create_database("floor").await?;
    migrate::run(&url, "GBP", "UTC").await?;
    let target = connect(&url).await?;
    for table in ["products", "locations", "suppliers"] {
        write(&target, table, &read(&source, table).await?.rows).await?;
    }
    let (batches, tables) = (events.div_ceil(batch), Arc::new(tables));
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connect(&url).await?);
    }

    let begun = Instant::now();
    let mut copying = JoinSet::new();
    for (first, client) in clients.into_iter().enumerate() {
        let tables = Arc::clone(&tables);
        copying.spawn(async move {
            for at in (first..batches).step_by(connections) {
                client.batch_execute("BEGIN").await?;
                for Rows { table, rows } in tables.iter() {
                    write(&client, table, &rows[share(rows.len(), at, batches)]).await?;
                }
                client.batch_execute("COMMIT").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = copying.join_next().await {
        done??;
    }
    Ok(begun.elapsed())
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

async fn write(client: &Client, table: &str, rows: &[Bytes]) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut data = BytesMut::with_capacity(rows.iter().map(Bytes::len).sum::<usize>() + 32);
    data.put_slice(HEADER);
    for row in rows {
        data.put_slice(row);
    }
    data.put_i16(-1);
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)")).await?;
    let mut sink = std::pin::pin!(sink);
    let mut data = data.freeze();
    while !data.is_empty() {
        sink.feed(data.split_to(data.len().min(256 * 1024))).await?;
    }
    ensure!(sink.finish().await? == rows.len() as u64, "COPY into {table} lost rows");
    Ok(())
}
