//! What the HTTP API reads.
//!
//! Every answer is one statement, so that it is of one moment; only a product's movements are looked for in several steps.
//! Amounts come as decimal texts with two to four places, never through a binary float. Lists are read by key
//! ([`Page`]), never by offset, so that the hundredth page costs what the first does.

mod error;
mod fates;
mod jobs;
mod movements;
mod orders;
mod products;
mod rejects;
mod reports;
mod stats;

use std::str::FromStr;
use std::time::Duration;

pub use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub use error::ReadError;
pub use fates::{Fates, Totals, fates, schema_is_there, totals};
pub use jobs::{JobRun, job_runs};
pub use movements::{Movement, MovementKey, movements};
pub use orders::{Order, OrderLine, Payment, order};
pub use products::{
    ProductFilter, ProductRow, StockFilter, StockKey, StockRow, product, product_stock, products, stock,
};
pub use rejects::{ReasonCount, RejectFilter, RejectKey, RejectRow, SHOWN_BYTES, reasons, rejects};
pub use reports::{ReportRow, reports};
pub use stats::{
    Days, GlobalStats, MonthStats, Rank, STATEMENTS, SourceStats, UserStats, global, monthly, top_users,
    top_users_of_days, user,
};

/// How long a request waits for a connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A part of a list: what follows a key, at most so many.
#[derive(Debug, Clone)]
pub struct Page<K> {
    /// The last key that was seen; none: from the beginning.
    pub after: Option<K>,
    /// So many at most.
    pub limit: i64,
}

/// An amount as a text with two to four places.
macro_rules! amount {
    ($expression:literal) => {
        concat!("to_char(", $expression, ", 'FM999999999999999999999990.00FM99')")
    };
}
pub(crate) use amount;

/// Connections that can only read, made when they are asked for: the database need not be there yet.
///
/// # Errors
/// When the URL is none.
pub fn pool(url: &str, connections: u32, statement_timeout: Duration) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("stocktide-api").options([
        ("default_transaction_read_only", "on"),
        ("statement_timeout", statement_timeout.as_millis().to_string().as_str()),
        ("idle_in_transaction_session_timeout", "10s"),
        ("timezone", "UTC"),
        ("jit", "off"),
        // Planning costs more than most of the answers. The statements are written so that one plan, by index, does for all
        // parameters; a table that was empty when it was made would otherwise be scanned as it grows.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}
