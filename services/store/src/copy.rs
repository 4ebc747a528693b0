//! Rows in PostgreSQL's binary COPY format.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use postgres_types::{IsNull, ToSql, Type};
use tokio_postgres::Statement;

use crate::error::StoreError;
use crate::writer::Writer;

/// A message of COPY data is cut to this size, so that sending overlaps with the server's reading.
const CHUNK: usize = 256 * 1024;
/// Signature, flags, and the length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In the place of a row's number of columns: there are no more.
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

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
    let mut parts = parts.filter(|part| part.as_ref().map_or(true, |part| part.rows > 0));
    let Some(mut part) = parts.next().transpose()? else { return Ok(()) };
    // The server has to say that it is ready for them, and until they have ended it takes nothing else.
    writer.waited();
    let sink = writer.client.copy_in(statement).await?;
    let mut sink = std::pin::pin!(sink);
    sink.feed(Bytes::from_static(HEADER)).await?;
    let mut rows = 0;
    loop {
        rows += part.rows;
        let mut data = part.data.freeze();
        while !data.is_empty() {
            sink.feed(data.split_to(CHUNK.min(data.len()))).await?;
        }
        let Some(next) = parts.next().transpose()? else { break };
        part = next;
    }
    sink.feed(Bytes::from_static(TRAILER)).await?;
    let written = sink.finish().await?;
    if written == rows {
        return Ok(());
    }
    Err(StoreError::Lost(format!("COPY took in {written} of {rows} rows")))
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
}
