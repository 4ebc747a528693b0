//! The verification from its first query to its report.

use anyhow::Context;
use tokio::runtime::Handle;

use crate::VerifyOptions;
use crate::checks::{
    dlq, fates, forgotten, lines, offsets, orders, payments, rejects, replays, rollups, stock, updates,
};
use crate::database::{self, Position, Snapshot};
use crate::digest::Digest;
use crate::facts::{Coordinates, Facts, LogRow, Partition, Slot};
use crate::movements::Movements;
use crate::record::Record;
use crate::report::{Check, Report};
use crate::settle::{self, Observed};
use crate::topics::{Span, Topics};

/// Where the raw data come from that are too many to be held: the topics, and the bytes in the log.
pub trait Raw {
    /// Reads spans of a topic in read_committed, each partition in its order.
    fn read(&mut self, topic: &str, spans: &[Span], each: &mut dyn FnMut(&Record<'_>)) -> anyhow::Result<()>;

    /// Reads, from the log, the applied records of a partition below an offset, with their offsets.
    fn applied_below(
        &mut self,
        of: &Partition,
        offset: i64,
        each: &mut dyn FnMut(i64, &[u8]),
    ) -> anyhow::Result<()>;

    /// The digest of the first bytes of a record in the log, and its whole length.
    fn beginning(
        &mut self,
        facts: &Facts,
        at: Coordinates,
        bytes: i64,
    ) -> anyhow::Result<(Option<Digest>, i64)>;

    /// Before when (microseconds since 1970) the records of a topic may have aged out; none where it keeps all.
    fn aged_before(&mut self, topic: &str) -> anyhow::Result<Option<i64>>;

    /// How far the input partitions are now.
    fn positions_now(&mut self) -> anyhow::Result<Vec<Position>>;
}

/// Verifies an installation; blocks the thread.
pub fn verify(options: &VerifyOptions, runtime: &Handle) -> anyhow::Result<Report> {
    let step = &*options.on_step;
    let topics = Topics::new(&options.kafka, &options.group)?;
    let mut snapshot = runtime.block_on(Snapshot::open(&options.database_url))?;
    let mut facts = runtime.block_on(snapshot.progress())?;

    step("waiting until all that is applied is published");
    let observed = settle::wait(&topics, &facts, options.wait)?;
    // K was read before: P may only have moved on since, so a K beyond it is wrong for certain.
    let now = runtime.block_on(database::positions_now(&options.database_url))?;

    step("reading the database");
    runtime.block_on(snapshot.load(&mut facts))?;
    facts.catalogue.is_unchanged = options.catalogue_is_unchanged;
    let mut raw = Live { topics, snapshot, url: &options.database_url, runtime };
    let (mut checks, mut notes) = compare(&facts, &observed, &mut raw, step)?;
    let (check, waiting) = offsets_check(&facts, &observed, &now);
    checks.push(check);
    notes.extend(waiting);
    Ok(Report::new(checks, notes))
}

struct Live<'r> {
    topics: Topics,
    snapshot: Snapshot,
    url: &'r str,
    runtime: &'r Handle,
}

impl Raw for Live<'_> {
    fn read(&mut self, topic: &str, spans: &[Span], each: &mut dyn FnMut(&Record<'_>)) -> anyhow::Result<()> {
        self.topics.read(topic, spans, each)
    }

    fn applied_below(
        &mut self,
        of: &Partition,
        offset: i64,
        each: &mut dyn FnMut(i64, &[u8]),
    ) -> anyhow::Result<()> {
        let gone = self.snapshot.applied_below(&of.topic, of.partition, offset, each);
        self.runtime.block_on(gone).with_context(|| format!("the log of {of}"))
    }

    fn beginning(
        &mut self,
        facts: &Facts,
        at: Coordinates,
        bytes: i64,
    ) -> anyhow::Result<(Option<Digest>, i64)> {
        self.runtime.block_on(self.snapshot.beginning(facts, at, bytes))
    }

    fn aged_before(&mut self, topic: &str) -> anyhow::Result<Option<i64>> {
        self.runtime.block_on(self.topics.aged_before(topic))
    }

    fn positions_now(&mut self) -> anyhow::Result<Vec<Position>> {
        self.runtime.block_on(database::positions_now(self.url))
    }
}

/// Compares the database with the topics: every check but the one of the offsets, and what could not be checked.
pub fn compare(
    facts: &Facts,
    observed: &Observed,
    raw: &mut dyn Raw,
    step: &dyn Fn(&str),
) -> anyhow::Result<(Vec<Check>, Vec<String>)> {
    let Inputs { settled, events, paid, replayed, deserved } = inputs(facts, observed, raw, step)?;
    let (mut checks, mut notes) = (settled.checks, settled.notes);
    notes.extend(deserved.1);
    checks.push(deserved.0);
    step("comparing the ledger");
    let movements = Movements::of(facts);
    checks.push(fates::by_day(facts));
    checks.push(fates::applied_once(facts));
    checks.extend(events);
    checks.extend(orders::check(facts));
    checks.extend(stock::check(facts, &movements));
    checks.extend(rollups::check(facts));
    checks.extend(paid);
    let (check, waiting) = payments::check(facts);
    checks.extend(check);
    notes.extend(waiting);
    checks.push(replayed);
    let (check, erased) = forgotten::check(facts);
    checks.push(check);
    notes.extend(erased);

    step("reading inventory_updates");
    let mut updates = updates::Updates::new(facts, &movements);
    let aged_until = outputs(observed, raw, updates::TOPIC, |record| updates.record(record))?;
    let (check, excused) = updates.finish(&absent(facts, observed, aged_until), &raw.positions_now()?);
    checks.push(check);
    notes.extend(excused_note(updates::TOPIC, excused));

    step("reading dlq");
    let mut dlq = dlq::Dlq::new(facts, &settled.rejects);
    let aged_until = outputs(observed, raw, dlq::TOPIC, |record| dlq.record(record))?;
    for cut in dlq.cut() {
        let (beginning, length) = raw.beginning(facts, cut.at, cut.kept)?;
        dlq.settle_cut(&cut, beginning, length);
    }
    let (check, excused) = dlq.finish(&absent(facts, observed, aged_until), &raw.positions_now()?);
    checks.push(check);
    notes.extend(excused_note(dlq::TOPIC, excused));
    Ok((checks, notes))
}

/// What the input topics said.
struct Inputs {
    settled: fates::Settled,
    events: Vec<Check>,
    paid: Vec<Check>,
    replayed: Check,
    deserved: (Check, Vec<String>),
}

/// Compares the input topics with the log and the ledger; where a topic has lost its beginning, the log stands in for it.
fn inputs(
    facts: &Facts,
    observed: &Observed,
    raw: &mut dyn Raw,
    step: &dyn Fn(&str),
) -> anyhow::Result<Inputs> {
    let mut fates = fates::Fates::new(facts);
    let mut events = lines::Events::new(facts);
    let mut paid = payments::Events::new(facts);
    let mut replayed = replays::Replays::new(facts);
    let mut rejects = rejects::Rejects::new(facts);
    let mut applied = |row: &LogRow, value: &[u8]| match facts.source(row.at.slot) {
        Some(source) => events.applied(row, source, value),
        None if facts.is_of_payments(row.at.slot) => paid.applied(row, value),
        None => {}
    };
    // Partitions that only rows speak of come after those that the broker was asked for, and are not read.
    let known: Vec<(Slot, &Partition, i64)> = (facts
        .all_slots()
        .zip(&facts.partitions)
        .zip(&observed.inputs))
    .map(|((slot, partition), extent)| (slot, partition, extent.low.max(facts.progress(slot).start_offset)))
    .collect();
    for partitions in known.chunk_by(|a, b| a.1.topic == b.1.topic) {
        let topic = &*partitions[0].1.topic;
        step(&format!("reading {topic}"));
        let spans: Vec<Span> = partitions
            .iter()
            .map(|(slot, p, from)| Span {
                partition: p.partition,
                from: *from,
                to: facts.progress(*slot).next_offset,
            })
            .collect();
        raw.read(topic, &spans, &mut |record| {
            let Some(slot) = facts.find_slot(topic, record.partition) else { return };
            replayed.record(slot, record);
            let row = fates.record(slot, record);
            rejects.record(slot, record, row);
            if let (Some(row), Some(value)) = (row.filter(|row| row.applied), record.value) {
                applied(row, value);
            }
        })?;
    }
    for (slot, partition, from) in &known {
        if *from <= facts.progress(*slot).start_offset {
            continue;
        }
        raw.applied_below(partition, *from, &mut |offset, value| {
            let row =
                facts.log_index(Coordinates { slot: *slot, offset }).and_then(|index| facts.log.get(index));
            if let Some(row) = row.filter(|row| row.applied) {
                applied(row, value);
            }
        })?;
    }
    let from: Vec<i64> = known.into_iter().map(|(_, _, from)| from).collect();
    let complete = facts.log_is_complete();
    Ok(Inputs {
        settled: fates.finish(&from),
        events: events.finish(complete),
        paid: paid.finish(),
        replayed: replayed.finish(&from),
        deserved: rejects.finish(),
    })
}

/// Reads an output topic. Where partitions have lost their beginning by the topic's own retention, returns until when that
/// may reach: the latest of their first remaining records. What else is gone was taken away, and is missed.
fn outputs(
    observed: &Observed,
    raw: &mut dyn Raw,
    topic: &str,
    mut each: impl FnMut(&Record<'_>) -> Option<i64>,
) -> anyhow::Result<Option<i64>> {
    let partitions = observed.outputs.iter().filter(|output| output.topic == topic);
    let spans: Vec<Span> = partitions
        .clone()
        .map(|output| Span { partition: output.partition, from: output.extent.low, to: output.extent.stable })
        .collect();
    let mut begins: Vec<(i32, Option<i64>)> =
        partitions.filter(|output| output.extent.low > 0).map(|output| (output.partition, None)).collect();
    raw.read(topic, &spans, &mut |record| {
        let processed_at = each(record);
        let first =
            begins.iter_mut().find(|(partition, first)| *partition == record.partition && first.is_none());
        if let (Some((_, first)), Some(_)) = (first, processed_at) {
            *first = processed_at;
        }
    })?;
    // Of a partition that is empty now, nothing says until when.
    let gone_until = begins.into_iter().map(|(_, first)| first.unwrap_or(i64::MAX)).max();
    let Some(gone_until) = gone_until else { return Ok(None) };
    Ok(raw.aged_before(topic)?.map(|aged| aged.min(gone_until)))
}

fn absent(facts: &Facts, observed: &Observed, aged_until: Option<i64>) -> updates::Absent {
    let published = facts.all_slots().zip(&observed.committed);
    let published = published
        .map(|(slot, k)| k.map_or(facts.progress(slot).start_offset, |committed| committed.offset))
        .collect();
    let timers = observed.committed.iter().map(|k| k.and_then(|k| k.number).unwrap_or(0)).collect();
    updates::Absent { published, timers, aged_until }
}

fn excused_note(topic: &str, excused: u64) -> Option<String> {
    let words = format!(
        "{topic}: {excused} records are not there and were not missed: not yet published, or aged out"
    );
    (excused > 0).then_some(words)
}

fn offsets_check(facts: &Facts, observed: &Observed, now: &[Position]) -> (Check, Vec<String>) {
    let inputs: Vec<offsets::Input> = (facts.all_slots().zip(&facts.partitions))
        .zip(observed.committed.iter().zip(&observed.inputs))
        .map(|((slot, partition), (committed, extent))| {
            let now = now.iter().find(|p| (&p.topic, p.partition) == (&partition.topic, partition.partition));
            let progress = facts.progress(slot);
            offsets::Input {
                name: partition.to_string(),
                progress,
                next_offset_now: now.map_or(progress.next_offset, |now| now.next_offset),
                timer_seq_now: now.map_or(progress.timer_seq, |now| now.timer_seq),
                committed: committed.map(|committed| committed.offset),
                number: committed.and_then(|committed| committed.number),
                low: extent.low,
                end: extent.end,
            }
        })
        .collect();
    let outputs: Vec<offsets::Output> =
        observed.outputs.iter().map(settle::OutputExtent::as_output).collect();
    offsets::check(&inputs, &outputs)
}
