//! Events, validation and stock arithmetic: values in, values out.
//!
//! Nothing here knows of Kafka, SQL, HTTP, threads or the time of day; what is needed of them is passed in. A record's
//! way through this crate: [`decode`](decode::decode) turns its bytes into an [`Event`] or a [`Reject`];
//! [`fold`](fold::fold) settles a batch of them against what is [`Known`](fold::Known) and says what changes.

pub mod card;
pub mod catalogue;
pub mod decode;
pub mod erase;
pub mod event;
pub mod fold;
pub mod interval;
pub mod masked;
pub mod money;
pub mod reason;
pub mod report;
pub mod schema;
pub mod stock;
pub mod update;

pub use catalogue::{Catalogue, Product, ProductKind};
pub use event::{Body, Event, Source};
pub use money::Money;
pub use reason::{Reason, Reject};
pub use stock::StockStatus;
