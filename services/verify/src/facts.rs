//! What the database says, in compact form: a line of the ledger takes some 140 bytes, a row of the log some 80.
//!
//! Nothing here is computed by the product; [`crate::database`] fills it, and tests fill it by hand.

mod rows;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

pub use rows::{
    Coordinates, Forgotten, Header, Line, LineKind, LogRow, Month, OrderStatus, Parked, Partition, Payment,
    PaymentEvent, PaymentStatus, Progress, Rejection, Replay, Slot, Source, StockResult, StockRow,
    StockStatus, TopFloor, TopUser, User,
};

use crate::names::{Name, Names};

/// What the database says.
#[derive(Debug)]
pub struct Facts {
    /// All texts.
    pub names: Names,
    /// Business months follow it.
    pub timezone: Tz,
    /// The installation's.
    pub currency: String,
    /// What events may name.
    pub catalogue: Catalogue,
    /// The input partitions.
    pub partitions: Vec<Partition>,
    /// Their numbers, by topic and partition.
    pub slots: FxHashMap<String, FxHashMap<i32, Slot>>,
    /// `events_log`, by coordinates.
    pub log: Vec<LogRow>,
    /// Its rejected rows.
    pub rejections: FxHashMap<Coordinates, Rejection>,
    /// `applied_events`, ascending.
    pub applied: Vec<Uuid>,
    /// `orders` and `restock_lines`, by coordinates and line_no.
    pub lines: Vec<Line>,
    /// `order_headers`
    pub headers: Vec<Header>,
    /// Their indices, by order.
    pub orders: FxHashMap<(Source, Name), u32>,
    /// `inventory`
    pub stock: Vec<StockRow>,
    /// `fates_by_day`, summed over the days: applied, duplicates, rejected, parked.
    pub days: FxHashMap<Slot, [i64; 4]>,
    /// `sales_by_month`; the key is the first day of the month.
    pub months: FxHashMap<(NaiveDate, Slot), Month>,
    /// `user_stats`
    pub users: FxHashMap<Name, User>,
    /// `top_users`
    pub top_users: FxHashMap<Name, TopUser>,
    /// `top_users_floor`
    pub top_floor: TopFloor,
    /// `payment_events`, by coordinates.
    pub payment_events: Vec<PaymentEvent>,
    /// `payments`, by payment_id.
    pub payments: Vec<Payment>,
    /// `parked_payments`, by coordinates.
    pub parked: Vec<Parked>,
    /// `dlq_actions`, of replays.
    pub replays: Vec<Replay>,
    /// `forgotten_users`
    pub forgotten: Vec<Forgotten>,
}

/// What the catalogue has.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// `products`
    pub products: FxHashSet<Name>,
    /// Those of them that move no stock.
    pub services: FxHashSet<Name>,
    /// `locations`
    pub locations: FxHashSet<Name>,
    /// `suppliers`
    pub suppliers: FxHashSet<Name>,
    /// Whether it is known to have had them from the first event on, and no others.
    pub is_unchanged: bool,
}

/// The topic of payments, which move no stock.
pub const PAYMENTS: &str = "payments";

impl Facts {
    /// Of an empty database.
    pub fn new(timezone: Tz, currency: &str) -> Facts {
        Facts {
            names: Names::default(),
            timezone,
            currency: currency.to_owned(),
            catalogue: Catalogue::default(),
            partitions: Vec::new(),
            slots: FxHashMap::default(),
            log: Vec::new(),
            rejections: FxHashMap::default(),
            applied: Vec::new(),
            lines: Vec::new(),
            headers: Vec::new(),
            orders: FxHashMap::default(),
            stock: Vec::new(),
            days: FxHashMap::default(),
            months: FxHashMap::default(),
            users: FxHashMap::default(),
            top_users: FxHashMap::default(),
            top_floor: TopFloor { spend: None, orders: 0 },
            payment_events: Vec::new(),
            payments: Vec::new(),
            parked: Vec::new(),
            replays: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// The number of a partition, made on first sight.
    pub fn slot(&mut self, topic: &str, partition: i32) -> Slot {
        if let Some(slot) = self.find_slot(topic, partition) {
            return slot;
        }
        // 65,535 input partitions are more than a cluster has; beyond them the last number is shared and every sum fails.
        let slot = Slot(u16::try_from(self.partitions.len()).unwrap_or(u16::MAX));
        self.partitions.push(Partition { topic: topic.to_owned(), partition, progress: None });
        self.slots.entry(topic.to_owned()).or_default().insert(partition, slot);
        slot
    }

    /// The number of a partition that the database knows.
    pub fn find_slot(&self, topic: &str, partition: i32) -> Option<Slot> {
        self.slots.get(topic)?.get(&partition).copied()
    }

    /// Adds a header.
    pub fn add_header(&mut self, header: Header) {
        self.orders.insert((header.source, header.order), self.headers.len() as u32);
        self.headers.push(header);
    }

    /// Brings everything into the order that the checks rely on.
    pub fn sort(&mut self) {
        self.log.sort_unstable_by_key(|row| row.at);
        self.lines.sort_unstable_by_key(|line| (line.at, line.line_no));
        self.applied.sort_unstable();
        self.payment_events.sort_unstable_by_key(|event| event.at);
        self.payments.sort_unstable_by_key(|payment| payment.payment);
        self.parked.sort_unstable_by_key(|parked| parked.at);
    }

    /// The input partition of a number.
    pub fn partition(&self, slot: Slot) -> Option<&Partition> {
        self.partitions.get(usize::from(slot.0))
    }

    /// The input topic of a partition, where it moves stock.
    pub fn source(&self, slot: Slot) -> Option<Source> {
        Source::of_topic(&self.partition(slot)?.topic)
    }

    /// How far the partition is.
    pub fn progress(&self, slot: Slot) -> Progress {
        self.partition(slot).and_then(|p| p.progress).unwrap_or_default()
    }

    /// Whether a record lies within what the database has settled.
    pub fn is_settled(&self, at: Coordinates) -> bool {
        let progress = self.progress(at.slot);
        at.offset >= progress.start_offset && at.offset < progress.next_offset
    }

    /// Whether the log still holds a row for every applied and rejected record.
    pub fn log_is_complete(&self) -> bool {
        self.partitions
            .iter()
            .filter_map(|partition| partition.progress)
            .all(|progress| progress.log_is_complete())
    }

    /// All slots, in order.
    pub fn all_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.partitions.len()).map(|n| Slot(n as u16))
    }

    /// The index in the log of a record's first row.
    pub fn log_index(&self, at: Coordinates) -> Option<usize> {
        let index = self.log.partition_point(|row| row.at < at);
        self.log.get(index).is_some_and(|row| row.at == at).then_some(index)
    }

    /// A record's lines.
    pub fn lines_of(&self, at: Coordinates) -> &[Line] {
        let rest = &self.lines[self.lines.partition_point(|line| line.at < at)..];
        &rest[..rest.iter().take_while(|line| line.at == at).count()]
    }

    /// Whether a partition holds payments.
    pub fn is_of_payments(&self, slot: Slot) -> bool {
        self.partition(slot).is_some_and(|partition| partition.topic == PAYMENTS)
    }

    /// The index of the payment that waits at these coordinates.
    pub fn parked_index(&self, at: Coordinates) -> Option<usize> {
        self.parked.binary_search_by_key(&at, |parked| parked.at).ok()
    }

    /// An order's header.
    pub fn header(&self, source: Source, order: Name) -> Option<(usize, &Header)> {
        let index = *self.orders.get(&(source, order))? as usize;
        Some((index, self.headers.get(index)?))
    }

    /// Whether a name is the one that a record gives its user; of a record that one was erased from, also what stands in their
    /// place.
    pub fn is_user(&self, user: Option<&str>, name: Option<Name>, erased: bool) -> bool {
        let is_forgotten = |user: &str, name: Name| {
            self.forgotten.iter().any(|forgotten| forgotten.token == name && forgotten.is(user))
        };
        user == name.map(|name| self.names.text(name))
            || erased && user.zip(name).is_some_and(|(user, name)| is_forgotten(user, name))
    }

    /// A record for people: `online_orders-2@17`.
    pub fn shown(&self, at: Coordinates) -> String {
        self.partition(at.slot).map_or_else(|| format!("?@{}", at.offset), |p| format!("{p}@{}", at.offset))
    }

    /// A stock row for people: `22423@online`.
    pub fn shown_stock(&self, (product, location): (Name, Name)) -> String {
        format!("{}@{}", self.names.text(product), self.names.text(location))
    }
}
