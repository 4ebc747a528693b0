//! All SQL there is.
//!
//! [`migrate`] and [`catalogue`] go through sqlx; [`apply`] and [`timer`], the processor's transactions, through tokio-postgres (docs/adr
//! says why).

pub mod api;
pub mod apply;
pub mod broken;
pub mod catalogue;
mod copy;
pub mod dlq;
pub mod encoded;
pub mod error;
pub mod facts;
pub mod figures;
pub mod forget;
pub mod jobs;
mod lookups;
pub mod migrate;
mod numeric;
pub mod outputs;
pub mod overview;
mod payments;
pub mod progress;
mod reads;
pub mod reject_sample;
pub mod report;
pub mod reports;
pub mod retention;
pub mod roles;
mod rows;
pub mod timer;
mod tls;
pub mod writer;

pub use apply::{Applied, Batch, Corrected, Counts, Headers, Partition, RawRecord, Span, Timings};
pub use error::StoreError;
pub use numeric::Numeric;
pub use outputs::{DeadLetter, Output, OutputBody};
pub use progress::{Position, Published};
pub use rows::Coordinates;
pub use timer::{Stand, Tick, Ticked};
pub use writer::{Writer, WriterOptions};
