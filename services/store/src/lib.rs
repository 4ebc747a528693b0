//! All SQL there is.
//!
//! [`migrate`] and [`catalogue`] go through sqlx; [`apply`], the processor's transaction, through tokio-postgres (docs/adr
//! says why).

pub mod api;
pub mod apply;
pub mod catalogue;
mod copy;
pub mod error;
pub mod figures;
pub mod jobs;
mod lookups;
pub mod migrate;
mod numeric;
pub mod outputs;
pub mod overview;
pub mod progress;
mod reads;
pub mod reject_sample;
pub mod report;
pub mod reports;
pub mod retention;
mod rows;
pub mod writer;

pub use apply::{Applied, Batch, Counts, Headers, Partition, RawRecord, Span, Timings};
pub use error::StoreError;
pub use numeric::Numeric;
pub use outputs::{DeadLetter, Output, OutputBody};
pub use progress::Position;
pub use rows::Coordinates;
pub use writer::{Writer, WriterOptions};
