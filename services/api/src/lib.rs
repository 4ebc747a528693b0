//! Statistics, stock and intake over HTTP.
//!
//! Everything that is read comes from PostgreSQL's rollups and ledger ([`stocktide_store::api`]); the stream of stock changes
//! from the topic `inventory_updates` ([`stream`]); what is sent goes to Kafka and is the processor's to judge ([`intake`]).
//! The process keeps nothing, so that as many may run as are wanted.
//!
//! A request's way: connection ([`server`]) → metrics, panics, headers, compression, deadline, access ([`layers`],
//! [`access`]) → the route ([`router`]). Whatever goes wrong is a [`Problem`].

mod access;
mod answer;
mod console;
mod health;
mod intake;
mod layers;
pub mod metrics;
#[doc(hidden)]
pub mod outside;
mod params;
mod problem;
mod pulse;
mod query;
mod router;
mod routes;
mod server;
mod state;
mod stream;

pub use problem::Problem;
pub use router::openapi;
pub use server::Api;
