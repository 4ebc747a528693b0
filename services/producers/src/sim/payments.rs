//! Payments: of simulated orders, alone or beside them; and orders and payments by the clock, most of which never meet.

use std::collections::VecDeque;

use chrono::{DateTime, Duration, Utc};
use serde::Deserialize;
use stocktide_domain::{Money, Source};
use uuid::Uuid;

use super::catalogue::SimCatalogue;
use super::dice::Dice;
use super::{Options, Simulator, SourceMix};
use crate::record::Record;
use crate::wire::{self, Amount, OnlineOrder, Payment, SaleLine, Time};

/// Of 100 orders, so many are never paid: the payment fails.
const FAILED_PERCENT: u64 = 3;
/// Of 100 paid orders, the money of so many goes back.
const REFUNDED_PERCENT: u64 = 4;
/// Of 100 payments, so many come before their order.
const EARLY_PERCENT: u64 = 10;
/// Of 100 payments, so many name an order that there never was.
const ORPHANS_PERCENT: u64 = 1;
/// Of 100 payments, so many are of another amount than the order's.
const MISMATCHES_PERCENT: u64 = 2;

/// The orders that `online-orders` makes of the same options, and what is paid for them.
#[derive(Debug)]
pub struct PaidOrders {
    orders: Simulator,
    dice: Dice,
    with_orders: bool,
    queue: VecDeque<Record>,
}

/// What is needed of an order's record.
#[derive(Deserialize)]
struct Placed {
    #[serde(rename = "type")]
    kind: String,
    order_id: String,
    order_value: Option<String>,
    payment_method: Option<String>,
}

impl PaidOrders {
    /// A stream over a catalogue without end; `with_orders` says whether the orders are sent, too.
    ///
    /// # Errors
    /// When the catalogue lacks what orders need.
    pub fn new(catalogue: SimCatalogue, options: Options, with_orders: bool) -> anyhow::Result<PaidOrders> {
        let dice = Dice::new([options.seed, 0x7061_7964, options.start.timestamp_micros() as u64, 0]);
        let options = Options { mix: SourceMix::OnlineOrders, count: None, ..options };
        let orders = Simulator::new(catalogue, options)?;
        Ok(PaidOrders { orders, dice, with_orders, queue: VecDeque::new() })
    }

    /// An order's record and its payments, as they come.
    fn take(&mut self, order: Record) {
        let placed = order.value.as_deref().and_then(|value| serde_json::from_slice::<Placed>(value).ok());
        let payments =
            placed.filter(|placed| placed.kind == "placed").map(|placed| self.pay(&placed, &order));
        let mut payments: VecDeque<Record> = payments.unwrap_or_default().into();
        if self.dice.below(100) < EARLY_PERCENT {
            self.queue.extend(payments.pop_front());
        }
        if self.with_orders {
            self.queue.push_back(order);
        }
        self.queue.extend(payments);
    }

    fn pay(&mut self, placed: &Placed, order: &Record) -> Vec<Record> {
        let value =
            placed.order_value.as_deref().and_then(|value| Money::parse(value).ok()).unwrap_or(Money::ZERO);
        let amount = if self.dice.below(100) < MISMATCHES_PERCENT {
            Money::from_ten_thousandths(value.ten_thousandths() / 2)
        } else {
            value
        };
        let is_card = placed.payment_method.as_deref() == Some("card");
        let last_four = format!("{:04}", self.dice.below(10_000));
        let lost = self.dice.below(100) < ORPHANS_PERCENT;
        let order_id = if lost { format!("{}-lost", placed.order_id) } else { placed.order_id.clone() };
        let (failed, refunded) =
            (self.dice.below(100) < FAILED_PERCENT, self.dice.below(100) < REFUNDED_PERCENT);
        let mut steps = vec![("authorised", 2), (if failed { "failed" } else { "captured" }, 30)];
        if refunded && !failed {
            steps.push(("refunded", 3_600));
        }
        let payment_id = format!("pay-{}", placed.order_id);
        let mut records = Vec::with_capacity(steps.len());
        for (status, seconds) in steps {
            // What happens later has not happened yet when the order is sent, but no more than a day ahead is taken.
            let at = order.occurred_at + Duration::seconds(seconds);
            let payment = Payment {
                event_id: random_id(&mut self.dice),
                payment_id: &payment_id,
                order_id: &order_id,
                payment_method: placed.payment_method.as_deref(),
                card_last_four: is_card.then_some(last_four.as_str()),
                payment_status: status,
                payment_datetime: Time(at),
                amount: Some(Amount(amount)),
            };
            records.push(record(&payment, at));
        }
        records
    }
}

impl Iterator for PaidOrders {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.queue.is_empty() {
            let order = self.orders.next()?;
            self.take(order);
        }
        self.queue.pop_front()
    }
}

/// Order ids that come round: 1 to this, one every other second.
const ORDERS: u64 = 80;
/// Order ids that are paid: 1 to this, one every second.
const PAID: u64 = 500;

/// Orders 1 to 80 over and over, one every other second, and payments of orders 1 to 500, one every second. So most payments
/// never find their order, the others mostly come before it, and every later round of an order is a conflict.
#[derive(Debug)]
pub struct ByTheClock {
    catalogue: SimCatalogue,
    dice: Dice,
    start: DateTime<Utc>,
    second: u64,
    pending: Option<Record>,
}

impl ByTheClock {
    /// A stream over a catalogue without end.
    ///
    /// # Errors
    /// When the catalogue lacks what orders need.
    pub fn new(catalogue: SimCatalogue, seed: u64, start: DateTime<Utc>) -> anyhow::Result<ByTheClock> {
        catalogue.check(true, false)?;
        let dice = Dice::new([seed, 0x0063_6c6f_636b, start.timestamp_micros() as u64, 0]);
        Ok(ByTheClock { catalogue, dice, start, second: 0, pending: None })
    }

    /// Seconds on its clock from the first record to the one after so many.
    pub const fn seconds(records: u64) -> u64 {
        // Three records in two seconds: an order and a payment, then a payment.
        records / 3 * 2 + if records % 3 == 2 { 1 } else { 0 }
    }

    fn order(&mut self, at: DateTime<Utc>) -> Record {
        let number = self.second / 2 % ORDERS + 1;
        let order_id = number.to_string();
        let event_id = random_id(&mut self.dice);
        let (line, value) = self.line(number);
        let bytes = wire::bytes(&OnlineOrder {
            event_id,
            kind: "placed",
            order_id: &order_id,
            original_id: None,
            user_id: Some(&format!("u{number}")),
            order_timestamp: Time(at),
            items: &line.into_iter().collect::<Vec<_>>(),
            order_value: value.map(Amount),
            currency: None,
            payment_method: Some("card"),
            shipping_address: Some(&format!("{number} High Street, Leeds")),
            location_id: self.catalogue.online.first().map(String::as_str),
        });
        Record { topic: Source::OnlineOrders.topic(), key: order_id, value: Some(bytes), occurred_at: at }
    }

    /// What an order of a number consists of: the same in every round.
    fn line(&self, number: u64) -> (Option<SaleLine<'_>>, Option<Money>) {
        let products = &self.catalogue.products;
        let product = products.get(number as usize % products.len().max(1));
        let quantity = number as i64 % 3 + 1;
        let line = product.map(|product| SaleLine {
            product_id: &product.product_id,
            quantity,
            price_per_unit: Amount(product.price),
        });
        (line, product.and_then(|product| product.price.times(quantity)))
    }

    fn payment(&mut self, at: DateTime<Utc>) -> Record {
        let number = self.second % PAID + 1;
        let statuses = ["Completed", "completed", "Pending", "Authorized", "Failed"];
        let status = self.dice.pick(&statuses).copied().unwrap_or("completed");
        let (payment_id, order_id) = (format!("PAY-{}", self.second + 1), number.to_string());
        let last_four = format!("{:04}", self.dice.below(10_000));
        let payment = Payment {
            event_id: random_id(&mut self.dice),
            payment_id: &payment_id,
            order_id: &order_id,
            payment_method: Some("card"),
            card_last_four: Some(&last_four),
            payment_status: status,
            payment_datetime: Time(at),
            amount: self.line(number).1.map(Amount),
        };
        record(&payment, at)
    }
}

impl Iterator for ByTheClock {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(payment) = self.pending.take() {
            return Some(payment);
        }
        let at = self.start + Duration::seconds(i64::try_from(self.second).unwrap_or(i64::MAX));
        let order = self.second.is_multiple_of(2).then(|| self.order(at));
        let payment = self.payment(at);
        self.second += 1;
        match order {
            Some(order) => {
                self.pending = Some(payment);
                Some(order)
            }
            None => Some(payment),
        }
    }
}

fn record(payment: &Payment<'_>, at: DateTime<Utc>) -> Record {
    let (topic, key) = (Source::Payments.topic(), payment.payment_id.to_owned());
    Record { topic, key, value: Some(wire::bytes(payment)), occurred_at: at }
}

fn random_id(dice: &mut Dice) -> Uuid {
    let mut random = [0; 16];
    dice.fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid()
}
