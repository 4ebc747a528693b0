//! Rows in PostgreSQL's binary COPY format.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use postgres_types::{IsNull, ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::error::StoreError;

/// A message of COPY data is cut to this size, so that sending overlaps with the server's reading.
const CHUNK: usize = 256 * 1024;

/// Rows on their way into one table.
pub(crate) struct CopyRows {
    data: BytesMut,
    rows: u64,
}

impl CopyRows {
    pub(crate) fn with_capacity(bytes: usize) -> CopyRows {
        let mut data = BytesMut::with_capacity(bytes + 32);
        data.put_slice(b"PGCOPY\n\xff\r\n\0");
        data.put_i32(0); // flags
        data.put_i32(0); // length of the header's extension
        CopyRows { data, rows: 0 }
    }

    /// Begins a row of so many columns; exactly so many [`put`](Row::put)s follow.
    pub(crate) fn row(&mut self, columns: i16) -> Row<'_> {
        self.data.put_i16(columns);
        self.rows += 1;
        Row(&mut self.data)
    }

    /// Sends the rows. Nothing is sent where there are none.
    pub(crate) async fn send(mut self, client: &Client, statement: &Statement) -> Result<(), StoreError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.data.put_i16(-1);
        let mut data: Bytes = self.data.freeze();
        let sink = client.copy_in(statement).await?;
        let mut sink = std::pin::pin!(sink);
        while !data.is_empty() {
            sink.feed(data.split_to(CHUNK.min(data.len()))).await?;
        }
        let written = sink.finish().await?;
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
}
