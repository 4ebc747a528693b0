//! A simulator of the three sources: an endless or counted stream of records, the same byte for byte for the same seed,
//! catalogue and options.
//!
//! What it sends is what a careful source would send, and never rejected, except for the shares of broken records and
//! redeliveries that are asked for. All chance comes from one seeded stream ([`dice`]).

pub mod catalogue;
pub mod dice;
pub mod faults;
mod options;
mod orders;
pub mod payments;
mod restocks;
pub mod stock;
pub mod timeline;

pub use options::{Ids, Options, SourceMix};

use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use self::catalogue::SimCatalogue;
use self::dice::{Dice, Zipf};
use self::faults::{Malformation, Redeliveries};
use self::orders::OpenOrders;
use self::stock::{Refill, Shelves};
use self::timeline::Timeline;
use crate::record::Record;

/// Of 100 records of all sources.
const MIX: [u64; 3] = [59, 31, 10];
/// Hidden sales per delivery, where only deliveries are sent: what [`MIX`] has.
const SALES_PER_RESTOCK: u64 = 9;
/// How often an order has 1, 2, 3 lines.
const LINES: [u64; 3] = [50, 30, 20];
/// How often a line has 1, 2, 3 units, or 4 to 10.
const UNITS: [u64; 4] = [60, 20, 10, 10];
/// Items that come back to a store, in millionths of its events.
const STORE_RETURNS_PPM: u32 = 20_000;
/// Products whose shelves are looked at when nothing has fallen to its reorder point.
const REVIEWED: usize = 6;
/// Corrections among the restocks, in millionths.
const ADJUSTMENTS_PPM: u32 = 100_000;

/// The stream.
#[derive(Debug)]
pub struct Simulator {
    catalogue: SimCatalogue,
    options: Options,
    timeline: Timeline,
    dice: Dice,
    zipf: Zipf,
    /// Product by rank of popularity.
    by_rank: Vec<usize>,
    shelves: Shelves,
    open_orders: OpenOrders,
    redeliveries: Redeliveries,
    sent: u64,
    /// Sets the business ids of one run apart from another's.
    run: String,
    serial: u64,
}

/// A line while it is being made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Drawn {
    product: usize,
    quantity: i64,
}

impl Simulator {
    /// A stream over a catalogue.
    ///
    /// # Errors
    /// When the catalogue lacks what the sources need.
    pub fn new(catalogue: SimCatalogue, options: Options) -> anyhow::Result<Simulator> {
        let all = options.mix == SourceMix::All;
        catalogue.check(
            all || options.mix == SourceMix::OnlineOrders,
            all || options.mix == SourceMix::StoreSales,
        )?;
        let mut dice = Dice::new([
            options.seed,
            options.mix as u64,
            options.start.timestamp_micros() as u64,
            options.ids as u64,
        ]);
        let mut by_rank: Vec<usize> = (0..catalogue.products.len()).collect();
        dice.shuffle(&mut by_rank);
        let run =
            (0..6).filter_map(|_| dice.pick(b"abcdefghjkmnpqrstuvwxyz").map(|&b| char::from(b))).collect();
        Ok(Simulator {
            timeline: Timeline::new(options.start, options.spread),
            zipf: Zipf::new(by_rank.len(), options.zipf_exponent),
            by_rank,
            shelves: Shelves::new(&catalogue),
            open_orders: OpenOrders::default(),
            redeliveries: Redeliveries::default(),
            sent: 0,
            run,
            serial: 0,
            dice,
            catalogue,
            options,
        })
    }

    /// When the next record is due on the simulated clock.
    pub fn next_at(&self) -> DateTime<Utc> {
        self.timeline.at(self.sent)
    }

    fn fresh(&mut self, at: DateTime<Utc>) -> Record {
        if self.dice.chance(self.options.malformed_ppm) {
            return self.broken(at);
        }
        let record = match self.options.mix {
            SourceMix::OnlineOrders => self.online(at),
            SourceMix::StoreSales => self.store(at),
            SourceMix::SupplierRestocks => {
                (0..SALES_PER_RESTOCK).for_each(|_| self.hidden_sale());
                self.restock(at)
            }
            SourceMix::All => match self.dice.weighted(&MIX) {
                0 => self.online(at),
                1 => self.store(at),
                _ => self.restock(at),
            },
        };
        if self.options.duplicates_ppm > 0 {
            self.redeliveries.remember(&record);
        }
        record
    }

    /// A record that looks like its source's until something in it is broken. What it says has not happened, so neither
    /// shelves nor open orders know of it.
    fn broken(&mut self, at: DateTime<Utc>) -> Record {
        let lines = self.draw_lines();
        let sound = match self.options.mix {
            SourceMix::OnlineOrders => self.order(at, &lines).0,
            SourceMix::StoreSales => self.sale(at, "sold", &lines).0,
            SourceMix::SupplierRestocks => self.delivery(at, 0, &lines),
            SourceMix::All => match self.dice.weighted(&MIX) {
                0 => self.order(at, &lines).0,
                1 => self.sale(at, "sold", &lines).0,
                _ => self.delivery(at, 0, &lines),
            },
        };
        let kind = self.dice.pick(&Malformation::ALL).copied().unwrap_or(Malformation::Truncated);
        kind.apply(sound, &mut self.dice)
    }

    fn online(&mut self, at: DateTime<Utc>) -> Record {
        if self.dice.chance(self.options.follow_ups_ppm)
            && let Some(record) = self.follow_up(at)
        {
            return record;
        }
        let lines = self.draw_lines();
        let at = self.maybe_late(at);
        let (record, order) = self.order(at, &lines);
        for line in &lines {
            self.shelves.change(order.location, line.product, -line.quantity);
        }
        self.open_orders.add(order, lines);
        record
    }

    fn store(&mut self, at: DateTime<Utc>) -> Record {
        let returned = self.dice.chance(STORE_RETURNS_PPM);
        let lines = self.draw_lines();
        let at = self.maybe_late(at);
        let (record, location) = self.sale(at, if returned { "returned" } else { "sold" }, &lines);
        for line in &lines {
            self.shelves.change(
                location,
                line.product,
                if returned { line.quantity } else { -line.quantity },
            );
        }
        record
    }

    /// What the reorder rule asks for, or a correction.
    fn restock(&mut self, at: DateTime<Utc>) -> Record {
        let at = self.maybe_late(at);
        let refill = if self.dice.chance(ADJUSTMENTS_PPM) { None } else { self.refill() };
        let Some(refill) = refill else { return self.adjustment(at) };
        let lines = refill.lines.iter().map(|&(product, quantity)| Drawn { product, quantity });
        self.delivery(at, refill.location, &lines.collect::<Vec<_>>())
    }

    /// What has fallen to its reorder point, else what some popular products lack.
    fn refill(&mut self) -> Option<Refill> {
        if let Some(refill) = self.shelves.deliver(&mut self.dice) {
            return Some(refill);
        }
        let location = self.dice.below(self.catalogue.locations().count() as u64) as usize;
        let products: Vec<usize> = (0..REVIEWED).map(|_| self.draw_line().product).collect();
        self.shelves.top_up(location, &products)
    }

    fn hidden_sale(&mut self) {
        let lines = self.draw_lines();
        let location = self.dice.below(self.catalogue.locations().count() as u64) as usize;
        for line in lines {
            self.shelves.change(location, line.product, -line.quantity);
        }
    }

    fn draw_lines(&mut self) -> Vec<Drawn> {
        let lines = self.dice.weighted(&LINES[..self.options.max_lines.clamp(1, LINES.len())]) + 1;
        (0..lines).map(|_| self.draw_line()).collect()
    }

    fn draw_line(&mut self) -> Drawn {
        let rank = self.zipf.draw(&mut self.dice);
        let quantity = match self.dice.weighted(&UNITS) {
            3 => self.dice.between(4, 10),
            few => few as i64 + 1,
        };
        Drawn { product: self.by_rank.get(rank).copied().unwrap_or(0), quantity }
    }

    /// Now and then a moment that lies minutes to days back.
    fn maybe_late(&mut self, at: DateTime<Utc>) -> DateTime<Utc> {
        if !self.dice.chance(self.options.late_ppm) {
            return at;
        }
        let minutes = 10_i64 << self.dice.below(9);
        at - Duration::minutes(self.dice.between(minutes, 2 * minutes))
    }

    fn event_id(&mut self, at: DateTime<Utc>) -> Uuid {
        match self.options.ids {
            Ids::V7 => {
                let mut random = [0; 10];
                self.dice.fill(&mut random);
                let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
                uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
            }
            Ids::V4 => {
                let mut random = [0; 16];
                self.dice.fill(&mut random);
                uuid::Builder::from_random_bytes(random).into_uuid()
            }
        }
    }

    fn business_id(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}-{}-{}", self.run, self.serial)
    }
}

impl Iterator for Simulator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.options.count.is_some_and(|count| self.sent >= count) {
            return None;
        }
        let at = self.next_at();
        self.sent += 1;
        if self.dice.chance(self.options.duplicates_ppm)
            && let Some(record) = self.redeliveries.pick(&mut self.dice)
        {
            return Some(record);
        }
        Some(self.fresh(at))
    }
}
