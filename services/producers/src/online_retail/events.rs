//! Parts of invoices and deliveries into events.

use rustc_hash::FxHashSet;
use uuid::Uuid;

use super::invoices::{Kind, Part};
use super::restock::Delivery;
use super::{CURRENCY, OnlineRetail};
use crate::record::Record;
use crate::wire::{
    self, Amount, OnlineOrder, Payment, RestockLine, SaleLine, StoreSale, SupplierRestock, Time,
};

/// Event ids are UUIDs of version 5 under this one, of `topic/business id`: the source has none, and a hash of the content
/// would take the file's repeated rows, which are real, for redeliveries.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x0c6f_1f5e_9d7a_4b1c_8f5e_2b0d_6a7c_3e41);

/// The topic of the derived payments.
const PAYMENTS: &str = "payments";
/// The supplier of all simulated deliveries.
pub const SUPPLIER: &str = "supplier-1";

/// The event_id of a business id in a topic.
pub fn event_id(topic: &str, business_id: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{topic}/{business_id}").as_bytes())
}

/// The events in the order of time; deliveries stand before sales of the same moment.
pub(super) fn events(file: &OnlineRetail, payments: bool) -> impl Iterator<Item = Record> {
    let mut deliveries = file.plan.deliveries.iter().peekable();
    let mut parts = file.invoices.parts.iter().peekable();
    let mut payment: Option<Record> = None;
    std::iter::from_fn(move || {
        if let Some(payment) = payment.take() {
            return Some(payment);
        }
        let delivered = deliveries.next_if(|delivery| parts.peek().is_none_or(|part| delivery.at <= part.at));
        if let Some(delivery) = delivered {
            return Some(of_delivery(file, delivery));
        }
        let part = parts.next()?;
        if payments && part.kind == Kind::Order {
            payment = Some(of_payment(file, part));
        }
        Some(of_part(file, part))
    })
}

fn of_part(file: &OnlineRetail, part: &Part) -> Record {
    let topic = part.kind.topic();
    let number = file.rows.invoices.get(part.invoice);
    let event_id = event_id(topic, number);
    let value = match part.kind {
        Kind::Order | Kind::OrderReturn => {
            let first = part.rows.first().and_then(|&at| file.rows.rows.get(at as usize));
            let placed = part.kind == Kind::Order;
            wire::bytes(&OnlineOrder {
                event_id,
                kind: if placed { "placed" } else { "returned" },
                order_id: number,
                original_id: None,
                user_id: first.map(|row| file.rows.customers.get(row.customer)),
                order_timestamp: Time(part.at),
                items: &sale_lines(file, part),
                order_value: part.value(&file.rows).map(Amount).filter(|_| placed),
                currency: Some(CURRENCY),
                payment_method: None,
                // All that the file tells of where it goes.
                shipping_address: first.map(|row| file.rows.countries.get(row.country)).filter(|_| placed),
                location_id: Some(part.kind.location()),
            })
        }
        Kind::StoreSale | Kind::StoreReturn => {
            let sold = part.kind == Kind::StoreSale;
            wire::bytes(&StoreSale {
                event_id,
                kind: if sold { "sold" } else { "returned" },
                sale_id: number,
                store_id: part.kind.location(),
                sold_at: Time(part.at),
                items: &sale_lines(file, part),
                total: part.value(&file.rows).map(Amount).filter(|_| sold),
                currency: Some(CURRENCY),
                payment_method: None,
            })
        }
        Kind::Adjustment => wire::bytes(&SupplierRestock {
            event_id,
            kind: "adjustment",
            restock_id: number,
            supplier_id: None,
            location_id: part.kind.location(),
            received_at: Time(part.at),
            items: &adjustment_lines(file, part),
            note: note(file, part).as_deref(),
        }),
    };
    Record { topic, key: number.to_owned(), value: Some(value), occurred_at: part.at }
}

fn of_delivery(file: &OnlineRetail, delivery: &Delivery) -> Record {
    let topic = Kind::Adjustment.topic();
    let line = |&(product, quantity): &(u32, i64)| RestockLine {
        product_id: file.products.get(product).map_or("", |p| &p.product_id),
        quantity,
        // Neither in the source nor to be guessed from the price.
        unit_cost: None,
    };
    let value = wire::bytes(&SupplierRestock {
        event_id: event_id(topic, &delivery.restock_id),
        kind: "received",
        restock_id: &delivery.restock_id,
        supplier_id: Some(SUPPLIER),
        location_id: delivery.location,
        received_at: Time(delivery.at),
        items: &delivery.lines.iter().map(line).collect::<Vec<_>>(),
        note: Some("simulated by a reorder rule over the real sales"),
    });
    Record { topic, key: delivery.restock_id.clone(), value: Some(value), occurred_at: delivery.at }
}

/// The invoice's total, paid when it was placed; the method is not in the source. A store's sale is paid at the till and
/// no order that a payment could join. A total beyond what an amount can be is not stated.
fn of_payment(file: &OnlineRetail, part: &Part) -> Record {
    let number = file.rows.invoices.get(part.invoice);
    let value = wire::bytes(&Payment {
        event_id: event_id(PAYMENTS, number),
        payment_id: number,
        order_id: number,
        payment_method: None,
        card_last_four: None,
        payment_status: "completed",
        payment_datetime: Time(part.at),
        amount: part.value(&file.rows).map(Amount),
    });
    Record { topic: PAYMENTS, key: number.to_owned(), value: Some(value), occurred_at: part.at }
}

fn sale_lines<'f>(file: &'f OnlineRetail, part: &Part) -> Vec<SaleLine<'f>> {
    let rows = part.rows.iter().filter_map(|&at| file.rows.rows.get(at as usize));
    rows.map(|row| SaleLine {
        product_id: file.product_id(row.code),
        quantity: row.quantity.abs(),
        price_per_unit: Amount(row.price),
    })
    .collect()
}

fn adjustment_lines<'f>(file: &'f OnlineRetail, part: &Part) -> Vec<RestockLine<'f>> {
    let rows = part.rows.iter().filter_map(|&at| file.rows.rows.get(at as usize));
    rows.map(|row| RestockLine {
        product_id: file.product_id(row.code),
        quantity: row.quantity,
        unit_cost: None,
    })
    .collect()
}

/// The rows' distinct descriptions: mostly the reason ("damaged"), sometimes the product.
fn note(file: &OnlineRetail, part: &Part) -> Option<String> {
    const LIMIT_BYTES: usize = 400;
    let mut seen = FxHashSet::default();
    let mut note = String::new();
    for row in part.rows.iter().filter_map(|&at| file.rows.rows.get(at as usize)) {
        let text = file.rows.descriptions.get(row.description).trim();
        if text.is_empty() || !seen.insert(text) {
            continue;
        }
        if note.len() + text.len() + 2 > LIMIT_BYTES {
            note.push_str("; …");
            break;
        }
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(text);
    }
    (!note.is_empty()).then_some(note)
}
