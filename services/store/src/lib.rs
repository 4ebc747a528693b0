//! All SQL there is.
//!
//! [`migrate`] and [`catalogue`] go through sqlx; [`apply`], the processor's transaction, through tokio-postgres (docs/adr
//! says why).

pub mod catalogue;
pub mod migrate;
