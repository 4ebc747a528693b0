//! Kafka → PostgreSQL → Kafka, exactly once.
//!
//! A record is received and decoded on the polling thread ([`intake`]), applied with its batch in one PostgreSQL
//! transaction, and its outputs are published together with the input offsets in one Kafka transaction ([`publisher`]).
//! The two commits are apart, and between them anything may die. What makes the whole exactly once is:
//!
//! - P, the database's `next_offset`, moves in the transaction that holds the effect. A batch is applied only where P is
//!   the position that this process carries over from the batch before (rule 4); so each record has its effect once.
//! - K, Kafka's committed offset, moves in the transaction that holds the outputs, stamped with the member and generation
//!   of the [`session`] in which the records were received (rule 2); so each output becomes visible once.
//! - K never passes P. Whoever takes a partition over reads K, then P (rule 1), publishes what lies between from what the
//!   database holds, and goes on from P ([`recovery`]).
//!
//! The nine rules stand in `ARCHITECTURE.md` and are model-checked (`docs/model`); each is named where it is kept. The order of locks (rule 8)
//! and the timeouts (rule 7) live in `stocktide_store`. Payments that wait for their order are settled by a [`timer`], whose
//! outputs have a cursor of their own (rule 6).

mod batch;
mod caught_up;
pub mod clients;
mod corrections;
mod database;
mod intake;
pub mod metrics;
mod native;
mod observer;
mod patient;
mod publisher;
mod recovery;
mod run;
mod session;
mod timer;
mod watch;

pub use run::{RunOptions, Summary, run};
