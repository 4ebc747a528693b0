//! Replays: what `dlq_actions` says was sent again against what the input topics have.

use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::digest::Digest;
use crate::facts::{Coordinates, Facts, Replay, Slot};
use crate::record::Record;
use crate::report::Check;

/// The header that names a replay.
const ID: &str = "stocktide.replay.id";

/// Compares records that a replay sent with the actions, one at a time.
#[derive(Debug)]
pub struct Replays<'f> {
    facts: &'f Facts,
    check: Check,
    known: FxHashMap<Uuid, usize>,
    /// Per replay, where its record was found.
    seen: Vec<Option<Coordinates>>,
}

impl<'f> Replays<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts) -> Replays<'f> {
        let check = Check::new(
            "replays",
            "each record that is said to have been replayed is in its topic once, where and as it was sent",
        );
        let known = facts.replays.iter().enumerate().map(|(index, replay)| (replay.id, index)).collect();
        Replays { facts, check, known, seen: vec![None; facts.replays.len()] }
    }

    /// Compares a record of an input topic, if a replay that is written down sent it.
    pub fn record(&mut self, slot: Slot, record: &Record<'_>) {
        let facts = self.facts;
        let id = record.header(ID).and_then(|id| id.parse::<Uuid>().ok());
        let Some(index) = id.and_then(|id| self.known.get(&id).copied()) else { return };
        let Some(replay) = facts.replays.get(index) else { return };
        let at = Coordinates { slot, offset: record.offset };
        if let Some(first) = self.seen[index].replace(at) {
            return self.check.differs(|| {
                format!(
                    "{}: its replay is in the topic twice, as {} and {}",
                    told(facts, replay),
                    facts.shown(first),
                    facts.shown(at)
                )
            });
        }
        let problem = match () {
            () if slot != replay.of.slot => Some("is in another partition".to_owned()),
            () if replay.sent_offset.is_some_and(|offset| offset != record.offset) => {
                Some(format!("is said to be at offset {}", replay.sent_offset.unwrap_or(-1)))
            }
            () if replay.value != record.value.map(Digest::of) => {
                Some("has another value than was sent".to_owned())
            }
            () => None,
        };
        self.check
            .item(problem.map(|p| format!("{}: its replay ({}) {p}", told(facts, replay), facts.shown(at))));
    }

    /// Ends the comparison. `from` is, per partition, the first offset that its topic still had.
    pub fn finish(mut self, from: &[i64]) -> Check {
        let facts = self.facts;
        for (replay, seen) in facts.replays.iter().zip(&self.seen) {
            let Some(offset) = replay.sent_offset.filter(|_| seen.is_none()) else { continue };
            let begins = from.get(usize::from(replay.of.slot.0)).copied().unwrap_or(0);
            if offset >= begins && offset < facts.progress(replay.of.slot).next_offset {
                self.check.differs(|| {
                    format!(
                        "{}: its replay is said to be at offset {offset}, and is not there",
                        told(facts, replay)
                    )
                });
            }
        }
        self.check
    }
}

fn told(facts: &Facts, replay: &Replay) -> String {
    facts.shown(replay.of)
}
