//! Rows into what happened: one invoice is one event, or two where it mixes a sale with a correction of stock.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Europe::London;
use rustc_hash::FxHashMap;
use stocktide_domain::Money;

use super::rows::{Row, Rows};

/// The location of every invoice with a customer, and of all corrections of stock.
pub const ONLINE: &str = "online";
/// The location that the invoices without a customer are relabelled to. This retailer has no stores.
pub const STORE: &str = "store-1";

/// What a part of an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sold to a known customer: `online_orders`, `placed`.
    Order,
    /// Sold without a CustomerID: `store_sales`, `sold`, by relabelling.
    StoreSale,
    /// A `C…` invoice of a known customer: `online_orders`, `returned`.
    OrderReturn,
    /// A `C…` invoice without a CustomerID: `store_sales`, `returned`, by relabelling.
    StoreReturn,
    /// A write-off or a find: `supplier_restocks`, `adjustment`.
    Adjustment,
}

impl Kind {
    /// The topic it goes to.
    pub const fn topic(self) -> &'static str {
        match self {
            Kind::Order | Kind::OrderReturn => "online_orders",
            Kind::StoreSale | Kind::StoreReturn => "store_sales",
            Kind::Adjustment => "supplier_restocks",
        }
    }

    /// Whose stock it moves.
    pub const fn location(self) -> &'static str {
        match self {
            Kind::Order | Kind::OrderReturn | Kind::Adjustment => ONLINE,
            Kind::StoreSale | Kind::StoreReturn => STORE,
        }
    }
}

/// Why a row becomes no part of any event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// An `A…` invoice adjusts a bad debt: money of the accounts, no sale.
    BadDebt,
    /// Its quantity is 0.
    ZeroQuantity,
    /// It sells at a price below 0.
    NegativePrice,
    /// A `C…` invoice that gives nothing back.
    PositiveCancellation,
    /// Its invoice number is neither digits nor `A…` or `C…`.
    UnknownInvoice,
}

impl Skip {
    /// For programs.
    pub const fn code(self) -> &'static str {
        match self {
            Skip::BadDebt => "bad_debt",
            Skip::ZeroQuantity => "zero_quantity",
            Skip::NegativePrice => "negative_price",
            Skip::PositiveCancellation => "positive_cancellation",
            Skip::UnknownInvoice => "unknown_invoice",
        }
    }

    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Skip::BadDebt => "bad debt (A… invoices)",
            Skip::ZeroQuantity => "quantity 0",
            Skip::NegativePrice => "negative price",
            Skip::PositiveCancellation => "positive quantity on a C… invoice",
            Skip::UnknownInvoice => "unknown kind of invoice number",
        }
    }
}

/// The rows of one invoice that make one event.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Into [`Rows::invoices`].
    pub invoice: u32,
    /// The invoice's earliest time, local.
    pub local: NaiveDateTime,
    /// The same in UTC.
    pub at: DateTime<Utc>,
    /// Its rows, in the file's order.
    pub rows: Vec<u32>,
}

impl Part {
    /// Units that the row adds to stock (negative: takes from it).
    pub fn delta(&self, row: &Row) -> i64 {
        match self.kind {
            Kind::Order | Kind::StoreSale | Kind::OrderReturn | Kind::StoreReturn => -row.quantity,
            Kind::Adjustment => row.quantity,
        }
    }

    /// Σ |quantity| × price, exactly; none beyond what [`Money`] holds.
    pub fn value(&self, file: &Rows) -> Option<Money> {
        let mut rows = self.rows.iter().filter_map(|&row| file.rows.get(row as usize));
        rows.try_fold(Money::ZERO, |sum, row| sum.plus(row.price.times(row.quantity.abs())?))
    }
}

/// The file's invoices within a range of days.
#[derive(Debug, Default)]
pub struct Invoices {
    /// In the order of time.
    pub parts: Vec<Part>,
    /// Rows that became no event, by reason.
    pub skipped: BTreeMap<Skip, u64>,
    /// Rows of invoices in the range.
    pub rows: u64,
}

/// Groups the file's rows; `from` and `to` are days in London, both included.
pub fn group(file: &Rows, from: Option<NaiveDate>, to: Option<NaiveDate>) -> Invoices {
    let within =
        |at: NaiveDateTime| from.is_none_or(|day| at.date() >= day) && to.is_none_or(|day| at.date() <= day);
    let earliest = earliest_times(file);
    let mut out = Invoices::default();
    let mut places: FxHashMap<(u32, Kind), usize> = FxHashMap::default();
    for (index, row) in file.rows.iter().enumerate() {
        let local = earliest.get(row.invoice as usize).copied().unwrap_or(row.at);
        if !within(local) {
            continue;
        }
        out.rows += 1;
        let kind =
            match classify(file.invoices.get(row.invoice), row, !file.customers.get(row.customer).is_empty())
            {
                Ok(kind) => kind,
                Err(skip) => {
                    *out.skipped.entry(skip).or_default() += 1;
                    continue;
                }
            };
        let place = *places.entry((row.invoice, kind)).or_insert_with(|| {
            out.parts.push(Part { kind, invoice: row.invoice, local, at: to_utc(local), rows: Vec::new() });
            out.parts.len() - 1
        });
        out.parts[place].rows.push(index as u32);
    }
    out.parts.sort_by_key(|part| part.at);
    out
}

/// A local time in London as UTC: the earlier of two where the clock was put back; an hour on where it was put forward.
pub fn to_utc(local: NaiveDateTime) -> DateTime<Utc> {
    let at = London.from_local_datetime(&local).earliest();
    let at = at.or_else(|| London.from_local_datetime(&(local + Duration::hours(1))).earliest());
    at.map_or_else(|| local.and_utc(), |at| at.with_timezone(&Utc))
}

/// Some invoices span two minutes; as one event they happened at the first.
fn earliest_times(file: &Rows) -> Vec<NaiveDateTime> {
    let mut times = vec![NaiveDateTime::MAX; file.invoices.len()];
    for row in &file.rows {
        if let Some(time) = times.get_mut(row.invoice as usize) {
            *time = row.at.min(*time);
        }
    }
    times
}

fn classify(invoice: &str, row: &Row, has_customer: bool) -> Result<Kind, Skip> {
    match invoice.as_bytes().first() {
        Some(b'A' | b'a') => return Err(Skip::BadDebt),
        Some(b'C' | b'c') if row.quantity > 0 => return Err(Skip::PositiveCancellation),
        Some(b'C' | b'c') if row.quantity == 0 => return Err(Skip::ZeroQuantity),
        Some(b'C' | b'c') if row.price.is_negative() => return Err(Skip::NegativePrice),
        Some(b'C' | b'c') => return Ok(if has_customer { Kind::OrderReturn } else { Kind::StoreReturn }),
        _ if !invoice.bytes().all(|b| b.is_ascii_digit()) => return Err(Skip::UnknownInvoice),
        _ => {}
    }
    match row.quantity {
        0 => Err(Skip::ZeroQuantity),
        q if q < 0 => Ok(Kind::Adjustment),
        _ if row.price.is_negative() => Err(Skip::NegativePrice),
        _ if row.price == Money::ZERO && !has_customer => Ok(Kind::Adjustment),
        _ if has_customer => Ok(Kind::Order),
        _ => Ok(Kind::StoreSale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(quantity: i64, ten_thousandths: i64) -> Row {
        Row {
            invoice: 0,
            code: 0,
            description: 0,
            quantity,
            at: NaiveDateTime::default(),
            price: Money::from_ten_thousandths(ten_thousandths),
            customer: 0,
            country: 0,
        }
    }

    #[test]
    fn a_row_is_what_its_invoice_number_quantity_price_and_customer_say() {
        for (invoice, quantity, price, customer, expected) in [
            ("536365", 6, 25_500, true, Ok(Kind::Order)),
            ("536365", 6, 25_500, false, Ok(Kind::StoreSale)),
            ("536365", 6, 0, true, Ok(Kind::Order)),
            ("536365", 6, 0, false, Ok(Kind::Adjustment)),
            ("536365", -6, 0, false, Ok(Kind::Adjustment)),
            ("C536379", -1, 275_000, true, Ok(Kind::OrderReturn)),
            ("C536379", -1, 275_000, false, Ok(Kind::StoreReturn)),
            ("C536379", 1, 275_000, false, Err(Skip::PositiveCancellation)),
            ("A563186", 1, -110_620_600, false, Err(Skip::BadDebt)),
            ("536365", 1, -1, true, Err(Skip::NegativePrice)),
            ("536365", 0, 1, true, Err(Skip::ZeroQuantity)),
            ("X1", 1, 1, true, Err(Skip::UnknownInvoice)),
        ] {
            assert_eq!(
                classify(invoice, &row(quantity, price), customer),
                expected,
                "{invoice} {quantity} {price}"
            );
        }
    }

    #[test]
    fn summer_time_is_an_hour_ahead_of_utc() {
        let local =
            |month, hour| NaiveDate::from_ymd_opt(2011, month, 27).and_then(|d| d.and_hms_opt(hour, 30, 0));
        assert_eq!(local(1, 12).map(to_utc).map(|t| t.to_string()), Some("2011-01-27 12:30:00 UTC".into()));
        assert_eq!(local(7, 12).map(to_utc).map(|t| t.to_string()), Some("2011-07-27 11:30:00 UTC".into()));
        // 01:30 does not exist on the day that summer time begins.
        assert_eq!(local(3, 1).map(to_utc).map(|t| t.to_string()), Some("2011-03-27 01:30:00 UTC".into()));
    }
}
