//! Every applied event against what the ledger made of it, item by item.

use std::borrow::Cow;

use crate::amount;
use crate::digest::Digest;
use crate::event::{self, Event, Item, Kind};
use crate::facts::{Coordinates, Facts, Header, Line, LineKind, LogRow, OrderStatus, Source};
use crate::names::Name;
use crate::report::Check;

/// Compares events with their lines and headers, one at a time.
#[derive(Debug)]
pub struct Events<'f> {
    facts: &'f Facts,
    lines: Check,
    headers: Check,
    /// Per header, whether its event came by.
    placed: Vec<bool>,
    /// Per header, how far its events bring it.
    status: Vec<OrderStatus>,
}

impl<'f> Events<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts) -> Events<'f> {
        Events {
            facts,
            lines: Check::new(
                "events_match_lines",
                "each applied event has its lines, with its products, quantities, prices, place, party and time",
            ),
            headers: Check::new(
                "order_headers",
                "each order's header is what its events say, its status included",
            ),
            placed: vec![false; facts.headers.len()],
            status: vec![OrderStatus::Placed; facts.headers.len()],
        }
    }

    /// Compares the event of an applied record.
    pub fn applied(&mut self, row: &LogRow, source: Source, value: &[u8]) {
        let facts = self.facts;
        let lines = facts.lines_of(row.at);
        let event = match event::read(source, value) {
            Ok(event) => event,
            Err(why) => return self.lines.differs(|| format!("{}: applied, but {why}", facts.shown(row.at))),
        };
        let problem = if row.event == Some(event.id) {
            compare(facts, &event, lines, row.erased).err()
        } else {
            Some(format!("its event_id is {}, the log has another", event.id))
        };
        self.lines.item(problem.map(|problem| format!("{}: {problem}", told(facts, &event, row.at))));
        match event.kind {
            Kind::Sale => self.placed(source, &event, row),
            Kind::Shipped => self.moved_on(source, &event, row.at, OrderStatus::Shipped),
            Kind::Delivered => self.moved_on(source, &event, row.at, OrderStatus::Delivered),
            Kind::Cancelled => self.moved_on(source, &event, row.at, OrderStatus::Cancelled),
            Kind::Return | Kind::Received | Kind::Adjustment => {}
        }
    }

    /// Ends the comparison, with the checks of this family. `complete` says whether every applied event came by.
    pub fn finish(mut self, complete: bool) -> Vec<Check> {
        let facts = self.facts;
        for (index, header) in facts.headers.iter().enumerate() {
            let told = || format!("{} {}", header.source.topic(), facts.names.text(header.order));
            let (found, status) = (self.placed[index], self.status[index]);
            if complete && !found {
                self.headers.differs(|| format!("{}: no applied event placed it", told()));
            }
            let fits = if complete { header.status == status } else { header.status >= status };
            if !fits {
                let words = (status.as_str(), header.status.as_str());
                self.headers
                    .differs(|| format!("{}: its events say {}, its header {}", told(), words.0, words.1));
            }
        }
        for lines in facts.lines.chunk_by(|a, b| a.at == b.at) {
            self.orphans(lines);
        }
        vec![self.lines, self.headers]
    }

    /// Lines whose record was not applied, or by another event.
    fn orphans(&mut self, lines: &[Line]) {
        let Some(line) = lines.first() else { return };
        let facts = self.facts;
        if line.at.offset < facts.progress(line.at.slot).log_floor {
            return;
        }
        let row = facts.log_index(line.at).and_then(|index| facts.log.get(index)).filter(|row| row.applied);
        let told = || {
            format!(
                "{} {} ({})",
                line.kind.as_str(),
                facts.names.text(line.business_id),
                facts.shown(line.at)
            )
        };
        match row {
            None => self
                .lines
                .differs(|| format!("{}: {} lines of a record that was not applied", told(), lines.len())),
            Some(row) => {
                if let Some(other) = lines.iter().find(|line| Some(line.event) != row.event) {
                    self.lines.differs(|| {
                        format!("{}: its line has event_id {}, the log another", told(), other.event)
                    });
                }
            }
        }
    }

    fn placed(&mut self, source: Source, event: &Event<'_>, row: &LogRow) {
        let facts = self.facts;
        let found = facts.names.find(&event.business_id).and_then(|order| facts.header(source, order));
        let problem = match found {
            None => Some("has no header".to_owned()),
            Some((index, header)) => {
                self.placed[index] |= header.event == event.id;
                header_problem(facts, event, header, row.erased)
            }
        };
        self.headers.item(problem.map(|problem| format!("{}: {problem}", told(facts, event, row.at))));
    }

    fn moved_on(&mut self, source: Source, event: &Event<'_>, at: Coordinates, to: OrderStatus) {
        let facts = self.facts;
        match facts.names.find(&event.business_id).and_then(|order| facts.header(source, order)) {
            Some((index, _)) => self.status[index] = self.status[index].max(to),
            None => self
                .headers
                .differs(|| format!("{}: {} without a header", told(facts, event, at), to.as_str())),
        }
    }
}

/// An event for people: `online_orders 536365 (online_orders-2@17)`.
fn told(facts: &Facts, event: &Event<'_>, at: Coordinates) -> String {
    format!("{} ({})", event.business_id, facts.shown(at))
}

fn header_problem(facts: &Facts, event: &Event<'_>, header: &Header, erased: bool) -> Option<String> {
    let digest = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| Digest::of(text.as_bytes()));
    let names = &facts.names;
    let (stated, kept) = (event.stated_value, header.stated_value.map(i128::from));
    match () {
        () if header.event != event.id => Some(format!("its header is of event {}", header.event)),
        () if names.text(header.location) != event.location => {
            Some(format!("location is {}, its header says {}", event.location, names.text(header.location)))
        }
        () if !facts.is_user(event.party.as_deref(), header.user, erased) => Some(format!(
            "user is {}, its header says {}",
            shown(event.party.as_ref()),
            names.shown(header.user)
        )),
        () if header.ordered_at != event.occurred_at => Some("its header has another time".to_owned()),
        () if stated != kept => {
            let words = [stated, kept].map(|value| value.map_or_else(|| "nothing".to_owned(), amount::shown));
            Some(format!("states the value {}, its header keeps {}", words[0], words[1]))
        }
        () if digest(&event.payment_method) != header.payment_method => {
            Some("its header has another payment method".to_owned())
        }
        // What was erased stays away.
        () if digest(&event.address) != header.address && !(erased && header.address.is_none()) => {
            Some("its header has another address".to_owned())
        }
        () => None,
    }
}

fn same(facts: &Facts, text: Option<&str>, name: Option<Name>) -> bool {
    text == name.map(|name| facts.names.text(name))
}

fn shown<'e>(text: Option<&'e Cow<'_, str>>) -> &'e str {
    text.map_or("nothing", |text| text)
}

/// The first difference between an event and its lines.
fn compare(facts: &Facts, event: &Event<'_>, lines: &[Line], erased: bool) -> Result<(), String> {
    let kind = match event.kind {
        Kind::Sale => LineKind::Sale,
        Kind::Return => LineKind::Return,
        Kind::Received => LineKind::Received,
        Kind::Adjustment => LineKind::Adjustment,
        Kind::Cancelled => {
            expect(!lines.is_empty(), || "cancels, yet has no line".to_owned())?;
            return lines.iter().try_for_each(|line| framed(facts, event, LineKind::Cancellation, line));
        }
        Kind::Shipped | Kind::Delivered => {
            return expect(lines.is_empty(), || "changes a status, yet has lines".to_owned());
        }
    };
    let mut rest = lines;
    for (item, line_no) in event.items.iter().zip(1..) {
        let line = rest.first().filter(|line| line.line_no == line_no);
        let Some(line) = line else {
            return Err(format!(
                "line {line_no} ({} x {}) is not in the ledger",
                item.product, item.quantity
            ));
        };
        framed(facts, event, kind, line)?;
        expect(facts.is_user(event.party.as_deref(), line.party, erased), || {
            format!(
                "line {line_no}: party is {}, the ledger says {}",
                shown(event.party.as_ref()),
                facts.names.shown(line.party)
            )
        })?;
        expect(same(facts, event.original.as_deref(), line.original), || {
            let ledger = facts.names.shown(line.original);
            format!(
                "line {line_no}: original is {}, the ledger says {ledger}",
                shown(event.original.as_ref())
            )
        })?;
        compare_item(facts, item, kind, line)?;
        rest = &rest[1..];
    }
    expect(rest.is_empty(), || format!("has {} items, the ledger {} lines", event.items.len(), lines.len()))
}

fn compare_item(facts: &Facts, item: &Item<'_>, kind: LineKind, line: &Line) -> Result<(), String> {
    let line_no = line.line_no;
    let product = facts.names.text(line.product);
    expect(product == item.product, || {
        format!("line {line_no}: sells {}, the ledger says {product}", item.product)
    })?;
    let quantity = if kind == LineKind::Return { -item.quantity } else { item.quantity };
    expect(line.quantity == quantity, || {
        format!("line {line_no} ({product}): quantity is {quantity}, the ledger says {}", line.quantity)
    })?;
    // A price that is not stated is the catalogue's of that moment, or the original order's.
    let price = line.price.map(i128::from);
    expect(item.price.is_none() || price == item.price, || {
        let words =
            [item.price, price].map(|value| value.map_or_else(|| "nothing".to_owned(), amount::shown));
        format!("line {line_no} ({product}): price is {}, the ledger says {}", words[0], words[1])
    })
}

/// What every line shares with its event.
fn framed(facts: &Facts, event: &Event<'_>, kind: LineKind, line: &Line) -> Result<(), String> {
    let line_no = line.line_no;
    let expected = kind.as_str();
    expect(line.kind == kind, || format!("line {line_no} is a {}, not a {expected}", line.kind.as_str()))?;
    let business_id = facts.names.text(line.business_id);
    expect(business_id == event.business_id, || format!("line {line_no} belongs to {business_id}"))?;
    expect(line.occurred_at == event.occurred_at, || format!("line {line_no} has another time"))?;
    // A cancellation gives back to where each line was taken from: that is compared with the sale.
    let location = facts.names.text(line.location);
    expect(kind == LineKind::Cancellation || location == event.location, || {
        format!("line {line_no}: location is {}, the ledger says {location}", event.location)
    })
}

fn expect(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
