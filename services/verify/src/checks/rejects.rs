//! Each reject deserved its reason, and what was not rejected gave none: judged by the record's bytes, and by what else is known.
//!
//! A reason that speaks of something else than the record (an order, the stock, the catalogue) held at the moment of the rejection.
//! What came before it is known within a partition only, so a reject is taken for wrong where no order of events could explain it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::defects::{self, Defect, Rules};
use crate::event::{self, Event, Kind};
use crate::facts::{Coordinates, Facts, Line, LineKind, LogRow, OrderStatus, Slot, Source};
use crate::names::Name;
use crate::record::Record;
use crate::report::Check;

/// Processors whose clocks lie further apart than this (microseconds) are not expected.
const CLOCKS: i64 = 3 * 60 * 60 * 1_000_000;

type OrderKey = (Source, Name);
type StockKey = (Name, Name);

/// Judges records, one at a time.
#[derive(Debug)]
pub struct Rejects<'f> {
    facts: &'f Facts,
    check: Check,
    /// What cannot be judged before all lines have been looked at.
    questions: Vec<Question>,
    /// Rejects for a name that the catalogue has: it may have been added later.
    known_now: u64,
    /// Rejects that the database gave the reason for.
    refused: u64,
}

#[derive(Debug)]
struct Question {
    at: Coordinates,
    processed_at: i64,
    about: About,
}

#[derive(Debug)]
enum About {
    /// The order is said not to be known.
    Unknown(OrderKey),
    /// The order is said to have been cancelled.
    Cancelled(OrderKey),
    /// More of the order is said to come back than is left: the units of each product.
    Returned(OrderKey, Vec<(Name, i64)>),
    /// The order of a payment is said never to have come.
    Orphan(OrderKey),
    /// There is said to have been less in stock.
    Short(Vec<(StockKey, i64)>),
}

impl About {
    fn order(&self) -> Option<OrderKey> {
        match *self {
            About::Unknown(key) | About::Cancelled(key) | About::Returned(key, _) | About::Orphan(key) => {
                Some(key)
            }
            About::Short(_) => None,
        }
    }
}

impl<'f> Rejects<'f> {
    /// Nothing judged yet.
    pub fn new(facts: &'f Facts) -> Rejects<'f> {
        let promise = "each reject has what its reason says, and nothing is wrong with what was not rejected";
        let check = Check::new("rejects_deserved", promise);
        Rejects { facts, check, questions: Vec::new(), known_now: 0, refused: 0 }
    }

    /// Judges a record that lies within what is settled; `row` is its row in the log, if it has one.
    pub fn record(&mut self, slot: Slot, record: &Record<'_>, row: Option<&LogRow>) {
        let facts = self.facts;
        let at = Coordinates { slot, offset: record.offset };
        let Some(partition) = facts.partition(slot) else { return };
        // Without a row it is a duplicate, or waits; below the floor nothing says what it is.
        if row.is_none() && record.offset < facts.progress(slot).log_floor {
            return;
        }
        let rules = Rules { currency: &facts.currency, settled_at: row.map(|row| row.processed_at) };
        let Some(row) = row.filter(|row| !row.applied) else {
            let wrong = defects::certain(&partition.topic, record.value, rules);
            let codes = || wrong.iter().map(|defect| defect.code()).collect::<Vec<_>>().join(", ");
            return self
                .check
                .expect(wrong.is_empty(), || format!("{}: not rejected, yet {}", facts.shown(at), codes()));
        };
        let reason = facts.rejections.get(&at).and_then(|rejection| rejection.reason);
        let Some(reason) = reason.map(|reason| facts.names.text(reason)) else { return };
        let deserved = match Defect::of_code(reason) {
            Some(defect) => defects::possible(defect, &partition.topic, record.value, rules)
                .then_some(())
                .ok_or_else(|| "nothing in the record is".to_owned()),
            None => self.by_the_others(row, reason, record.value.unwrap_or_default()),
        };
        self.check
            .item(deserved.err().map(|why| format!("{}: rejected as {reason}, but {why}", facts.shown(at))));
    }

    /// Judges a reject whose reason is not in its bytes alone, or leaves it for the end.
    fn by_the_others(&mut self, row: &LogRow, reason: &str, value: &[u8]) -> Result<(), String> {
        let facts = self.facts;
        if reason == "refused_by_database" {
            self.refused += 1;
            return Ok(());
        }
        let about = if facts.is_of_payments(row.at.slot) {
            self.payment(reason, value)?
        } else {
            let source = facts.source(row.at.slot).ok_or("its topic is no input")?;
            let event = event::read(source, value).map_err(|why| format!("it should be {why}"))?;
            match reason {
                "unknown_product" | "unknown_location" | "unknown_supplier" => {
                    return self.unknown_name(&event, reason);
                }
                "order_conflict" => return conflict(facts, source, &event),
                _ => about(facts, source, &event, reason)?,
            }
        };
        let question = |about| Question { at: row.at, processed_at: row.processed_at, about };
        self.questions.extend(about.map(question));
        Ok(())
    }

    fn payment(&self, reason: &str, value: &[u8]) -> Result<Option<About>, String> {
        let facts = self.facts;
        let event = event::read_payment(value).map_err(|why| format!("it should be {why}"))?;
        match reason {
            // An order whose name nobody speaks of cannot have come.
            "orphan_payment" => {
                Ok(facts.names.find(&event.order).map(|order| About::Orphan((Source::OnlineOrders, order))))
            }
            "payment_conflict" => {
                let known = facts.names.find(&event.payment).and_then(|payment| {
                    let at = facts.payments.binary_search_by_key(&payment, |known| known.payment).ok()?;
                    facts.payments.get(at)
                });
                match known {
                    Some(known) if facts.names.text(known.order) != event.order => Ok(None),
                    Some(_) => Err(format!("payment {} is of that very order", event.payment)),
                    None => Err(format!("payment {} is not known", event.payment)),
                }
            }
            _ => Err("that is no reason for a payment".to_owned()),
        }
    }

    fn unknown_name(&mut self, event: &Event<'_>, reason: &str) -> Result<(), String> {
        let facts = self.facts;
        let is_known = |names: &FxHashSet<Name>, text: &str| {
            facts.names.find(text).is_some_and(|name| names.contains(&name))
        };
        let catalogue = &facts.catalogue;
        let known = match reason {
            "unknown_product" => event.items.iter().all(|item| is_known(&catalogue.products, &item.product)),
            "unknown_location" => is_known(&catalogue.locations, &event.location),
            _ => event.party.as_deref().is_none_or(|supplier| is_known(&catalogue.suppliers, supplier)),
        };
        if known && catalogue.is_unchanged {
            return Err("the catalogue knows all that it names".to_owned());
        }
        self.known_now += u64::from(known);
        Ok(())
    }

    /// Answers what was left, and ends: the check, and what could not be judged.
    pub fn finish(mut self) -> (Check, Vec<String>) {
        let facts = self.facts;
        let questions = std::mem::take(&mut self.questions);
        let past = Past::of(facts, &questions);
        for question in &questions {
            if let Err(why) = past.answer(facts, question) {
                // It was counted when it came by.
                self.check.checked -= 1;
                self.check.differs(|| format!("{}: rejected, but {why}", facts.shown(question.at)));
            }
        }
        let mut notes = Vec::new();
        if self.known_now > 0 {
            notes.push(format!(
                "{} rejects are for a product, location or supplier that the catalogue has now: it was loaded later, or they were \
                 rejected in vain",
                self.known_now
            ));
        }
        if self.refused > 0 {
            notes.push(format!(
                "{} rejects were refused by the database, which is not asked again: whether it was right was not checked",
                self.refused
            ));
        }
        (self.check, notes)
    }
}

fn conflict(facts: &Facts, source: Source, event: &Event<'_>) -> Result<(), String> {
    let header = facts.names.find(&event.business_id).and_then(|order| facts.header(source, order));
    match (event.kind, header) {
        (Kind::Sale, Some((_, header))) if header.event != event.id => Ok(()),
        (Kind::Sale, Some(_)) => Err(format!("order {} was placed by this very event", event.business_id)),
        (Kind::Sale, None) => Err(format!("there is no order {}", event.business_id)),
        _ => Err("it places no order".to_owned()),
    }
}

/// What remains to be asked about a reject; nothing, where nobody speaks of the order or the stock that it names.
fn about(facts: &Facts, source: Source, event: &Event<'_>, reason: &str) -> Result<Option<About>, String> {
    let order = match event.kind {
        Kind::Shipped | Kind::Delivered | Kind::Cancelled => Some(&event.business_id),
        Kind::Return => event.original.as_ref(),
        Kind::Sale | Kind::Received | Kind::Adjustment => None,
    };
    let key = |text: &str| facts.names.find(text).map(|name| (source, name));
    match (reason, order) {
        ("unknown_order", Some(order)) => Ok(key(order).map(About::Unknown)),
        ("already_cancelled", Some(order)) if event.kind != Kind::Return => key(order)
            .map(|key| Some(About::Cancelled(key)))
            .ok_or_else(|| format!("there is no order {order}")),
        ("over_return", Some(order)) if event.kind == Kind::Return => {
            let key = key(order).ok_or_else(|| format!("there is no order {order}"))?;
            // A product that nobody speaks of was never sold.
            Ok(units(facts, event).map(|units| About::Returned(key, units)))
        }
        ("insufficient_stock", _) if (source, event.kind) == (Source::OnlineOrders, Kind::Sale) => {
            let Some(location) = facts.names.find(&event.location) else { return Ok(None) };
            let wanted = units(facts, event).unwrap_or_default();
            let wanted = wanted.into_iter().map(|(product, units)| ((product, location), units));
            Ok(Some(About::Short(wanted.collect())))
        }
        _ => Err("that is no reason for such an event".to_owned()),
    }
}

/// The units of each product; none where one of them is nobody's.
fn units(facts: &Facts, event: &Event<'_>) -> Option<Vec<(Name, i64)>> {
    let mut units: Vec<(Name, i64)> = Vec::new();
    for item in &event.items {
        let product = facts.names.find(&item.product)?;
        match units.iter_mut().find(|(known, _)| *known == product) {
            Some((_, sum)) => *sum += item.quantity,
            None => units.push((product, item.quantity)),
        }
    }
    Some(units)
}

/// What the ledger has of the orders and stock rows that are asked about.
#[derive(Debug, Default)]
struct Past<'f> {
    orders: FxHashMap<OrderKey, Vec<&'f Line>>,
    /// The least that was ever there.
    least: FxHashMap<StockKey, i64>,
}

impl<'f> Past<'f> {
    fn of(facts: &'f Facts, questions: &[Question]) -> Past<'f> {
        let mut past = Past::default();
        for question in questions {
            past.orders.extend(question.about.order().map(|key| (key, Vec::new())));
            if let About::Short(wanted) = &question.about {
                // A row that is not there has nothing.
                past.least.extend(wanted.iter().map(|(row, _)| (*row, 0)));
            }
        }
        if questions.is_empty() {
            return past;
        }
        for row in &facts.stock {
            if let Some(least) = past.least.get_mut(&(row.product, row.location)) {
                *least = row.opening;
            }
        }
        for line in &facts.lines {
            if let (Some(least), Some(result)) =
                (past.least.get_mut(&(line.product, line.location)), line.result)
            {
                *least = (*least).min(result.quantity_after);
            }
            let Some(source) = facts.source(line.at.slot) else { continue };
            if let Some(lines) = past.orders.get_mut(&(source, line.original.unwrap_or(line.business_id))) {
                lines.push(line);
            }
        }
        past
    }

    fn answer(&self, facts: &Facts, question: &Question) -> Result<(), String> {
        let about = &question.about;
        if let About::Short(wanted) = about {
            let was_short =
                |(row, units): &(StockKey, i64)| self.least.get(row).is_none_or(|least| units > least);
            return wanted
                .iter()
                .any(was_short)
                .then_some(())
                .ok_or_else(|| "there was always enough in stock".to_owned());
        }
        let Some(key) = about.order() else { return Ok(()) };
        let order = || facts.names.text(key.1);
        let lines = self.orders.get(&key).map_or(&[][..], Vec::as_slice);
        let of = |kind: LineKind| lines.iter().filter(move |line| line.kind == kind);
        let placed = of(LineKind::Sale).next();
        let cancelled = of(LineKind::Cancellation).next();
        match about {
            About::Unknown(_) => match placed {
                Some(placed) if !perhaps_before(question.at, placed.at) => {
                    Err(format!("order {} was placed before, by {}", order(), facts.shown(placed.at)))
                }
                _ => Ok(()),
            },
            About::Cancelled(_) => {
                let status = facts.header(key.0, key.1).map(|(_, header)| header.status);
                match cancelled {
                    Some(line)
                        if status == Some(OrderStatus::Cancelled) && perhaps_before(line.at, question.at) =>
                    {
                        Ok(())
                    }
                    _ => Err(format!("order {} had not been cancelled", order())),
                }
            }
            About::Orphan(_) => match placed {
                Some(placed) if placed.processed_at < question.processed_at.saturating_sub(CLOCKS) => {
                    Err(format!("order {} was there, by {}", order(), facts.shown(placed.at)))
                }
                _ => Ok(()),
            },
            About::Returned(_, wanted) => {
                if placed.is_none() {
                    return Err(format!("there is no order {}", order()));
                }
                if cancelled.is_some_and(|line| perhaps_before(line.at, question.at)) {
                    return Ok(());
                }
                let sum = |kind, product, before: bool| -> i64 {
                    let counts = |line: &&&Line| {
                        line.product == product && (!before || perhaps_before(line.at, question.at))
                    };
                    of(kind).filter(counts).map(|line| line.quantity).sum()
                };
                let left =
                    |product| sum(LineKind::Sale, product, false) + sum(LineKind::Return, product, true);
                let too_many = |(product, units): &(Name, i64)| *units > left(*product).max(0);
                wanted
                    .iter()
                    .any(too_many)
                    .then_some(())
                    .ok_or_else(|| format!("that much was left of order {}", order()))
            }
            About::Short(_) => Ok(()),
        }
    }
}

/// Whether one record may have been settled before another: only their partition tells.
fn perhaps_before(first: Coordinates, second: Coordinates) -> bool {
    first.slot != second.slot || first.offset < second.offset
}
