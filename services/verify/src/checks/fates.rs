//! Every record meets one fate, once: the input topics against the log.

use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::digest::Digest;
use crate::event;
use crate::facts::{Coordinates, Facts, LogRow, Progress, Slot};
use crate::record::{Fingerprint, Record};
use crate::report::Check;

/// Compares records with the log, one at a time.
#[derive(Debug)]
pub struct Fates<'f> {
    facts: &'f Facts,
    fate: Check,
    bytes: Check,
    /// Per log row, whether its record came by.
    seen: Vec<bool>,
    /// Per payment that waits, whether its record came by.
    parked: Vec<bool>,
    /// Events that waited for their order in vain, ascending: while they did, a second record of one was a duplicate.
    in_vain: Vec<Uuid>,
    tallies: Vec<Tally>,
    rejects: FxHashMap<Coordinates, Fingerprint>,
}

/// What was found in a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Records that could be read.
    records: i64,
    /// Of those at or above the log's floor, the ones without a row, which do not wait either: duplicates.
    unlogged: i64,
}

/// What the records said.
#[derive(Debug)]
pub struct Settled {
    /// The checks of this family.
    pub checks: Vec<Check>,
    /// The rejected records, as they stand in the input topics.
    pub rejects: FxHashMap<Coordinates, Fingerprint>,
    /// What could not be checked.
    pub notes: Vec<String>,
}

impl<'f> Fates<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts) -> Fates<'f> {
        Fates {
            facts,
            fate: Check::new(
                "one_fate_per_record",
                "each input record is in the log once, or waits, or repeats an event that another record brought",
            ),
            bytes: Check::new(
                "log_bytes",
                "the log keeps each record's bytes, and of a reject its key and headers",
            ),
            seen: vec![false; facts.log.len()],
            parked: vec![false; facts.parked.len()],
            in_vain: in_vain(facts),
            tallies: vec![Tally::default(); facts.partitions.len()],
            rejects: FxHashMap::default(),
        }
    }

    /// Compares a record that lies within what is settled; returns its row, if it has one.
    pub fn record(&mut self, slot: Slot, record: &Record<'_>) -> Option<&'f LogRow> {
        let facts = self.facts;
        let at = Coordinates { slot, offset: record.offset };
        let tally = self.tallies.get_mut(usize::from(slot.0))?;
        tally.records += 1;
        if let Some(index) = facts.parked_index(at) {
            self.parked(index, record);
            return None;
        }
        let Some(index) = facts.log_index(at) else {
            if record.offset >= facts.progress(slot).log_floor {
                tally.unlogged += 1;
                self.unlogged(at, record);
            }
            return None;
        };
        self.seen[index] = true;
        self.fate.item(None);
        let row = facts.log.get(index)?;
        self.compare(row, record);
        Some(row)
    }

    /// A payment that waits: it has no row in the log, and its bytes are kept.
    fn parked(&mut self, index: usize, record: &Record<'_>) {
        let facts = self.facts;
        let Some(parked) = facts.parked.get(index) else { return };
        self.parked[index] = true;
        let logged = facts.log_index(parked.at).is_some();
        self.fate.expect(!logged, || format!("{}: waits, and is in the log, too", facts.shown(parked.at)));
        let differs = parked.print.differs(&record.fingerprint(usize::MAX)).filter(|_| !parked.redacted);
        self.bytes.item(
            differs.map(|part| {
                format!("{}: waits with another {part} than the topic has", facts.shown(parked.at))
            }),
        );
    }

    fn unlogged(&mut self, at: Coordinates, record: &Record<'_>) {
        let facts = self.facts;
        let event = record.value.and_then(event::event_id);
        let known = |event: &Uuid| {
            facts.applied.binary_search(event).is_ok() || self.in_vain.binary_search(event).is_ok()
        };
        if event.as_ref().is_some_and(known) {
            return self.fate.item(None);
        }
        let event =
            event.map_or_else(|| "it has no event_id".to_owned(), |id| format!("event {id} is not applied"));
        self.fate.differs(|| format!("{}: has no fate: it is not in the log, and {event}", facts.shown(at)));
    }

    fn compare(&mut self, row: &LogRow, record: &Record<'_>) {
        let facts = self.facts;
        let problem = if row.applied {
            (row.value != record.value.map(Digest::of)).then_some("value")
        } else {
            let print = record.fingerprint(usize::MAX);
            self.rejects.insert(row.at, print);
            logged(facts, row).and_then(|logged| logged.differs(&print))
        };
        // What is masked differs by design, and what a user was erased from.
        let problem = problem.filter(|_| !row.redacted && !row.erased);
        self.bytes.item(
            problem.map(|part| format!("{}: the log has another {part} than the topic", facts.shown(row.at))),
        );
    }

    /// Ends the comparison. `from` is, per partition, the first offset that its topic still had.
    pub fn finish(mut self, from: &[i64]) -> Settled {
        let facts = self.facts;
        self.unseen(from);
        let mut balance = Check::new(
            "fates_balance",
            "per input partition, the records are as many as were applied, duplicate, rejected and parked",
        );
        let mut rows: Vec<[i64; 2]> = vec![[0; 2]; facts.partitions.len()];
        for row in &facts.log {
            if let Some(counts) = rows.get_mut(usize::from(row.at.slot.0)) {
                counts[usize::from(!row.applied)] += 1;
            }
        }
        let mut notes = Vec::new();
        for (slot, partition) in facts.all_slots().zip(&facts.partitions) {
            let index = usize::from(slot.0);
            let Some(progress) = partition.progress else {
                balance.differs(|| format!("{partition}: the database speaks of it, but keeps no progress"));
                continue;
            };
            let from = from.get(index).copied().unwrap_or(0);
            let whole = from <= progress.start_offset;
            let waiting = facts.parked.iter().filter(|parked| parked.at.slot == slot).count() as i64;
            let problem = unbalanced(&progress, self.tallies[index], rows[index], waiting, whole);
            balance.item(problem.map(|problem| format!("{partition}: {problem}")));
            if !whole {
                let start = progress.start_offset;
                notes.push(format!(
                    "{partition} begins at {from}, the database at {start}: what is gone was checked from the log alone"
                ));
            }
            if !progress.log_is_complete() {
                notes.push(format!(
                    "{partition}: the log below {} may have aged out and was not missed",
                    progress.log_floor
                ));
            }
        }
        Settled { checks: vec![balance, self.fate, self.bytes], rejects: self.rejects, notes }
    }

    /// Rows of the log that are there twice, or that no record stands behind; payments that wait without a record.
    fn unseen(&mut self, from: &[i64]) {
        let facts = self.facts;
        for (parked, _) in facts.parked.iter().zip(&self.parked).filter(|(_, seen)| !**seen) {
            if from.get(usize::from(parked.at.slot.0)).is_some_and(|from| parked.at.offset >= *from) {
                self.fate.differs(|| format!("{}: waits, but is not in its topic", facts.shown(parked.at)));
            }
        }
        let mut before = None;
        for (index, row) in facts.log.iter().enumerate() {
            let (at, seen) = (row.at, self.seen[index]);
            if before.replace(at) == Some(at) {
                self.fate.differs(|| format!("{}: is in the log more than once", facts.shown(at)));
            } else if !facts.is_settled(at) {
                self.fate.differs(|| {
                    format!("{}: is in the log, but beyond what is said to be settled", facts.shown(at))
                });
            } else if !seen && from.get(usize::from(at.slot.0)).is_some_and(|from| at.offset >= *from) {
                self.fate.differs(|| format!("{}: is in the log, but not in its topic", facts.shown(at)));
            }
        }
    }
}

/// What the log says a rejected record is made of.
pub fn logged(facts: &Facts, row: &LogRow) -> Option<Fingerprint> {
    let rejection = facts.rejections.get(&row.at)?;
    Some(Fingerprint {
        key: rejection.key,
        value: row.value,
        header_count: rejection.header_count,
        headers: rejection.headers,
    })
}

/// What does not add up in a partition; `whole` says whether its topic still has every record.
fn unbalanced(
    progress: &Progress,
    tally: Tally,
    [applied, rejected]: [i64; 2],
    waiting: i64,
    whole: bool,
) -> Option<String> {
    let Progress { applied: said, duplicates, rejected: refused, parked, .. } = *progress;
    let sum = said + duplicates + refused + parked;
    if whole && tally.records != sum || tally.records > sum {
        return Some(format!(
            "{} records, {sum} fates ({said} applied, {duplicates} duplicate, {refused} rejected, {parked} parked)",
            tally.records
        ));
    }
    if waiting != parked {
        return Some(format!("{parked} are said to be parked, {waiting} wait"));
    }
    let logged = progress.log_is_complete();
    for (name, rows, count) in [("applied", applied, said), ("rejected", rejected, refused)] {
        if logged && rows != count || rows > count {
            return Some(format!("{count} are said to be {name}, the log has {rows}"));
        }
    }
    (whole && logged && tally.unlogged != duplicates || tally.unlogged > duplicates).then(|| {
        format!(
            "{} records are not in the log and do not wait, but {duplicates} are duplicate",
            tally.unlogged
        )
    })
}

/// Events that waited for their order until a timer rejected them, ascending.
fn in_vain(facts: &Facts) -> Vec<Uuid> {
    let rejected = facts.log.iter().filter(|row| row.timer_seq.is_some());
    let mut events: Vec<Uuid> = rejected.filter_map(|row| row.event).collect();
    events.sort_unstable();
    events
}

/// Each event_id was applied once, and the dedupe knows exactly those of the log.
pub fn applied_once(facts: &Facts) -> Check {
    let mut check = Check::new(
        "applied_once",
        "each event was applied by one record, or waits, and the dedupe knows exactly these",
    );
    let complete = facts.log_is_complete();
    let mut logged: Vec<(Uuid, Coordinates)> = facts
        .log
        .iter()
        .filter(|row| row.applied)
        .map(|row| (row.event.unwrap_or_default(), row.at))
        .chain(facts.parked.iter().map(|parked| (parked.event, parked.at)))
        .collect();
    logged.sort_unstable();
    for twice in facts.applied.windows(2).filter(|pair| pair[0] == pair[1]) {
        check.differs(|| format!("event {}: is in applied_events more than once", twice[0]));
    }
    let mut known = facts.applied.iter().copied().peekable();
    for rows in logged.chunk_by(|a, b| a.0 == b.0) {
        let (event, at) = rows[0];
        while let Some(missing) = known.next_if(|known| *known < event) {
            check.expect(!complete, || format!("event {missing}: is in applied_events, but not in the log"));
        }
        let deduped = known.next_if_eq(&event).is_some();
        while known.next_if_eq(&event).is_some() {}
        check.item(match rows {
            [_, second, ..] => Some(format!(
                "event {event}: applied twice, by {} and {}",
                facts.shown(at),
                facts.shown(second.1)
            )),
            _ if !deduped => {
                Some(format!("event {event} ({}): applied, but not in applied_events", facts.shown(at)))
            }
            _ => None,
        });
    }
    for missing in known {
        check.expect(!complete, || format!("event {missing}: is in applied_events, but not in the log"));
    }
    check
}

/// The counts of each day, which the daily reports show, add up to those of the progress.
pub fn by_day(facts: &Facts) -> Check {
    const NAMES: [&str; 4] = ["applied", "duplicate", "rejected", "parked"];
    let mut check = Check::new(
        "fates_by_day",
        "per input partition, the fates of all days add up to those of its progress",
    );
    for (slot, partition) in facts.all_slots().zip(&facts.partitions) {
        let Progress { applied, duplicates, rejected, parked, .. } = partition.progress.unwrap_or_default();
        let counts = [applied, duplicates, rejected, parked];
        let days = facts.days.get(&slot).copied().unwrap_or_default();
        let differing = NAMES.iter().zip(days).zip(counts).find(|((_, days), count)| days != count);
        check.item(differing.map(|((name, days), count)| {
            format!("{partition}: {count} are said to be {name}, the days add up to {days}")
        }));
    }
    check
}
