//! What became of records: held against the log, the ledger, `dlq` and the progress.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::FromRow;

use super::records::{Coordinates, Record};
use super::{Read, World};

/// What is expected of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Applied,
    Duplicate,
    Rejected(&'static str),
    /// It waits for its order, without a trace elsewhere.
    Parked,
}

/// A row of `events_log`.
#[derive(Debug, FromRow)]
pub struct Logged {
    pub topic: String,
    pub partition: i32,
    #[sqlx(rename = "offset")]
    pub offset: i64,
    pub status: String,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub raw_event: Option<Vec<u8>>,
    pub redacted: bool,
    pub record_key: Option<Vec<u8>>,
}

/// A line that a record wrote.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Line {
    pub product_id: String,
    pub location_id: String,
    pub kind: String,
    pub quantity: i64,
    pub delta: Option<i64>,
    pub version: Option<i64>,
    pub quantity_after: Option<i64>,
    pub stock_status: Option<String>,
    topic: String,
    partition: i32,
    #[sqlx(rename = "offset")]
    offset: i64,
}

/// A row of `partition_progress`.
#[derive(Debug, FromRow)]
pub struct Progress {
    pub topic: String,
    pub partition: i32,
    pub start_offset: i64,
    pub next_offset: i64,
    pub applied: i64,
    pub duplicates: i64,
    pub rejected: i64,
    pub parked: i64,
}

/// All there is, by the input record's coordinates.
pub struct Fates {
    pub logged: BTreeMap<Coordinates, Vec<Logged>>,
    pub lines: BTreeMap<Coordinates, Vec<Line>>,
    pub dlq: BTreeMap<Coordinates, Vec<Read>>,
    pub updates: BTreeMap<Coordinates, Vec<Value>>,
    pub progress: Vec<Progress>,
    pub parked: Vec<Coordinates>,
}

impl Fates {
    pub async fn read(world: &World) -> Fates {
        let logged = "SELECT topic, partition, \"offset\", status, reason, detail, raw_event, redacted, record_key FROM events_log";
        let logged: Vec<Logged> = sqlx::query_as(logged).fetch_all(&world.database).await.unwrap();
        let lines =
            "SELECT product_id, location_id, kind, quantity, delta, version, quantity_after, stock_status,
                source AS topic, partition, \"offset\" FROM orders
            UNION ALL
            SELECT product_id, location_id, kind, quantity, delta, version, quantity_after, stock_status,
                source, partition, \"offset\" FROM restock_lines";
        let lines: Vec<Line> = sqlx::query_as(lines).fetch_all(&world.database).await.unwrap();
        let progress = "SELECT topic, partition, start_offset, next_offset, applied, duplicates, rejected, parked FROM partition_progress";
        let progress = sqlx::query_as(progress).fetch_all(&world.database).await.unwrap();
        let parked = "SELECT 'payments', partition, \"offset\" FROM parked_payments";
        let parked = sqlx::query_as(parked).fetch_all(&world.database).await.unwrap();
        let dlq = world.read("dlq").into_iter().map(|read| (origin(&read, "__connect.errors"), read));
        let updates = world.read("inventory_updates");
        let updates = updates.into_iter().map(|read| (origin(&read, "stocktide.source"), read.json()));
        Fates {
            logged: by(logged.into_iter().map(|row| ((row.topic.clone(), row.partition, row.offset), row))),
            lines: by(lines
                .into_iter()
                .map(|line| ((line.topic.clone(), line.partition, line.offset), line))),
            dlq: by(dlq),
            updates: by(updates),
            progress,
            parked,
        }
    }

    pub fn lines_of(&self, at: &Coordinates) -> &[Line] {
        self.lines.get(at).map_or(&[], Vec::as_slice)
    }

    pub fn updates_of(&self, at: &Coordinates) -> &[Value] {
        self.updates.get(at).map_or(&[], Vec::as_slice)
    }

    /// The record's only copy in `dlq`.
    pub fn dead_letter(&self, at: &Coordinates) -> &Read {
        let copies = self.dlq.get(at).map_or(&[][..], Vec::as_slice);
        assert_eq!(copies.len(), 1, "copies of {at:?} in dlq");
        &copies[0]
    }

    /// Asserts a record's fate, and that there is no trace of another.
    pub fn check(&self, (record, at): &(Record, Coordinates), expected: Fate) {
        let logged = self.logged.get(at).map_or(&[][..], Vec::as_slice);
        let found: Vec<_> = logged.iter().map(|row| (row.status.as_str(), row.reason.as_deref())).collect();
        let detail = || format!("{at:?}: {:?}", logged.iter().map(|row| &row.detail).collect::<Vec<_>>());
        match expected {
            Fate::Applied => {
                assert_eq!(found, [("applied", None)], "{}", detail());
                assert_eq!(logged[0].raw_event, record.value, "the log has what was sent");
                assert!(!logged[0].redacted && !self.dlq.contains_key(at));
            }
            Fate::Duplicate => assert!(
                logged.is_empty() && !self.dlq.contains_key(at) && self.lines_of(at).is_empty(),
                "a duplicate is only counted: {}",
                detail()
            ),
            Fate::Parked => {
                assert!(
                    logged.is_empty() && !self.dlq.contains_key(at) && self.parked.contains(at),
                    "{at:?} waits"
                );
            }
            Fate::Rejected(reason) => {
                assert_eq!(found, [("rejected", Some(reason))], "{}", detail());
                assert!(
                    self.lines_of(at).is_empty() && self.updates_of(at).is_empty(),
                    "a reject has no effect"
                );
                self.check_rejected(record, at, &logged[0], reason);
            }
        }
    }

    fn check_rejected(&self, record: &Record, at: &Coordinates, logged: &Logged, reason: &str) {
        let kept = |bytes: &Vec<u8>| record.kept(bytes);
        let (key, value) = (record.key.as_ref().map(kept), record.value.as_ref().map(kept));
        assert!(logged.raw_event == value && logged.record_key == key, "the log has the record's bytes");
        assert_eq!(logged.redacted, record.is_masked());
        let detail = logged.detail.as_deref().unwrap();
        assert!(!detail.is_empty() && detail.len() <= 512, "{detail}");

        let dead = self.dead_letter(at);
        let text = |name: &str| dead.header(name);
        let cut = text("stocktide.truncated");
        assert_eq!(dead.key, key);
        match (&cut, &dead.value, &value) {
            (None, dead, value) => assert!(dead == value, "dlq has the record's bytes"),
            (Some(full), Some(dead), Some(value)) => {
                assert!(
                    *full == value.len().to_string() && dead.len() < value.len() && value.starts_with(dead)
                );
            }
            _ => panic!("{at:?}: nothing cannot be cut"),
        }
        let original = record.headers.iter().map(|(name, value)| {
            (String::from_utf8_lossy(name).into_owned(), value.as_ref().map(|value| record.kept(value)))
        });
        let original: Vec<_> = original.collect();
        assert_eq!(
            dead.headers[..original.len()],
            original,
            "the original headers come first, in their order"
        );
        let told = |name: &str| text(&format!("__connect.errors.{name}")).unwrap_or_default();
        assert_eq!(
            (told("topic"), told("partition"), told("offset")),
            (at.0.clone(), at.1.to_string(), at.2.to_string())
        );
        assert_eq!(told("stage"), "TRANSFORMATION");
        assert_eq!(told("exception.class.name"), format!("stocktide.{reason}"));
        assert_eq!(told("exception.message"), detail);
        assert_eq!(text("stocktide.reason").as_deref(), Some(reason));
        assert_eq!(text("stocktide.redacted").is_some(), record.is_masked());
        let own = 7 + usize::from(record.is_masked()) + usize::from(cut.is_some());
        assert_eq!(dead.headers.len(), original.len() + own, "no further headers: {:?}", dead.headers);
    }

    /// Per partition: what was sent met as many fates, of which the log has the applied and the rejected ones.
    pub fn check_sums<'a>(&self, sent: impl Iterator<Item = &'a Coordinates>) {
        let mut expected: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for (topic, partition, _) in sent {
            *expected.entry((topic.clone(), *partition)).or_default() += 1;
        }
        for row in &self.progress {
            let sent = expected.remove(&(row.topic.clone(), row.partition)).unwrap_or(0);
            assert_eq!(
                row.applied + row.duplicates + row.rejected + row.parked,
                sent,
                "consumed = sent: {row:?}"
            );
            assert_eq!(row.next_offset - row.start_offset, sent, "{row:?}");
            let logged = self
                .logged
                .values()
                .flatten()
                .filter(|l| (&l.topic, l.partition) == (&row.topic, row.partition));
            let (applied, rejected): (Vec<_>, Vec<_>) = logged.partition(|l| l.status == "applied");
            assert_eq!((applied.len() as i64, rejected.len() as i64), (row.applied, row.rejected), "{row:?}");
        }
        assert!(expected.is_empty(), "partitions without progress: {expected:?}");
    }
}

fn origin(read: &Read, prefix: &str) -> Coordinates {
    let of = |name: &str| read.header(&format!("{prefix}.{name}")).unwrap();
    (of("topic"), of("partition").parse().unwrap(), of("offset").parse().unwrap())
}

fn by<K: Ord, V>(pairs: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut map: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in pairs {
        map.entry(key).or_default().push(value);
    }
    map
}
