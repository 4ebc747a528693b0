//! What is paid in the small installation.

use serde_json::json;

use super::{Kept, PROCESSED_AT, World, event_id, micros};
use crate::digest::Digest;
use crate::facts::{Coordinates, LogRow, PAYMENTS, Parked, Payment, PaymentEvent, PaymentStatus};

/// A payment as it is written down here: the event, the payment, the order, the status, the time, ten-thousandths.
type Paid<'a> = (u128, &'a str, &'a str, &'a str, &'a str, Option<i64>);

impl World {
    /// By offset: 0 order A's payment is authorised, 1 captured, 2 the first of these again; 3 order B's, of another amount; 4
    /// of an order that never came, 5 the same again while it waited; 6 of an order that is still waited for.
    pub(super) fn payments(&mut self) {
        let first = (31, "P1", "A", "Authorised", "2010-12-01T08:27:00Z", Some(383_000));
        self.pay(first);
        self.pay((32, "P1", "A", "completed", "2010-12-01T08:28:00Z", Some(383_000)));
        let again = self.topics[PAYMENTS][0].clone();
        self.consume(PAYMENTS, again, |progress| progress.duplicates += 1);
        self.pay((33, "P2", "B", "captured", "2011-07-01T08:00:00Z", Some(200_000)));
        self.orphan((34, "P3", "ghost", "captured", "2011-07-01T09:00:00Z", None));
        let again = self.topics[PAYMENTS][4].clone();
        self.consume(PAYMENTS, again, |progress| progress.duplicates += 1);
        self.park((35, "P4", "soon", "pending", "2011-07-01T10:00:00Z", None));
    }

    fn record((n, payment, order, status, at, amount): Paid<'_>) -> Kept {
        let amount = amount.map(|amount| format!("{}.{:04}", amount / 10_000, amount % 10_000));
        let event = json!({"event_id": event_id(n), "payment_id": payment, "order_id": order, "payment_status": status,
            "payment_datetime": at, "amount": amount, "payment_method": "card", "card_last_four": "1111"});
        Kept { key: Some(payment.into()), value: Some(event.to_string().into_bytes()), ..Kept::default() }
    }

    fn pay(&mut self, paid: Paid<'_>) {
        let (n, payment, order, status, at, amount) = paid;
        let record = World::record(paid);
        let value = record.value.clone().unwrap();
        let here = self.consume(PAYMENTS, record, |progress| progress.applied += 1);
        self.log_payment(here, n, &value, None);
        self.logged.insert((PAYMENTS.to_owned(), here.offset), value);
        self.facts.applied.push(event_id(n));
        let names = &mut self.facts.names;
        let status = if status == "completed" { "captured".to_owned() } else { status.to_lowercase() };
        let payment = Payment {
            payment: names.intern(payment),
            order: names.intern(order),
            method: Some(Digest::of(b"card")),
            last_four: Some(names.intern("1111")),
            status: PaymentStatus::of_name(&status),
            paid_at: micros(at),
            amount,
            amount_mismatch: order == "B",
            event: event_id(n),
        };
        self.facts.payment_events.push(PaymentEvent { at: here, payment });
        self.facts.payments.retain(|known| known.payment != payment.payment);
        self.facts.payments.push(payment);
    }

    fn log_payment(&mut self, at: Coordinates, n: u128, value: &[u8], timer_seq: Option<i64>) {
        self.facts.log.push(LogRow {
            at,
            applied: timer_seq.is_none(),
            event: Some(event_id(n)),
            value: Some(Digest::of(value)),
            redacted: false,
            erased: false,
            processed_at: PROCESSED_AT,
            timer_seq,
        });
    }

    fn orphan(&mut self, paid: Paid<'_>) {
        let mut record = World::record(paid);
        let at = self.consume(PAYMENTS, record.clone(), |progress| {
            progress.rejected += 1;
            progress.timer_seq += 1;
            progress.timer_published += 1;
        });
        record.offset = at.offset;
        self.log_payment(at, paid.0, record.value.as_deref().unwrap(), Some(1));
        self.bury(PAYMENTS, at, record, "orphan_payment");
    }

    fn park(&mut self, paid: Paid<'_>) {
        let record = World::record(paid);
        let at = self.consume(PAYMENTS, record.clone(), |progress| progress.parked += 1);
        let headers = Vec::new();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let read = crate::record::Record { partition: 0, offset: at.offset, key, value, headers };
        self.facts.parked.push(Parked {
            at,
            event: event_id(paid.0),
            order: self.facts.names.intern(paid.2),
            print: read.fingerprint(0),
            redacted: false,
            order_seen: false,
        });
        self.facts.applied.push(event_id(paid.0));
    }
}
