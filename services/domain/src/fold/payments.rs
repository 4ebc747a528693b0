//! Payments. They settle after everything else in their batch, so that an order in it is found wherever it stands.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{At, Fold};
use crate::event::{Payment, PaymentStatus};
use crate::fold::settled::{Fate, PaymentRow};
use crate::{Money, Reason, Reject, Source};

/// What a payment comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It joins its order.
    Joins {
        /// Whether its amount is stated and not the order's value.
        amount_mismatch: bool,
    },
    /// Its order is not known, and may still come.
    Waits,
    /// It is rejected: why, and what exactly is wrong.
    Refused(Reason, String),
}

/// Judges a payment by the value of its order, where that is known, and by the order that its payment_id is known under, if
/// it is. `may_wait` says whether there is still time for the order to come.
pub fn judge(
    payment: &Payment,
    order_value: Option<Money>,
    known_under: Option<&str>,
    may_wait: bool,
) -> Verdict {
    if let Some(other) = known_under.filter(|known| *known != payment.order_id) {
        let detail = format!("payment_id {} is known as a payment of order {other}", payment.payment_id);
        return Verdict::Refused(Reason::PaymentConflict, detail);
    }
    match order_value {
        Some(value) => {
            Verdict::Joins { amount_mismatch: payment.amount.is_some_and(|amount| amount != value) }
        }
        None if may_wait => Verdict::Waits,
        None => {
            let detail = format!("order {} is not known, and was waited for in vain", payment.order_id);
            Verdict::Refused(Reason::OrphanPayment, detail)
        }
    }
}

/// What decides which of a payment's events says how it stands: the greater one is the newer. The event_id comes last, so
/// that the order of arrival never matters.
pub type Newness = (DateTime<Utc>, PaymentStatus, Uuid);

/// The indices of the newest event of each payment, ascending by payment_id.
pub fn newest<'a>(events: impl Iterator<Item = (&'a str, Newness)>) -> Vec<usize> {
    let mut events: Vec<(usize, &str, Newness)> =
        events.enumerate().map(|(at, (payment_id, newness))| (at, payment_id, newness)).collect();
    events.sort_unstable_by(|(_, a, newer_a), (_, b, newer_b)| match a.cmp(b) {
        Ordering::Equal => newer_b.cmp(newer_a),
        order => order,
    });
    events.dedup_by_key(|(_, payment_id, _)| *payment_id);
    events.into_iter().map(|(at, ..)| at).collect()
}

impl<'a> Fold<'a> {
    pub(super) fn pay(&mut self, at: At<'a>, payment: &'a Payment) -> Fate {
        let order = self.orders.get(&(Source::OnlineOrders, payment.order_id.as_str()));
        let value = order.map(|order| order.value);
        let known = self.known.payments.get(&payment.payment_id).map(String::as_str);
        let known_under = known.or_else(|| self.paid.get(payment.payment_id.as_str()).copied());
        let event_id = at.event.event_id;
        match judge(payment, value, known_under, self.known.payments_may_wait) {
            Verdict::Joins { amount_mismatch } => {
                self.applied.insert(event_id);
                self.paid.insert(&payment.payment_id, &payment.order_id);
                self.out.amount_mismatches += u64::from(amount_mismatch);
                self.out.payments.push(PaymentRow { record: at.record, payment, amount_mismatch });
                Fate::Applied
            }
            Verdict::Waits => {
                // A second record with its event_id is a duplicate from now on, whatever becomes of this one.
                self.applied.insert(event_id);
                Fate::Parked
            }
            Verdict::Refused(reason, detail) => Fate::Rejected(Reject::new(reason, detail, Some(event_id))),
        }
    }
}
