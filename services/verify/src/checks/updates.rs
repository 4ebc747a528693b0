//! `inventory_updates`, in read_committed: exactly the ledger's movements, each once.

use std::borrow::Cow;

use chrono::DateTime;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use uuid::Uuid;

use crate::database::Position;
use crate::facts::{Coordinates, Facts, Slot};
use crate::movements::{Movement, Movements};
use crate::record::Record;
use crate::report::Check;

/// The output topic.
pub const TOPIC: &str = "inventory_updates";
/// The headers that name the input record.
const ORIGIN: [&str; 3] = ["stocktide.source.topic", "stocktide.source.partition", "stocktide.source.offset"];

/// The value of a record, field by field.
#[derive(Deserialize)]
struct Update<'a> {
    event_id: Uuid,
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    location_id: Cow<'a, str>,
    delta: i64,
    quantity_on_hand: i64,
    version: i64,
    #[serde(borrow)]
    stock_status: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    processed_at: Cow<'a, str>,
}

/// Compares published records with the movements, one at a time.
#[derive(Debug)]
pub struct Updates<'f> {
    facts: &'f Facts,
    movements: &'f Movements,
    check: Check,
    /// Per movement, whether its record came by.
    seen: Vec<bool>,
    beyond: Beyond,
}

/// Outputs of records that were settled after the database was read: per input partition the farthest one, and where it stands.
#[derive(Debug, Default)]
pub struct Beyond(FxHashMap<Slot, (i64, String)>);

impl Beyond {
    /// Takes note of an output.
    pub fn add(&mut self, of: Coordinates, place: String) {
        let farthest = self.0.entry(of.slot).or_insert((of.offset, String::new()));
        if farthest.0 <= of.offset {
            *farthest = (of.offset, place);
        }
    }

    /// Says which of them come from no record that is settled by `now`: topic, partition and next offset, read after the outputs
    /// were. Nothing is put out before it is committed.
    pub fn judge(self, facts: &Facts, now: &[Position], check: &mut Check) {
        let mut farthest: Vec<_> = self.0.into_iter().collect();
        farthest.sort_unstable();
        for (slot, (offset, place)) in farthest {
            let Some(partition) = facts.partition(slot) else { continue };
            let settled = now.iter().any(|p| {
                (&p.topic, p.partition) == (&partition.topic, partition.partition) && offset < p.next_offset
            });
            check
                .expect(settled, || format!("{partition}@{offset}: is not settled, yet {place} comes of it"));
        }
    }
}

/// What a reader of an output topic cannot expect to find in it.
#[derive(Debug, Clone, Default)]
pub struct Absent {
    /// Per input partition, the offset below which everything is published.
    pub published: Vec<i64>,
    /// Per input partition, the number up to which what its timer put out is published.
    pub timers: Vec<i64>,
    /// What was processed until then (microseconds since 1970) may have aged out of the topic.
    pub aged_until: Option<i64>,
}

impl Absent {
    /// Whether the outcome of a record need not be there.
    pub fn excuses(&self, at: Coordinates, processed_at: i64) -> bool {
        let waits =
            self.published.get(usize::from(at.slot.0)).is_some_and(|published| at.offset >= *published);
        waits || self.aged_until.is_some_and(|until| processed_at <= until)
    }
}

impl<'f> Updates<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts, movements: &'f Movements) -> Updates<'f> {
        let check =
            Check::new(TOPIC, "inventory_updates holds each change of the ledger once, with its figures");
        Updates {
            facts,
            movements,
            check,
            seen: vec![false; movements.all().len()],
            beyond: Beyond::default(),
        }
    }

    /// Compares a record; returns when its event was processed, where it belongs to the ledger.
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
        let update: Update<'_> = match record.value.map(serde_json::from_slice) {
            Some(Ok(update)) => update,
            Some(Err(why)) => {
                self.check.differs(|| format!("{}: {why}", place()));
                return None;
            }
            None => {
                self.check.differs(|| format!("{}: has no value", place()));
                return None;
            }
        };
        let told = || format!("{}@{} version {}", update.product_id, update.location_id, update.version);
        let Some(index) = self.find(&update) else {
            self.check.differs(|| {
                format!(
                    "{} (event {}): published as {}, but not in the ledger",
                    told(),
                    update.event_id,
                    place()
                )
            });
            return None;
        };
        let movement = self.movements.all().get(index)?;
        let problem = if std::mem::replace(&mut self.seen[index], true) {
            Some(format!("published more than once, again as {}", place()))
        } else {
            difference(facts, movement, at, &update, record)
        };
        self.check.item(problem.map(|problem| format!("{}: {problem}", told())));
        Some(movement.processed_at)
    }

    fn find(&self, update: &Update<'_>) -> Option<usize> {
        let row = (self.facts.names.find(&update.product_id)?, self.facts.names.find(&update.location_id)?);
        self.movements.find(row, update.version, update.event_id)
    }

    /// Ends the comparison: what was never published differs, unless it is excused. The number of excused ones, too.
    pub fn finish(mut self, absent: &Absent, now: &[Position]) -> (Check, u64) {
        let facts = self.facts;
        self.beyond.judge(facts, now, &mut self.check);
        let mut excused = 0;
        for (movement, _) in self.movements.all().iter().zip(&self.seen).filter(|(_, seen)| !**seen) {
            if absent.excuses(movement.at, movement.processed_at) {
                excused += 1;
                continue;
            }
            self.check.differs(|| {
                let (row, record) = (facts.shown_stock(movement.row), facts.shown(movement.at));
                format!(
                    "{row} version {}: not published (event {}, {record})",
                    movement.result.version, movement.event
                )
            });
        }
        (self.check, excused)
    }
}

/// The input record that three headers name: its topic, its partition, its offset.
pub fn source_of(
    facts: &Facts,
    record: &Record<'_>,
    [topic, partition, offset]: [&str; 3],
) -> Option<Coordinates> {
    let topic = record.header(topic)?;
    let partition = i32::try_from(record.number(partition)?).ok()?;
    let offset = record.number(offset)?;
    Some(Coordinates { slot: facts.find_slot(topic, partition)?, offset })
}

/// The first field that is not the movement's.
fn difference(
    facts: &Facts,
    movement: &Movement,
    at: Coordinates,
    update: &Update<'_>,
    record: &Record<'_>,
) -> Option<String> {
    let result = &movement.result;
    let source = facts.partition(movement.at.slot).map_or("?", |partition| &partition.topic);
    let says = |field: &str, ledger: &dyn std::fmt::Display, topic: &dyn std::fmt::Display| {
        Some(format!("{field}: ledger says {ledger}, the topic {topic}"))
    };
    let moment = DateTime::parse_from_rfc3339(&update.processed_at).ok().map(|at| at.timestamp_micros());
    match () {
        () if update.delta != result.delta => says("delta", &result.delta, &update.delta),
        () if update.quantity_on_hand != result.quantity_after => {
            says("quantity_on_hand", &result.quantity_after, &update.quantity_on_hand)
        }
        () if update.stock_status != result.status.as_str() => {
            says("stock_status", &result.status.as_str(), &update.stock_status)
        }
        () if update.source != source => says("source", &source, &update.source),
        () if moment != Some(movement.processed_at) => {
            says("processed_at", &movement.processed_at, &update.processed_at)
        }
        () if record.key != Some(update.product_id.as_bytes()) => {
            Some("the key is not the product_id".to_owned())
        }
        () if at != movement.at => says("the headers' record", &facts.shown(movement.at), &facts.shown(at)),
        () => None,
    }
}
