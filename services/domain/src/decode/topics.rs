//! What the record of each topic means.

use super::field::{self, At, Sign};
use super::wire::{
    self, Object, OnlineOrder, OrderType, RestockLine, RestockType, SaleLine, SaleType, StoreSale,
    SupplierRestock,
};
use super::{Rules, Wrong, parse};
use crate::event::{
    Body, Event, Item, OrderStatus, Payment, Restock, RestockItem, RestockKind, Return, Sale, Source,
};
use crate::{Money, Reason};

/// The location of an online order that names none.
const ONLINE: &str = "online";

/// The event of a record of a topic.
pub fn event(source: Source, text: &str, rules: &Rules) -> Result<Event, Wrong> {
    match source {
        Source::OnlineOrders => online_order(&parse(text)?, rules),
        Source::StoreSales => store_sale(&parse(text)?, rules),
        Source::SupplierRestocks => supplier_restock(&parse(text)?, rules),
        Source::Payments => payment(&parse(text)?, rules),
    }
}

fn online_order(wire: &OnlineOrder<'_>, rules: &Rules) -> Result<Event, Wrong> {
    let limits = &rules.limits;
    let event_id = field::uuid(wire.event_id, At::top("event_id"))?;
    let kind = field::word::<OrderType>(wire.kind, At::top("type"))?;
    let order_id = field::id(wire.order_id, At::top("order_id"), limits)?;
    let occurred_at = field::timestamp(wire.order_timestamp, At::top("order_timestamp"), rules.now)?;
    currency(wire.currency, rules)?;
    let location = || {
        let given = field::optional_id(wire.location_id, At::top("location_id"), limits)?;
        Ok(given.unwrap_or_else(|| ONLINE.to_owned()))
    };
    let user = || field::optional_id(wire.user_id, At::top("user_id"), limits);
    let body = match kind {
        OrderType::Placed => Body::Sold(Sale {
            order_id,
            user_id: user()?,
            location_id: location()?,
            payment_method: payment_method(wire.payment_method, rules)?,
            shipping_address: field::optional_address(
                wire.shipping_address,
                At::top("shipping_address"),
                limits,
            )?,
            stated_value: field::optional_amount(wire.order_value, At::top("order_value"))?,
            items: sale_items(wire.items, rules)?,
        }),
        OrderType::Returned => Body::Returned(Return {
            order_id,
            original_id: field::optional_id(wire.original_id, At::top("original_id"), limits)?,
            user_id: user()?,
            location_id: location()?,
            items: sale_items(wire.items, rules)?,
        }),
        OrderType::Shipped => Body::Progressed { order_id, status: OrderStatus::Shipped },
        OrderType::Delivered => Body::Progressed { order_id, status: OrderStatus::Delivered },
        OrderType::Cancelled => Body::Cancelled { order_id },
    };
    Ok(Event { event_id, occurred_at, body })
}

fn store_sale(wire: &StoreSale<'_>, rules: &Rules) -> Result<Event, Wrong> {
    let limits = &rules.limits;
    let event_id = field::uuid(wire.event_id, At::top("event_id"))?;
    let kind = field::word::<SaleType>(wire.kind, At::top("type"))?;
    let order_id = field::id(wire.sale_id, At::top("sale_id"), limits)?;
    let location_id = field::id(wire.store_id, At::top("store_id"), limits)?;
    let occurred_at = field::timestamp(wire.sold_at, At::top("sold_at"), rules.now)?;
    currency(wire.currency, rules)?;
    let body = match kind {
        SaleType::Sold => Body::Sold(Sale {
            order_id,
            user_id: None,
            location_id,
            payment_method: payment_method(wire.payment_method, rules)?,
            shipping_address: None,
            stated_value: field::optional_amount(wire.total, At::top("total"))?,
            items: sale_items(wire.items, rules)?,
        }),
        SaleType::Returned => Body::Returned(Return {
            order_id,
            original_id: field::optional_id(wire.original_id, At::top("original_id"), limits)?,
            user_id: None,
            location_id,
            items: sale_items(wire.items, rules)?,
        }),
    };
    Ok(Event { event_id, occurred_at, body })
}

fn supplier_restock(wire: &SupplierRestock<'_>, rules: &Rules) -> Result<Event, Wrong> {
    let limits = &rules.limits;
    let event_id = field::uuid(wire.event_id, At::top("event_id"))?;
    let (kind, sign) = match field::word::<RestockType>(wire.kind, At::top("type"))? {
        RestockType::Received => (RestockKind::Received, Sign::Positive),
        RestockType::Adjustment => (RestockKind::Adjustment, Sign::Signed),
    };
    let restock_id = field::id(wire.restock_id, At::top("restock_id"), limits)?;
    let supplier_id = field::optional_id(wire.supplier_id, At::top("supplier_id"), limits)?;
    let location_id = field::id(wire.location_id, At::top("location_id"), limits)?;
    let occurred_at = field::timestamp(wire.received_at, At::top("received_at"), rules.now)?;
    currency(wire.currency, rules)?;
    let note = field::optional_text(wire.note, At::top("note"), limits.text_bytes)?;
    let items = restock_items(wire.items, sign, rules)?;
    let body = Body::Restocked(Restock { restock_id, supplier_id, location_id, kind, note, items });
    Ok(Event { event_id, occurred_at, body })
}

fn payment(wire: &wire::Payment<'_>, rules: &Rules) -> Result<Event, Wrong> {
    let limits = &rules.limits;
    let event_id = field::uuid(wire.event_id, At::top("event_id"))?;
    let payment_id = field::id(wire.payment_id, At::top("payment_id"), limits)?;
    let order_id = field::id(wire.order_id, At::top("order_id"), limits)?;
    let status = field::payment_status(wire.payment_status, At::top("payment_status"))?;
    let occurred_at = field::timestamp(wire.payment_datetime, At::top("payment_datetime"), rules.now)?;
    currency(wire.currency, rules)?;
    let payment_method = payment_method(wire.payment_method, rules)?;
    let card_last_four = field::optional_last_four(wire.card_last_four, At::top("card_last_four"))?;
    let amount = field::optional_amount(wire.amount, At::top("amount"))?;
    let body = Body::Paid(Payment { payment_id, order_id, payment_method, card_last_four, status, amount });
    Ok(Event { event_id, occurred_at, body })
}

type Raw<'a> = Option<&'a serde_json::value::RawValue>;

fn currency(raw: Raw<'_>, rules: &Rules) -> Result<(), Wrong> {
    match field::optional_text(raw, At::top("currency"), rules.limits.id_bytes)? {
        Some(given) if !given.eq_ignore_ascii_case(&rules.currency) => {
            let detail = format!("currency is {given:?}; it must be {:?} or absent", rules.currency);
            Err(Wrong::new(Reason::CurrencyMismatch, detail))
        }
        _ => Ok(()),
    }
}

fn payment_method(raw: Raw<'_>, rules: &Rules) -> Result<Option<String>, Wrong> {
    field::optional_text(raw, At::top("payment_method"), rules.limits.id_bytes)
}

fn sale_items(raw: Raw<'_>, rules: &Rules) -> Result<Vec<Item>, Wrong> {
    let limits = &rules.limits;
    let mut value = Value::new("price_per_unit");
    let lines = field::lines::<SaleLine<'_>>(raw, limits)?;
    let mut items = Vec::with_capacity(lines.len());
    for (line, Object(wire)) in lines.into_iter().enumerate() {
        let item = Item {
            product_id: field::id(wire.product_id, At::line(line, "product_id"), limits)?,
            quantity: field::quantity(wire.quantity, At::line(line, "quantity"), Sign::Positive, limits)?,
            unit_price: field::optional_amount(wire.price_per_unit, At::line(line, "price_per_unit"))?,
        };
        value.add(line, item.quantity, item.unit_price)?;
        items.push(item);
    }
    Ok(items)
}

fn restock_items(raw: Raw<'_>, sign: Sign, rules: &Rules) -> Result<Vec<RestockItem>, Wrong> {
    let limits = &rules.limits;
    let mut value = Value::new("unit_cost");
    let lines = field::lines::<RestockLine<'_>>(raw, limits)?;
    let mut items = Vec::with_capacity(lines.len());
    for (line, Object(wire)) in lines.into_iter().enumerate() {
        let item = RestockItem {
            product_id: field::id(wire.product_id, At::line(line, "product_id"), limits)?,
            quantity: field::quantity(wire.quantity, At::line(line, "quantity"), sign, limits)?,
            unit_cost: field::optional_amount(wire.unit_cost, At::line(line, "unit_cost"))?,
        };
        value.add(line, item.quantity.abs(), item.unit_cost)?;
        items.push(item);
    }
    Ok(items)
}

/// The event's value so far, Σ quantity × price over the lines that state one, kept within [`Money`]'s limit.
struct Value {
    sum: Money,
    price: &'static str,
}

impl Value {
    fn new(price: &'static str) -> Value {
        Value { sum: Money::ZERO, price }
    }

    fn add(&mut self, line: usize, quantity: i64, price: Option<Money>) -> Result<(), Wrong> {
        let Some(price) = price else { return Ok(()) };
        self.sum = price.times(quantity).and_then(|value| self.sum.plus(value)).ok_or_else(|| {
            let detail = format!(
                "{}: Σ quantity × price goes beyond {} with this line; less is allowed",
                At::line(line, self.price),
                crate::money::MAX_UNITS
            );
            Wrong::new(Reason::InvalidPrice, detail)
        })?;
        Ok(())
    }
}
