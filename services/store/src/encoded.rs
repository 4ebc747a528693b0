//! What a settled batch is made into before it goes out, and nothing sent: for whoever measures it.

use stocktide_domain::Catalogue;
use stocktide_domain::fold::{After, Settled};

use crate::apply::Batch;
use crate::error::StoreError;
use crate::outputs::{self, Output};
use crate::rows::Written;

/// The size in bytes of the rows that a batch copies into the tables, and the records that it publishes.
///
/// # Errors
/// [`StoreError::Encode`], as [`crate::Writer::apply`] would.
pub fn of(
    batch: Batch<'_>,
    settled: &Settled<'_>,
    catalogue: &Catalogue,
    after: &[After],
) -> Result<(usize, Vec<Output>), StoreError> {
    let written = Written { batch, settled, catalogue, processed_at: batch.now, payments_wait: false };
    let mut outputs = Vec::new();
    outputs::of_records(batch, &written, after, 0..batch.raw.len(), &mut outputs)?;
    Ok((written.copied_bytes(after)?, outputs))
}
