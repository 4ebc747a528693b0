//! Each reject deserved its reason, and what was not rejected gave none: judged by the record's bytes, and by what else is known.
//!
//! A reason that speaks of something else than the record (an order, the stock, the catalogue) held at the moment of the rejection.
//! What came before it is known within a partition only, so a reject is taken for wrong where no order of events could explain it.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

use crate::defects::{self, Defect, Rules};
use crate::event::{self, Event, Kind};
use crate::facts::{Coordinates, Facts, Line, LineKind, LogRow, OrderStatus, Slot, Source};
use crate::names::Name;
use crate::record::Record;
use crate::report::Check;

/// Processors whose clocks lie further apart than this (microseconds) are not expected.
const CLOCKS: i64 = 3 * HOUR;
const HOUR: i64 = 60 * 60 * 1_000_000;

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
    reason: Name,
    event: Option<Uuid>,
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
        let Some(reason) = reason else {
            return self.check.differs(|| format!("{}: rejected without a reason", facts.shown(at)));
        };
        match self.deserves(&partition.topic, record.value, rules, facts.names.text(reason)) {
            Ok(Some(about)) => {
                let (event, processed_at) = (row.event, row.processed_at);
                self.questions.push(Question { at, reason, event, processed_at, about });
            }
            verdict => self.judged(at, reason, verdict.err()),
        }
    }

    fn judged(&mut self, at: Coordinates, reason: Name, why_not: Option<String>) {
        let told = |why| {
            format!("{}: rejected as {}, but {why}", self.facts.shown(at), self.facts.names.text(reason))
        };
        self.check.item(why_not.map(told));
    }

    /// Whether a reject has what its reason says; or what remains to be asked about it.
    fn deserves(
        &mut self,
        topic: &str,
        value: Option<&[u8]>,
        rules: Rules<'_>,
        reason: &str,
    ) -> Result<Option<About>, String> {
        let certain = defects::certain(topic, value, rules);
        // A card number is looked for before anything else is read, but not in what is too large.
        if certain.contains(&Defect::Card) && !["card_number", "too_large"].contains(&reason) {
            return Err("it holds a card number".to_owned());
        }
        match (Defect::of_code(reason), certain.first()) {
            (Some(defect), _) if defects::possible(defect, topic, value, rules) => Ok(None),
            (Some(_), _) => Err("nothing in the record is".to_owned()),
            (None, Some(defect)) => Err(format!("it is {}", defect.code())),
            (None, None) => self.by_the_others(topic, reason, value.unwrap_or_default()),
        }
    }

    /// The same where the reason is not in the record's bytes.
    fn by_the_others(&mut self, topic: &str, reason: &str, value: &[u8]) -> Result<Option<About>, String> {
        if reason == "refused_by_database" {
            self.refused += 1;
            return Ok(None);
        }
        // What is no source of stock are the payments.
        let Some(source) = Source::of_topic(topic) else { return self.payment(reason, value) };
        let event = event::read(source, value).map_err(|why| format!("it should be {why}"))?;
        match reason {
            "unknown_product" | "unknown_location" | "unknown_supplier" => {
                self.unknown_name(&event, reason).map(|()| None)
            }
            "order_conflict" => conflict(self.facts, source, &event).map(|()| None),
            _ => about(self.facts, source, &event, reason),
        }
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

    /// What was applied names nothing that the catalogue does not have; from there nothing is ever taken away.
    fn unknown_names(&mut self) {
        let (facts, catalogue) = (self.facts, &self.facts.catalogue);
        for line in &facts.lines {
            let is_delivery = matches!(line.kind, LineKind::Received | LineKind::Adjustment);
            let supplier = line.party.filter(|_| is_delivery);
            let unknown = [
                Some(line.product).filter(|name| !catalogue.products.contains(name)),
                Some(line.location).filter(|name| !catalogue.locations.contains(name)),
                supplier.filter(|name| !catalogue.suppliers.contains(name)),
            ];
            if let Some(name) = unknown.into_iter().flatten().next() {
                self.check.differs(|| {
                    format!(
                        "{}: applied, yet the catalogue has no {}",
                        facts.shown(line.at),
                        facts.names.text(name)
                    )
                });
            }
        }
    }

    /// Answers what was left, and ends: the check, and what could not be judged.
    pub fn finish(mut self) -> (Check, Vec<String>) {
        let facts = self.facts;
        self.unknown_names();
        let questions = std::mem::take(&mut self.questions);
        let past = Past::of(facts, &questions);
        for question in &questions {
            self.judged(question.at, question.reason, past.answer(facts, question).err());
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
    let mut units: FxHashMap<Name, i64> = FxHashMap::default();
    for item in &event.items {
        let sum = units.entry(facts.names.find(&item.product)?).or_default();
        *sum = sum.saturating_add(item.quantity);
    }
    Some(units.into_iter().collect())
}

/// What was there in an hour.
#[derive(Debug, Clone, Copy)]
struct Level {
    least: i64,
    /// The last change, and what it left.
    version: i64,
    after: i64,
}

/// A stock row through time.
#[derive(Debug, Default)]
struct Levels {
    /// Before the first change.
    opening: i64,
    by_hour: BTreeMap<i64, Level>,
}

impl Levels {
    fn add(&mut self, processed_at: i64, version: i64, after: i64) {
        let new = Level { least: after, version, after };
        let level = self.by_hour.entry(processed_at.div_euclid(HOUR)).or_insert(new);
        level.least = level.least.min(after);
        if version >= level.version {
            (level.version, level.after) = (version, after);
        }
    }

    /// The least that may have been there at a moment, by clocks that may differ.
    fn least(&self, at: i64) -> i64 {
        let [first, last] = [at - CLOCKS, at + CLOCKS].map(|at| at.div_euclid(HOUR));
        let before = self.by_hour.range(..first).next_back().map_or(self.opening, |(_, level)| level.after);
        self.by_hour.range(first..=last).map(|(_, level)| level.least).fold(before, i64::min)
    }
}

/// What the ledger has of the orders and stock rows that are asked about.
#[derive(Debug, Default)]
struct Past<'f> {
    orders: FxHashMap<OrderKey, Vec<&'f Line>>,
    stock: FxHashMap<StockKey, Levels>,
}

impl<'f> Past<'f> {
    fn of(facts: &'f Facts, questions: &[Question]) -> Past<'f> {
        let mut past = Past::default();
        for question in questions {
            past.orders.extend(question.about.order().map(|key| (key, Vec::new())));
            if let About::Short(wanted) = &question.about {
                // A row that is not there has nothing.
                past.stock.extend(wanted.iter().map(|(row, _)| (*row, Levels::default())));
            }
        }
        if questions.is_empty() {
            return past;
        }
        // What a row begins with may be loaded as long as nothing has moved it, after a reject for want of it, too.
        for row in facts.stock.iter().filter(|row| facts.catalogue.is_unchanged || row.opening < 0) {
            if let Some(levels) = past.stock.get_mut(&(row.product, row.location)) {
                levels.opening = row.opening;
            }
        }
        for line in &facts.lines {
            if let (Some(levels), Some(result)) =
                (past.stock.get_mut(&(line.product, line.location)), line.result)
            {
                levels.add(line.processed_at, result.version, result.quantity_after);
            }
            let Some(source) = facts.source(line.at.slot) else { continue };
            if let Some(lines) = past.orders.get_mut(&(source, line.original.unwrap_or(line.business_id))) {
                lines.push(line);
            }
        }
        past
    }

    fn answer(&self, facts: &Facts, question: &Question) -> Result<(), String> {
        let Some(key) = question.about.order() else { return self.was_short(facts, question) };
        let order = || facts.names.text(key.1);
        let lines = self.orders.get(&key).map_or(&[][..], Vec::as_slice);
        let first = |kind: LineKind| lines.iter().find(|line| line.kind == kind);
        let (placed, cancelled) = (first(LineKind::Sale), first(LineKind::Cancellation));
        let certainly_before = |line: &Line| line.processed_at < question.processed_at.saturating_sub(CLOCKS);
        let is_known = |line: &&&Line| {
            Some(line.event) == question.event && line.at.slot == question.at.slot && line.at < question.at
        };
        if let Some(line) = lines.iter().find(is_known) {
            return Err(format!("its event was applied before, by {}", facts.shown(line.at)));
        }
        match (&question.about, placed) {
            (About::Unknown(_), Some(placed))
                if !perhaps_before(question.at, placed.at) || certainly_before(placed) =>
            {
                Err(format!("order {} was placed before, by {}", order(), facts.shown(placed.at)))
            }
            (About::Orphan(_), Some(placed)) if certainly_before(placed) => {
                Err(format!("order {} was there, by {}", order(), facts.shown(placed.at)))
            }
            (About::Unknown(_) | About::Orphan(_) | About::Short(_), _) => Ok(()),
            (About::Cancelled(_), _) => {
                let status = facts.header(key.0, key.1).map(|(_, header)| header.status);
                let may_be = cancelled.is_some_and(|line| perhaps_before(line.at, question.at));
                let holds = may_be && status == Some(OrderStatus::Cancelled);
                holds.then_some(()).ok_or_else(|| format!("order {} had not been cancelled", order()))
            }
            (About::Returned(..), None) => Err(format!("there is no order {}", order())),
            (About::Returned(_, wanted), Some(_)) => {
                if cancelled.is_some_and(|line| perhaps_before(line.at, question.at)) {
                    return Ok(());
                }
                let left = left(lines, question);
                let too_many =
                    |(product, units): &(Name, i64)| *units > left.get(product).copied().unwrap_or(0).max(0);
                let holds = wanted.iter().any(too_many);
                holds.then_some(()).ok_or_else(|| format!("that much was left of order {}", order()))
            }
        }
    }

    fn was_short(&self, facts: &Facts, question: &Question) -> Result<(), String> {
        let About::Short(wanted) = &question.about else { return Ok(()) };
        let catalogue = &facts.catalogue;
        let was_short = |(row, units): &(StockKey, i64)| {
            let moves = !catalogue.is_unchanged || !catalogue.services.contains(&row.0);
            moves && self.stock.get(row).is_none_or(|levels| *units > levels.least(question.processed_at))
        };
        let holds = wanted.iter().any(was_short);
        holds.then_some(()).ok_or_else(|| "there was enough in stock".to_owned())
    }
}

/// What is left of an order's units of each product, if all came back before that may have.
fn left(lines: &[&Line], question: &Question) -> FxHashMap<Name, i64> {
    let latest = question.processed_at.saturating_add(CLOCKS);
    let mut left: FxHashMap<Name, i64> = FxHashMap::default();
    for line in lines {
        let counts = match line.kind {
            LineKind::Sale => true,
            LineKind::Return => perhaps_before(line.at, question.at) && line.processed_at <= latest,
            _ => false,
        };
        if counts {
            let units = left.entry(line.product).or_default();
            *units = units.saturating_add(line.quantity);
        }
    }
    left
}

/// Whether one record may have been settled before another: only their partition tells.
fn perhaps_before(first: Coordinates, second: Coordinates) -> bool {
    first.slot != second.slot || first.offset < second.offset
}
