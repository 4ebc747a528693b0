//! `dlq`, in read_committed: exactly the rejected records, each once, with their bytes and the reason.

use rustc_hash::FxHashMap;

use crate::checks::fates;
use crate::checks::updates::{Absent, Beyond, source_of};
use crate::database::Position;
use crate::digest::Digest;
use crate::facts::{Coordinates, Facts, LogRow};
use crate::record::{Fingerprint, Record};
use crate::report::Check;

/// The output topic.
pub const TOPIC: &str = "dlq";
/// The headers that name the input record, as Kafka Connect names them.
const ORIGIN: [&str; 3] = ["__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset"];
/// What Kafka Connect says of the error, beside.
const ERROR: [&str; 3] =
    ["__connect.errors.stage", "__connect.errors.exception.class.name", "__connect.errors.exception.message"];

/// Compares rejected records with the log, one at a time.
#[derive(Debug)]
pub struct Dlq<'f> {
    facts: &'f Facts,
    /// The rejected records as they stand in the input topics.
    originals: &'f FxHashMap<Coordinates, Fingerprint>,
    check: Check,
    /// Per log row, whether its record came by.
    seen: Vec<bool>,
    cut: Vec<Cut>,
    beyond: Beyond,
}

/// A value that was too large for the topic: its beginning is there, and how long it was.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The rejected record.
    pub at: Coordinates,
    /// Of the beginning.
    pub value: Option<Digest>,
    /// How many bytes the beginning has.
    pub kept: i64,
    /// How many bytes the whole is said to have had.
    pub whole: i64,
}

impl<'f> Dlq<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts, originals: &'f FxHashMap<Coordinates, Fingerprint>) -> Dlq<'f> {
        let check = Check::new(
            TOPIC,
            "dlq holds each rejected record once, with its bytes and its reason, and nothing else",
        );
        Dlq {
            facts,
            originals,
            check,
            seen: vec![false; facts.log.len()],
            cut: Vec::new(),
            beyond: Beyond::default(),
        }
    }

    /// Compares a record; returns when the original was processed, where the log knows it as rejected.
    pub fn record(&mut self, record: &Record<'_>) -> Option<i64> {
        let facts = self.facts;
        let place = || format!("{TOPIC}-{}@{}", record.partition, record.offset);
        let Some(at) = source_of(facts, record, ORIGIN) else {
            self.check.differs(|| format!("{}: its headers name no input record that is known", place()));
            return None;
        };
        if at.offset >= facts.progress(at.slot).next_offset {
            self.beyond.add(at, place());
            return None;
        }
        let row = facts
            .log_index(at)
            .and_then(|index| Some((index, facts.log.get(index)?)))
            .filter(|(_, row)| !row.applied);
        if row.is_none() && facts.parked_index(at).is_some() {
            // It still waited when the database was read: another run's business.
            return None;
        }
        let Some((index, row)) = row else {
            let aged = at.offset < facts.progress(at.slot).log_floor;
            self.check.expect(aged, || {
                format!("{}: is in dlq ({}), but was not rejected", facts.shown(at), place())
            });
            return None;
        };
        let problem = if std::mem::replace(&mut self.seen[index], true) {
            Some(format!("is in dlq more than once, again as {}", place()))
        } else {
            self.difference(row, record)
        };
        self.check.item(problem.map(|problem| format!("{}: {problem}", facts.shown(at))));
        Some(row.processed_at)
    }

    /// The first thing that is not as the log and the input topic have it.
    fn difference(&mut self, row: &LogRow, record: &Record<'_>) -> Option<String> {
        let facts = self.facts;
        if row.erased {
            // The log no longer says what it was, and where dlq was written after that, neither does dlq.
            return self.mislabelled(row, record);
        }
        // What is masked is compared as the log keeps it, all else as the topic does.
        let original = self.originals.get(&row.at).filter(|_| !row.redacted).copied();
        let original = original.or_else(|| fates::logged(facts, row))?;
        let print = record.fingerprint(original.header_count);
        let headers_kept = (print.header_count, print.headers) == (original.header_count, original.headers);
        // The record may have come with headers of an earlier rejection: only what was added to it counts.
        let added = Record {
            headers: record.headers[if headers_kept { original.header_count } else { 0 }..].to_vec(),
            ..*record
        };
        if let Some(problem) = self.mislabelled(row, &added) {
            return Some(problem);
        }
        let cut = added.number("stocktide.truncated");
        if let Some(whole) = cut {
            let kept = record.value.map_or(0, <[u8]>::len) as i64;
            self.cut.push(Cut { at: row.at, value: print.value, kept, whole });
        }
        // What is too large for the topic loses its value's end, and its key or headers where they alone are too large.
        match () {
            () if cut.is_none() && print.value != original.value => Some("dlq has another value".to_owned()),
            () if print.key != original.key && (cut.is_none() || record.key.is_some()) => {
                Some("dlq has another key".to_owned())
            }
            () if !headers_kept && cut.is_none() => Some("dlq has other headers".to_owned()),
            () => None,
        }
    }

    /// What is wrong with the headers that the rejection added.
    fn mislabelled(&self, row: &LogRow, added: &Record<'_>) -> Option<String> {
        let names = &self.facts.names;
        let reason = self.facts.rejections.get(&row.at).and_then(|rejection| rejection.reason);
        let reason = reason.map(|reason| names.text(reason));
        let given = added.header("stocktide.reason");
        if given != reason {
            let words = [given, reason].map(|word| word.unwrap_or("none"));
            return Some(format!("dlq gives the reason {}, the log {}", words[0], words[1]));
        }
        if let Some(name) = ERROR.into_iter().find(|name| added.header(name).is_none()) {
            return Some(format!("the header {name} is missing"));
        }
        let redacted = added.header("stocktide.redacted").is_some();
        (redacted != row.redacted)
            .then(|| format!("the log says redacted = {}, dlq {redacted}", row.redacted))
    }

    /// The values that were cut: what they are the beginning of must be looked up.
    pub fn cut(&mut self) -> Vec<Cut> {
        std::mem::take(&mut self.cut)
    }

    /// Says what came of looking up a value that was cut: the digest of its first bytes and its whole length.
    pub fn settle_cut(&mut self, cut: &Cut, beginning: Option<Digest>, length: i64) {
        let holds = cut.value == beginning && cut.whole == length && cut.kept <= length;
        if !holds {
            let place = self.facts.shown(cut.at);
            self.check.differs(|| {
                format!(
                    "{place}: dlq has {} bytes of {}, which is not how the log's {length} begin",
                    cut.kept, cut.whole
                )
            });
        }
    }

    /// Ends the comparison: what is not there differs, unless it is excused. The number of excused ones, too.
    pub fn finish(mut self, absent: &Absent, now: &[Position]) -> (Check, u64) {
        let facts = self.facts;
        std::mem::take(&mut self.beyond).judge(facts, now, &mut self.check);
        let mut excused = 0;
        let mut before = None;
        for (row, _) in facts.log.iter().zip(&self.seen).filter(|(row, seen)| !row.applied && !**seen) {
            // A row that is there twice is told elsewhere.
            if before.replace(row.at) == Some(row.at) {
                continue;
            }
            let published = absent.timers.get(usize::from(row.at.slot.0)).copied().unwrap_or(0);
            let waits = row.timer_seq.is_some_and(|number| number > published);
            if waits || absent.excuses(row.at, row.processed_at) {
                excused += 1;
                continue;
            }
            let reason = facts.rejections.get(&row.at).and_then(|rejection| rejection.reason);
            let reason = facts.names.shown(reason);
            self.check.differs(|| format!("{}: rejected ({reason}), but not in dlq", facts.shown(row.at)));
        }
        (self.check, excused)
    }
}
