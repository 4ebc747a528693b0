//! Faults without end, and the check that nothing came of them.
//!
//! [`world`] is an installation of real processes: three Kafka nodes, PostgreSQL, processors, producers and job workers, with
//! [proxies](proxy) between them. [`nemesis`] draws [faults](fault) from a seed and [does](inject) them while events flow. Then
//! there is peace, and the [check](check) holds everything against the input topics. An [`episode`] is one line of a
//! [`history`]; [`controls`] are broken variants of the processor that the check has to find.

pub mod check;
pub mod controls;
mod disk;
pub mod episode;
pub mod fault;
pub mod history;
pub mod inject;
pub mod nemesis;
pub mod proxy;
mod reports;
mod service;
mod stopped;
pub mod table;
pub mod truncation;

mod wire;
mod workload;
pub mod world;
