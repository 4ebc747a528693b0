//! Payments: each applied event against the ledger, how each payment stands, and what a timer put out.

use rustc_hash::FxHashMap;

use crate::amount;
use crate::digest::Digest;
use crate::event::{self, PaymentEvent};
use crate::facts::{Coordinates, Facts, LogRow, Payment, Source};
use crate::names::Name;
use crate::report::Check;

/// Compares applied payments with their rows, one at a time.
#[derive(Debug)]
pub struct Events<'f> {
    facts: &'f Facts,
    check: Check,
}

impl<'f> Events<'f> {
    /// Nothing compared yet.
    pub fn new(facts: &'f Facts) -> Events<'f> {
        let promise = "each applied payment is in payment_events once, with what its event says";
        Events { facts, check: Check::new("payments_match_events", promise) }
    }

    /// Compares the event of an applied record.
    pub fn applied(&mut self, row: &LogRow, value: &[u8]) {
        let facts = self.facts;
        let kept = rows_at(facts, row.at);
        let problem = match (event::read_payment(value), kept.as_slice()) {
            (Err(why), _) => Some(format!("applied, but {why}")),
            (Ok(event), _) if row.event != Some(event.id) => {
                Some(format!("its event_id is {}, the log has another", event.id))
            }
            (Ok(_), []) => Some("applied, but not in payment_events".to_owned()),
            (Ok(event), [kept]) => difference(facts, &event, kept),
            (Ok(_), rows) => Some(format!("is in payment_events {} times", rows.len())),
        };
        self.check.item(problem.map(|problem| format!("{}: {problem}", facts.shown(row.at))));
    }

    /// Ends the comparison: rows of the ledger that no applied record stands behind.
    pub fn finish(mut self) -> Vec<Check> {
        let facts = self.facts;
        for kept in &facts.payment_events {
            let row = facts.log_index(kept.at).and_then(|index| facts.log.get(index));
            let aged = kept.at.offset < facts.progress(kept.at.slot).log_floor;
            if !aged && !row.is_some_and(|row| row.applied) {
                self.check.differs(|| {
                    format!("{}: is in payment_events, but was not applied", facts.shown(kept.at))
                });
            }
        }
        vec![self.check]
    }
}

/// The rows of the ledger that a record wrote.
fn rows_at(facts: &Facts, at: Coordinates) -> Vec<Payment> {
    let rest = &facts.payment_events[facts.payment_events.partition_point(|event| event.at < at)..];
    rest.iter().take_while(|event| event.at == at).map(|event| event.payment).collect()
}

fn difference(facts: &Facts, event: &PaymentEvent<'_>, kept: &Payment) -> Option<String> {
    let names = &facts.names;
    let says = |field: &str, event: &str, kept: &str| {
        Some(format!("{field} is {event}, payment_events says {kept}"))
    };
    let money = |amount: Option<i128>| amount.map_or_else(|| "nothing".to_owned(), amount::shown);
    let (stated, amount) = (event.amount, kept.amount.map(i128::from));
    match () {
        () if kept.event != event.id => says("event_id", &event.id.to_string(), &kept.event.to_string()),
        () if names.text(kept.payment) != event.payment => {
            says("payment_id", &event.payment, names.text(kept.payment))
        }
        () if names.text(kept.order) != event.order => says("order_id", &event.order, names.text(kept.order)),
        () if kept.status != Some(event.status) => {
            says("payment_status", &format!("{:?}", event.status), &format!("{:?}", kept.status))
        }
        () if kept.paid_at != event.paid_at => Some("payment_events has another time".to_owned()),
        () if stated != amount => says("amount", &money(stated), &money(amount)),
        () if kept.last_four.map(|name| names.text(name)) != event.last_four.as_deref() => {
            Some("payment_events has other last four digits".to_owned())
        }
        () if kept.method != event.method.as_ref().map(|text| Digest::of(text.as_bytes())) => {
            Some("payment_events has another payment method".to_owned())
        }
        () => None,
    }
}

/// The checks that need no records, and what is worth knowing beside.
pub fn check(facts: &Facts) -> (Vec<Check>, Vec<String>) {
    (vec![amounts(facts), newest(facts), timer(facts)], waiting(facts))
}

/// Each applied payment has its order, and an amount that is not the order's value is flagged.
fn amounts(facts: &Facts) -> Check {
    let promise =
        "each applied payment has its order, and an amount that is not the order's value is flagged";
    let mut check = Check::new("payments_and_orders", promise);
    for event in &facts.payment_events {
        let payment = &event.payment;
        let problem = match facts.header(Source::OnlineOrders, payment.order) {
            None => Some(format!("order {} is not there", facts.names.text(payment.order))),
            Some((_, header)) => {
                let mismatch = payment.amount.is_some_and(|amount| amount != header.order_value);
                (mismatch != payment.amount_mismatch).then(|| {
                    let stated =
                        payment.amount.map_or_else(|| "nothing".to_owned(), |a| amount::shown(a.into()));
                    let value = amount::shown(header.order_value.into());
                    format!("paid {stated} of {value}, amount_mismatch {}", payment.amount_mismatch)
                })
            }
        };
        check.item(problem.map(|problem| format!("{}: {problem}", facts.shown(event.at))));
    }
    check
}

/// Each payment stands as its newest event says, and belongs to one order.
fn newest(facts: &Facts) -> Check {
    let promise = "each payment stands as the newest of its events says, and belongs to one order";
    let mut check = Check::new("payments_stand", promise);
    let mut newest: FxHashMap<Name, Payment> = FxHashMap::default();
    for event in &facts.payment_events {
        let payment = event.payment;
        let known = newest.entry(payment.payment).or_insert(payment);
        if known.order != payment.order {
            let [id, first, second] =
                [payment.payment, known.order, payment.order].map(|name| facts.names.text(name));
            check.differs(|| format!("payment {id}: paid order {first} and order {second}"));
        }
        let key = |p: &Payment| (p.paid_at, p.status, p.event);
        if key(&payment) > key(known) {
            *known = payment;
        }
    }
    for pair in facts.payments.windows(2).filter(|pair| pair[0].payment == pair[1].payment) {
        check.differs(|| format!("payment {}: is there more than once", facts.names.text(pair[0].payment)));
    }
    for kept in &facts.payments {
        let id = || facts.names.text(kept.payment);
        check.item(match newest.remove(&kept.payment) {
            None => Some(format!("payment {}: no applied event tells of it", id())),
            Some(newest) if newest != *kept => {
                Some(format!("payment {}: is not as its newest event ({}) says", id(), newest.event))
            }
            Some(_) => None,
        });
    }
    let mut missing: Vec<&str> = newest.into_keys().map(|name| facts.names.text(name)).collect();
    missing.sort_unstable();
    for id in missing {
        check.differs(|| format!("payment {id}: is in payment_events, but not in payments"));
    }
    check
}

/// What a timer put out has the numbers 1, 2, …, each once, up to where the progress says; where the log has lost its
/// beginning, the last ones of them.
fn timer(facts: &Facts) -> Check {
    let promise =
        "what a timer put out has numbers without gap or repeat, up to the one that the progress has";
    let mut check = Check::new("timer_numbers", promise);
    for (slot, partition) in facts.all_slots().zip(&facts.partitions) {
        let progress = facts.progress(slot);
        let rows = facts.log.iter().filter(|row| row.at.slot == slot);
        let mut numbers: Vec<i64> = rows.filter_map(|row| row.timer_seq).collect();
        numbers.sort_unstable();
        let first =
            if progress.log_is_complete() { 1 } else { progress.timer_seq + 1 - numbers.len() as i64 };
        let whole = numbers.iter().copied().eq(first..=progress.timer_seq);
        if facts.is_of_payments(slot) || !numbers.is_empty() {
            check.expect(whole, || {
                format!(
                    "{partition}: the progress is at number {}, the log has {} of them up to {}",
                    progress.timer_seq,
                    numbers.len(),
                    numbers.last().unwrap_or(&0)
                )
            });
        }
    }
    check
}

/// An order and its payment may be in two transactions at once, and then the payment is joined a little later: at the latest
/// when it is looked at by its age, or expires, if a processor runs. So it is told, and is no difference.
fn waiting(facts: &Facts) -> Vec<String> {
    let there = |order| facts.header(Source::OnlineOrders, order).is_some();
    let late = facts.parked.iter().filter(|parked| there(parked.order)).count();
    let seen = facts.parked.iter().filter(|parked| parked.order_seen && there(parked.order)).count();
    let words = format!(
        "{late} payments wait though their order is there ({seen} have been told): a running processor joins them at its next look"
    );
    if late > 0 { vec![words] } else { Vec::new() }
}
