//! A private PostgreSQL and a private Apache Kafka as child processes: for the demo, the tests and the benchmarks.
//!
//! [`Stack::start`] brings both up on free loopback ports, without Docker and with nothing started by hand. The programs
//! come from Maven (`pom.xml` beside this crate) the first time and from a cache afterwards. A stack ends with its
//! owner, however the owner ends: [`Stack::stop`], drop, panic, Ctrl-C, or `kill -9` (see [`guard`](crate#no-orphans)).
//!
//! # No orphans
//!
//! Every stack has a watchdog, a small `sh` that reads a pipe held open by nobody but the owner. When the owner is gone
//! the pipe closes, and the watchdog ends what it was told to watch and removes the temporary directory. A part is
//! started behind a gate that opens only once the watchdog knows it, so there is no moment in which an owner's death
//! could leave a process behind. `PR_SET_PDEATHSIG` was not taken: it fires on the death of the *thread* that started
//! the child, and a new user id clears it.

mod account;
mod cds;
mod error;
mod guard;
mod java;
mod kafka;
mod metadata;
mod parts;
mod ports;
mod postgres;
mod process;
mod record;
mod security;
mod stack;
mod state;

pub use error::DevstackError;
pub use kafka::Front;
pub use parts::{Parts, kafka_version, parts_dir, postgres_version};
pub use process::ProcessId;
pub use record::{PartState, PartStatus, RecordedStack, StackStatus};
pub use security::Security;
pub use stack::{PostgresStop, Stack, StackOptions};

/// What this crate's functions return.
pub type Result<T, E = DevstackError> = std::result::Result<T, E>;
