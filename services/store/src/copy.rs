//! Rows in PostgreSQL's binary COPY format.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::SinkExt;
use postgres_types::{IsNull, ToSql, Type};
use tokio_postgres::{CopyInSink, Statement};

use crate::error::StoreError;
use crate::writer::Writer;

/// A message of COPY data is cut to this size, so that sending overlaps with the server's reading.
const CHUNK: usize = 256 * 1024;
/// Signature, flags, and the length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In the place of a row's number of columns: there are no more.
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// PostgreSQL counts from 2000 on: that moment, in microseconds of Unix time.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// So many rows are made at a time where there are many, so that the server reads the first while the next are made.
pub(crate) const ROWS_AT_A_TIME: usize = 512;

/// Rows on their way into one table.
pub(crate) struct CopyRows {
    data: BytesMut,
    rows: u64,
}

impl CopyRows {
    pub(crate) fn with_capacity(bytes: usize) -> CopyRows {
        CopyRows { data: BytesMut::with_capacity(bytes), rows: 0 }
    }

    /// Begins a row of so many columns; exactly so many [`put`](Row::put)s follow.
    pub(crate) fn row(&mut self, columns: i16) -> Row<'_> {
        self.data.put_i16(columns);
        self.rows += 1;
        Row(&mut self.data)
    }

    /// How many bytes it has so far.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Sends the rows. Nothing is sent where there are none.
    pub(crate) async fn send(self, writer: &Writer, statement: &Statement) -> Result<(), StoreError> {
        send(writer, statement, std::iter::once(Ok(self))).await
    }
}

/// Sends the rows of all parts, each made when the ones before it are on their way. Nothing is sent where there are none.
pub(crate) async fn send(
    writer: &Writer,
    statement: &Statement,
    parts: impl Iterator<Item = Result<CopyRows, StoreError>>,
) -> Result<(), StoreError> {
    let mut copying = Copying::new(writer, statement);
    for part in parts {
        copying.feed(part?).await?;
    }
    copying.finish().await
}

/// A COPY under way; it begins with its first row. One that is dropped before it has finished fails, and its transaction with it.
pub(crate) struct Copying<'a> {
    writer: &'a Writer,
    statement: &'a Statement,
    sink: Option<Pin<Box<CopyInSink<Bytes>>>>,
    rows: u64,
}

impl<'a> Copying<'a> {
    pub(crate) fn new(writer: &'a Writer, statement: &'a Statement) -> Copying<'a> {
        Copying { writer, statement, sink: None, rows: 0 }
    }

    /// Sends these rows, and returns when the next ones are wanted. Until it has finished the connection takes nothing else.
    pub(crate) async fn feed(&mut self, part: CopyRows) -> Result<(), StoreError> {
        if part.rows == 0 {
            return Ok(());
        }
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => {
                // The server has to say that it is ready for them.
                self.writer.waited();
                let sink = none.insert(Box::pin(self.writer.client.copy_in(self.statement).await?));
                sink.feed(Bytes::from_static(HEADER)).await?;
                sink
            }
        };
        self.rows += part.rows;
        let mut data = part.data.freeze();
        while !data.is_empty() {
            sink.feed(data.split_to(CHUNK.min(data.len()))).await?;
        }
        Ok(())
    }

    /// Waits until the server has all of them.
    pub(crate) async fn finish(self) -> Result<(), StoreError> {
        let Some(mut sink) = self.sink else { return Ok(()) };
        sink.feed(Bytes::from_static(TRAILER)).await?;
        let written = sink.as_mut().finish().await?;
        if written == self.rows {
            return Ok(());
        }
        Err(StoreError::Lost(format!("COPY took in {written} of {} rows", self.rows)))
    }
}

/// A row that is being written.
pub(crate) struct Row<'a>(&'a mut BytesMut);

impl Row<'_> {
    /// Writes a column.
    pub(crate) fn put<T: ToSql>(&mut self, value: T, ty: &Type) -> Result<&mut Self, StoreError> {
        let at = self.0.len();
        self.0.put_i32(-1);
        let length = match value.to_sql(ty, self.0).map_err(|e| StoreError::Encode(e.to_string()))? {
            IsNull::Yes => return Ok(self),
            IsNull::No => self.0.len() - at - 4,
        };
        let length = i32::try_from(length).map_err(|e| StoreError::Encode(e.to_string()))?;
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(self)
    }

    /// Writes a column of type `timestamptz`. Each row has one or two, and chrono would count from one calendar to the other for each.
    pub(crate) fn put_at(&mut self, at: DateTime<Utc>) -> &mut Self {
        self.0.put_i32(8);
        self.0.put_i64(at.timestamp_micros() - EPOCH_MICROS);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use postgres_types::{FromSql, Type};

    use super::*;

    #[test]
    fn a_moment_is_written_as_the_database_reads_it() {
        for text in ["1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "2026-11-22T21:03:09.123456Z"] {
            let at: DateTime<Utc> = text.parse().unwrap();
            let mut rows = CopyRows::with_capacity(16);
            rows.row(1).put_at(at);
            let read = DateTime::<Utc>::from_sql(&Type::TIMESTAMPTZ, &rows.data[6..]).unwrap();
            assert_eq!((read, rows.data.len()), (at, 14));
        }
    }
}
