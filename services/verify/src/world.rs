//! A small installation in memory, as a right processor would have left it: what the tests then spoil.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod payments;
mod story;

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use serde_json::json;
use uuid::Uuid;

use crate::database::Position;
use crate::digest::Digest;
use crate::facts::{
    Coordinates, Facts, Header, Line, LineKind, LogRow, OrderStatus, Partition, Progress, Rejection, Source,
    StockResult, StockRow, StockStatus, TopUser,
};
use crate::names::Name;
use crate::record::Record;
use crate::report::Report;
use crate::settle::{Observed, OutputExtent};
use crate::topics::{Committed, Extent, Span};
use crate::verification::{self, Raw};

pub const PROCESSED_AT: i64 = 1_900_000_000_123_456;

/// A record with its bytes.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// An installation: the database, and partition 0 of each topic.
#[derive(Debug)]
pub struct World {
    pub facts: Facts,
    pub topics: BTreeMap<&'static str, Vec<Kept>>,
    /// Per topic, the first offset that is still there.
    pub low: BTreeMap<&'static str, i64>,
    /// Bytes that only the log has.
    pub logged: BTreeMap<(String, i64), Vec<u8>>,
    /// Before when records may have aged out of the output topics.
    pub aged_before: Option<i64>,
    /// How many more records of each partition are settled when the outputs have been read.
    pub ahead: i64,
    now: Vec<Position>,
}

/// A line as the tests write it down: line_no, product, quantity, price in ten-thousandths.
pub type Wanted<'a> = (i32, &'a str, i64, i64);

/// What an event is about, beside its lines.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub kind: LineKind,
    pub business_id: &'a str,
    pub original: Option<&'a str>,
    pub party: Option<&'a str>,
    pub location: &'a str,
    pub at: &'a str,
}

pub fn event_id(n: u128) -> Uuid {
    Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_0000_0000_0000 + n)
}

pub fn micros(at: &str) -> i64 {
    DateTime::parse_from_rfc3339(at).unwrap().timestamp_micros()
}

impl World {
    /// The only user's row in `top_users`.
    pub fn top_user(&mut self) -> &mut TopUser {
        self.facts.top_users.values_mut().next().unwrap()
    }

    fn open_stock(&mut self, product: &str, location: &str, opening: i64) {
        let (product, location) = (self.facts.names.intern(product), self.facts.names.intern(location));
        self.facts.stock.push(StockRow { product, location, on_hand: opening, version: 0, opening });
    }

    /// Adds a record to a topic and counts its fate.
    fn consume(
        &mut self,
        topic: &'static str,
        mut record: Kept,
        fate: impl FnOnce(&mut Progress),
    ) -> Coordinates {
        let records = self.topics.get_mut(topic).unwrap();
        record.offset = records.len() as i64;
        let slot = self.facts.slot(topic, 0);
        let at = Coordinates { slot, offset: record.offset };
        records.push(record);
        let progress = self.facts.partitions[usize::from(slot.0)].progress.as_mut().unwrap();
        progress.next_offset += 1;
        fate(progress);
        let fates = self.facts.days.entry(slot).or_default();
        *fates = [progress.applied, progress.duplicates, progress.rejected, progress.parked];
        at
    }

    /// Applies an event: its record, its row in the log, its lines, and what is published of it.
    fn apply(
        &mut self,
        topic: &'static str,
        n: u128,
        event: &serde_json::Value,
        about: About<'_>,
        wanted: &[Wanted<'_>],
    ) {
        let value = serde_json::to_vec(event).unwrap();
        let record =
            Kept { key: Some(about.business_id.into()), value: Some(value.clone()), ..Kept::default() };
        let at = self.consume(topic, record, |progress| progress.applied += 1);
        self.facts.log.push(LogRow {
            at,
            applied: true,
            event: Some(event_id(n)),
            value: Some(Digest::of(&value)),
            redacted: false,
            erased: false,
            processed_at: PROCESSED_AT,
            timer_seq: None,
        });
        self.logged.insert((topic.to_owned(), at.offset), value);
        self.facts.applied.push(event_id(n));
        let names = &mut self.facts.names;
        let mut lines: Vec<Line> = Vec::new();
        for &(line_no, product, quantity, price) in wanted {
            lines.push(Line {
                at,
                event: event_id(n),
                kind: about.kind,
                line_no,
                business_id: names.intern(about.business_id),
                original: about.original.map(|text| names.intern(text)),
                party: about.party.map(|text| names.intern(text)),
                product: names.intern(product),
                location: names.intern(about.location),
                quantity,
                price: Some(price),
                occurred_at: micros(about.at),
                processed_at: PROCESSED_AT,
                result: None,
            });
        }
        self.move_stock(topic, &mut lines);
        self.facts.lines.extend(lines);
    }

    fn move_stock(&mut self, topic: &'static str, lines: &mut [Line]) {
        let service = self.facts.names.find("POST");
        let mut rows: Vec<(Name, Name)> = lines
            .iter()
            .filter(|l| Some(l.product) != service && l.quantity != 0)
            .map(|l| (l.product, l.location))
            .collect();
        rows.dedup();
        for row in rows {
            let delta =
                lines.iter().filter(|l| (l.product, l.location) == row).map(Line::stock_delta).sum::<i64>();
            let stock =
                self.facts.stock.iter_mut().find(|stock| (stock.product, stock.location) == row).unwrap();
            stock.on_hand += delta;
            stock.version += 1;
            let status = match stock.on_hand {
                ..0 => StockStatus::Oversold,
                0 => StockStatus::Out,
                1..5 => StockStatus::Low,
                _ => StockStatus::InStock,
            };
            let result = StockResult { delta, quantity_after: stock.on_hand, version: stock.version, status };
            for line in lines.iter_mut().filter(|line| (line.product, line.location) == row) {
                line.result = Some(result);
            }
            self.publish(topic, lines[0], row, result);
        }
    }

    fn publish(&mut self, topic: &'static str, line: Line, row: (Name, Name), result: StockResult) {
        let names = &self.facts.names;
        let processed_at = DateTime::from_timestamp_micros(PROCESSED_AT)
            .unwrap()
            .to_rfc3339_opts(SecondsFormat::Micros, true);
        let update = json!({"event_id": line.event, "product_id": names.text(row.0), "location_id": names.text(row.1),
            "delta": result.delta, "quantity_on_hand": result.quantity_after, "version": result.version,
            "stock_status": result.status.as_str(), "source": topic, "processed_at": processed_at});
        let header =
            |name: &str, value: String| (format!("stocktide.source.{name}"), Some(value.into_bytes()));
        let headers = vec![
            header("topic", topic.to_owned()),
            header("partition", "0".to_owned()),
            header("offset", line.at.offset.to_string()),
        ];
        let record = Kept {
            key: Some(names.text(row.0).into()),
            value: Some(serde_json::to_vec(&update).unwrap()),
            headers,
            ..Kept::default()
        };
        self.add("inventory_updates", record);
    }

    /// Rejects a record: its row in the log, and what is in `dlq` of it.
    pub fn reject(&mut self, topic: &'static str, value: Option<&[u8]>, reason: &str) {
        let own = vec![("trace".to_owned(), Some(b"abc".to_vec())), ("empty".to_owned(), None)];
        let record = Kept {
            key: Some(b"key".to_vec()),
            value: value.map(Into::into),
            headers: own.clone(),
            offset: 0,
        };
        let at = self.consume(topic, record.clone(), |progress| progress.rejected += 1);
        self.facts.log.push(LogRow {
            at,
            applied: false,
            event: None,
            value: value.map(Digest::of),
            redacted: false,
            erased: false,
            processed_at: PROCESSED_AT,
            timer_seq: None,
        });
        self.bury(topic, at, record, reason);
    }

    /// What the log keeps of a rejected record beside its row, and what is in `dlq` of it.
    fn bury(&mut self, topic: &'static str, at: Coordinates, record: Kept, reason: &str) {
        let own = record.headers.clone();
        let rejection = Rejection {
            reason: Some(self.facts.names.intern(reason)),
            key: record.key.as_deref().map(Digest::of),
            headers: Digest::of_headers(own.iter().map(|(name, value)| (name.as_str(), value.as_deref()))),
            header_count: own.len(),
        };
        self.facts.rejections.insert(at, rejection);
        let mut dead = record;
        let added = [
            ("__connect.errors.topic", topic.to_owned()),
            ("__connect.errors.partition", "0".to_owned()),
            ("__connect.errors.offset", at.offset.to_string()),
            ("__connect.errors.stage", "VALUE_CONVERTER".to_owned()),
            ("__connect.errors.exception.class.name", "malformed_json".to_owned()),
            ("__connect.errors.exception.message", "no JSON".to_owned()),
            ("stocktide.reason", reason.to_owned()),
        ];
        dead.headers.extend(added.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))));
        self.add("dlq", dead);
    }

    /// Adds a record to an output topic.
    pub fn add(&mut self, topic: &'static str, mut record: Kept) {
        let records = self.topics.get_mut(topic).unwrap();
        record.offset = records.last().map_or(0, |last| last.offset + 1);
        records.push(record);
    }

    fn header(&mut self, n: u128, about: About<'_>, stated: Option<i64>, value: i64, status: OrderStatus) {
        let detailed = about.party.is_some();
        let header = Header {
            source: if about.location == "online" { Source::OnlineOrders } else { Source::StoreSales },
            order: self.facts.names.intern(about.business_id),
            user: about.party.map(|user| self.facts.names.intern(user)),
            location: self.facts.names.intern(about.location),
            address: detailed.then(|| Digest::of(b"1 High St")),
            payment_method: detailed.then(|| Digest::of(b"card")),
            stated_value: stated,
            order_value: value,
            value_mismatch: stated.is_some_and(|stated| stated != value),
            status,
            ordered_at: micros(about.at),
            event: event_id(n),
        };
        self.facts.add_header(header);
    }

    /// What a verification says of it.
    pub fn report(&mut self) -> Report {
        let extent = |world: &World, topic: &str| {
            let end = world.topics[topic].last().map_or(0, |last| last.offset + 1);
            Extent { low: world.low.get(topic).copied().unwrap_or(0), stable: end, end }
        };
        let inputs: Vec<_> = self.facts.partitions.iter().map(|p| extent(self, &p.topic)).collect();
        let outputs = ["inventory_updates", "dlq"]
            .map(|topic| OutputExtent { topic, partition: 0, extent: extent(self, topic) })
            .into();
        let committed = |progress: Progress| Committed {
            offset: progress.next_offset,
            number: (progress.timer_seq > 0).then_some(progress.timer_seq),
        };
        let committed = self.facts.partitions.iter().map(|p| p.progress.map(committed)).collect();
        let observed = Observed { committed, inputs, outputs };
        let facts = std::mem::replace(&mut self.facts, Facts::new(chrono_tz::UTC, ""));
        let position = |p: &Partition| Position {
            topic: p.topic.clone(),
            partition: p.partition,
            next_offset: p.progress.map_or(0, |progress| progress.next_offset + self.ahead),
            timer_seq: 0,
        };
        self.now = facts.partitions.iter().map(position).collect();
        let (checks, notes) = verification::compare(&facts, &observed, self, &|_| {}).unwrap();
        self.facts = facts;
        Report::new(checks, notes)
    }

    /// A line of the ledger.
    pub fn line(&mut self, topic: &str, offset: i64, line_no: i32) -> &mut Line {
        let slot = self.facts.find_slot(topic, 0).unwrap();
        let at = Coordinates { slot, offset };
        self.facts.lines.iter_mut().find(|line| line.at == at && line.line_no == line_no).unwrap()
    }

    /// The progress of a topic's partition.
    pub fn progress(&mut self, topic: &str) -> &mut Progress {
        self.facts.partitions.iter_mut().find(|p| p.topic == topic).and_then(|p| p.progress.as_mut()).unwrap()
    }
}

impl Raw for World {
    fn aged_before(&mut self, _topic: &str) -> anyhow::Result<Option<i64>> {
        Ok(self.aged_before)
    }

    fn positions_now(&mut self) -> anyhow::Result<Vec<Position>> {
        Ok(self.now.clone())
    }

    fn read(&mut self, topic: &str, spans: &[Span], each: &mut dyn FnMut(&Record<'_>)) -> anyhow::Result<()> {
        for span in spans {
            for kept in self.topics[topic].iter().filter(|kept| (span.from..span.to).contains(&kept.offset)) {
                let headers = kept
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.as_deref()))
                    .collect();
                let (key, value) = (kept.key.as_deref(), kept.value.as_deref());
                each(&Record { partition: span.partition, offset: kept.offset, key, value, headers });
            }
        }
        Ok(())
    }

    fn applied_below(
        &mut self,
        of: &Partition,
        offset: i64,
        each: &mut dyn FnMut(i64, &[u8]),
    ) -> anyhow::Result<()> {
        for ((topic, at), value) in &self.logged {
            if *topic == of.topic && *at < offset {
                each(*at, value);
            }
        }
        Ok(())
    }

    fn beginning(
        &mut self,
        facts: &Facts,
        at: Coordinates,
        bytes: i64,
    ) -> anyhow::Result<(Option<Digest>, i64)> {
        let topic = &facts.partition(at.slot).unwrap().topic;
        let kept = self.topics[topic.as_str()].iter().find(|kept| kept.offset == at.offset).unwrap();
        let value = kept.value.as_deref().unwrap();
        Ok((Some(Digest::of(&value[..bytes as usize])), value.len() as i64))
    }
}
