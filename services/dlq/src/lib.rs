//! The way back from the dead-letter queue.
//!
//! [`replay`] sends rejected records to their topics again, once each. Of every record the intention is written down in
//! PostgreSQL before it is sent, a Kafka transaction sends some hundred of them together, and where they lie is noted after. All
//! runs share one transactional id: who begins ends what another has left open, and then finds out, by the header
//! [`REPLAY_ID`], which of the intentions without a place were carried out. So a run that is broken off anywhere is gone on
//! with by calling it again, and nothing is sent twice.
//!
//! That a record takes *effect* at most once does not hang on any of this: the processor knows its event_id.

pub mod edit;
pub mod replay;
mod resend;

pub use edit::{Edit, EditError};
pub use replay::{Mark, Options, Outcome, Plan, Rules, Skipped, preview, replay};

/// The header that names a replay; it is unique.
pub const REPLAY_ID: &str = "stocktide.replay.id";
/// The header that says how often the record has been replayed, this time included.
pub const REPLAY_COUNT: &str = "stocktide.replay.count";
/// The header that says when and why it was rejected before, and when it was replayed: a JSON array, the latest first.
pub const REPLAY_HISTORY: &str = "stocktide.replay.history";
/// What these headers begin with.
const PREFIX: &str = "stocktide.replay.";
/// So many earlier rejects are told in the header at most.
const TOLD: usize = 20;
