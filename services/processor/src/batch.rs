//! Records on their way from the consumer to the database.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use sha2::{Digest, Sha256};
use stocktide_domain::decode::{Rules, decode};
use stocktide_domain::{Reason, Reject, Source, fold};
use stocktide_runtime::kafka::headers;
use stocktide_runtime::traces::TRACEPARENT;
use stocktide_store::broken::{self, Broken};
use stocktide_store::{Batch, Partition, RawRecord, Span};

use crate::publisher::PublishedUpTo;
use crate::session::InHand;
use crate::timer::Timer;

/// Records that were received together, decoded.
pub struct Received {
    /// Keeps the session from being idle until they are published or dropped.
    pub in_hand: InHand,
    /// The positions carried over from the batch before (rule 4).
    pub starts: BTreeMap<Partition, i64>,
    /// The records.
    pub records: Records,
}

/// Records and, in step with them, what decoding said.
#[derive(Default)]
pub struct Records {
    raw: Vec<RawRecord>,
    decoded: Vec<fold::Record>,
    bytes: usize,
}

/// How large a batch may grow, and how long it waits for more.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// From the first record on.
    pub linger: Duration,
}

impl Records {
    /// Takes a message in and decodes it.
    pub fn push(&mut self, source: Source, message: &BorrowedMessage<'_>, rules: &Rules) {
        let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
        self.bytes += key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len);
        let decoded = decode(source, value.as_deref(), rules);
        let decoded = match decoded {
            Ok(event) if broken::is(Broken::SoundRejected) && message.offset() % 100 == 99 => {
                Err(Reject::new(Reason::UnknownProduct, "a whim", Some(event.event_id)))
            }
            decoded => decoded,
        };
        // Headers matter to the dead-letter queue only; an event that is rejected later has them, too.
        let headers =
            headers(message).into_iter().map(|(name, value)| (name.into_owned(), value.map(<[u8]>::to_vec)));
        let headers = headers.collect();
        self.raw.push(RawRecord { offset: message.offset(), key, value, headers });
        self.decoded.push(fold::Record { source, partition: message.partition(), decoded });
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// How many of each topic.
    pub fn by_source(&self) -> BTreeMap<Source, u64> {
        let mut counts = BTreeMap::new();
        for record in &self.decoded {
            *counts.entry(record.source).or_default() += 1;
        }
        counts
    }

    /// The `traceparent` of each record that has one.
    pub fn traceparents(&self) -> impl Iterator<Item = &str> {
        let headers = self.raw.iter().flat_map(|raw| &raw.headers).filter(|(name, _)| name == TRACEPARENT);
        headers.filter_map(|(_, value)| std::str::from_utf8(value.as_deref()?).ok())
    }

    /// Whether the batch may grow no further.
    pub fn is_full(&self, limits: BatchLimits) -> bool {
        self.len() >= limits.records || self.bytes >= limits.bytes
    }

    /// Per partition, the position after its last record.
    pub fn ends(&self) -> BTreeMap<Partition, i64> {
        self.raw.iter().zip(&self.decoded).map(|(raw, d)| ((d.source, d.partition), raw.offset + 1)).collect()
    }

    /// What a part of the records does to the progress. `positions` is where each partition stands before it, `timer` knows the
    /// numbers of those of payments.
    pub fn spans(
        &self,
        part: &Range<usize>,
        positions: &BTreeMap<Partition, i64>,
        timer: &Timer,
        published: &PublishedUpTo,
    ) -> BTreeMap<Partition, Span> {
        let mut last: BTreeMap<Partition, &RawRecord> = BTreeMap::new();
        for (raw, decoded) in self.raw[part.clone()].iter().zip(&self.decoded[part.clone()]) {
            last.insert((decoded.source, decoded.partition), raw);
        }
        let span = |(partition, raw): (Partition, &RawRecord)| {
            let span = Span {
                expected: positions.get(&partition).copied().unwrap_or(0),
                timer_seq: timer.number(partition),
                next: raw.offset + 1,
                last_offset: raw.offset,
                last_digest: digest(raw.value.as_deref()),
                published: published.get(&partition).copied(),
            };
            (partition, span)
        };
        last.into_iter().map(span).collect()
    }

    /// A part of the records, for the database.
    pub fn part<'a>(
        &'a self,
        part: &Range<usize>,
        spans: &'a BTreeMap<Partition, Span>,
        now: DateTime<Utc>,
    ) -> Batch<'a> {
        Batch { raw: &self.raw[part.clone()], decoded: &self.decoded[part.clone()], spans, now }
    }

    /// Rejects a record that the database would not take.
    pub fn refuse(&mut self, at: usize, detail: &str) {
        if let Some(record) = self.decoded.get_mut(at) {
            let event_id =
                record.decoded.as_ref().map_or_else(|reject| reject.event_id, |event| Some(event.event_id));
            record.decoded = Err(Reject::new(Reason::RefusedByDatabase, detail, event_id));
        }
    }

    /// Whether a part is a single record that [`Records::refuse`] has rejected.
    pub fn is_refused(&self, part: &Range<usize>) -> bool {
        let record = self.decoded.get(part.start).filter(|_| part.len() == 1);
        let reject = record.and_then(|record| record.decoded.as_ref().err());
        reject.is_some_and(|reject| reject.reason == Reason::RefusedByDatabase)
    }
}

/// SHA-256 of a record's value; a tombstone's is that of nothing.
pub fn digest(value: Option<&[u8]>) -> Vec<u8> {
    Sha256::digest(value.unwrap_or_default()).to_vec()
}
