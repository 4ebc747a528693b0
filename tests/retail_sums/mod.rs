//! A day of the *Online Retail* file, added up from its rows in plain Rust: by nothing of the product's but the types that
//! the sums are put into. What each row is, the data set's description says; see also `services/producers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod stock;
pub mod unusual;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use chrono::{Days, NaiveDate, NaiveDateTime};
use stocktide_domain::Money;
use stocktide_domain::report::{
    Changes, Comparison, Earlier, Sales, SalesGroup, Seller, Tenths, TopSellers, Totals,
};

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Sale,
    Return,
    Adjustment,
}

/// A row that is a line of an event.
#[derive(Debug, Clone)]
pub struct Line {
    pub invoice: String,
    /// From 1, in its event.
    pub line_no: i32,
    pub product: String,
    /// As in the file: negative where it comes back or is written off.
    pub quantity: i64,
    /// Ten-thousandths.
    pub price: i64,
    /// The invoice's first moment, local.
    pub at: NaiveDateTime,
    pub topic: &'static str,
    pub location: &'static str,
    pub kind: Kind,
}

impl Line {
    /// An event is what one invoice has of one kind from one source.
    pub fn event(&self) -> (&str, &str, Kind) {
        (self.topic, &self.invoice, self.kind)
    }

    pub fn is_goods(&self) -> bool {
        self.product.bytes().take_while(u8::is_ascii_digit).count() >= 5
    }

    /// What it adds to stock.
    pub fn moves(&self) -> i64 {
        if self.kind == Kind::Adjustment { self.quantity } else { -self.quantity }
    }

    fn value(&self) -> i64 {
        self.quantity * self.price
    }
}

/// Name and category of the products.
pub type Catalogue = HashMap<String, (String, String)>;

/// The lines of a file, in its order.
pub fn lines(path: &Path) -> Vec<Line> {
    let mut text = String::new();
    let file = BufReader::new(File::open(path).unwrap());
    if path.extension().is_some_and(|extension| extension == "xz") {
        liblzma::read::XzDecoder::new_multi_decoder(file).read_to_string(&mut text).unwrap();
    } else {
        { file }.read_to_string(&mut text).unwrap();
    }
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let time = |row: &csv::StringRecord| NaiveDateTime::parse_from_str(&row[4], "%m/%d/%Y %H:%M").unwrap();
    let mut first_moments: HashMap<String, NaiveDateTime> = HashMap::new();
    for row in &rows {
        let moment = first_moments.entry(row[0].to_owned()).or_insert_with(|| time(row));
        *moment = time(row).min(*moment);
    }
    let mut counts: HashMap<(&'static str, String, Kind), i32> = HashMap::new();
    let mut lines = Vec::new();
    for row in &rows {
        let Some((topic, location, kind)) = what_it_is(row) else { continue };
        let line_no = counts.entry((topic, row[0].to_owned(), kind)).or_default();
        *line_no += 1;
        lines.push(Line {
            invoice: row[0].to_owned(),
            line_no: *line_no,
            product: row[1].trim().to_uppercase(),
            quantity: row[3].parse().unwrap(),
            price: ten_thousandths(&row[5]),
            at: first_moments[&row[0]],
            topic,
            location,
            kind,
        });
    }
    lines
}

/// Topic, location and kind; none for bad debts and what else is no event.
fn what_it_is(row: &csv::StringRecord) -> Option<(&'static str, &'static str, Kind)> {
    let (invoice, quantity, customer) = (&row[0], row[3].parse::<i64>().unwrap(), !row[6].trim().is_empty());
    let price = ten_thousandths(&row[5]);
    let sold_at = if customer { ("online_orders", "online") } else { ("store_sales", "store-1") };
    let sold = |kind| Some((sold_at.0, sold_at.1, kind));
    let corrected = Some(("supplier_restocks", "online", Kind::Adjustment));
    if invoice.starts_with('C') {
        return if quantity < 0 && price >= 0 { sold(Kind::Return) } else { None };
    }
    if !invoice.bytes().all(|b| b.is_ascii_digit()) || quantity == 0 {
        return None;
    }
    if quantity < 0 || (price == 0 && !customer) {
        return corrected;
    }
    if price < 0 { None } else { sold(Kind::Sale) }
}

fn ten_thousandths(price: &str) -> i64 {
    let (whole, decimals) = price.split_once('.').unwrap_or((price, ""));
    let fraction: i64 = format!("{decimals:0<4}").parse().unwrap();
    let units: i64 = whole.parse().unwrap();
    units * 10_000 + if whole.starts_with('-') { -fraction } else { fraction }
}

/// Half away from zero.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    let (n, d) = (i128::from(numerator), i128::from(denominator));
    i64::try_from((n.abs() * 2 + d) / (2 * d) * n.signum()).unwrap()
}

pub fn totals<'l>(lines: impl Iterator<Item = &'l Line>) -> Totals {
    let (mut sums, mut orders, mut returns) = (Totals::default(), BTreeSet::new(), BTreeSet::new());
    let (mut gross, mut returned) = (0, 0);
    for line in lines {
        match line.kind {
            Kind::Sale => {
                orders.insert(line.event());
                sums.lines += 1;
                sums.units += line.quantity;
                gross += line.value();
            }
            Kind::Return => {
                returns.insert(line.event());
                sums.returned_units -= line.quantity;
                returned -= line.value();
            }
            Kind::Adjustment => {}
        }
    }
    let money = Money::from_ten_thousandths;
    (sums.orders, sums.returns) = (orders.len() as i64, returns.len() as i64);
    (sums.gross, sums.returned_value, sums.net) = (money(gross), money(returned), money(gross - returned));
    sums.average_order_value = (sums.orders > 0).then(|| money(rounded(gross, sums.orders * 100) * 100));
    sums
}

fn groups<'l>(lines: &[&'l Line], key: impl Fn(&'l Line) -> (String, String)) -> Vec<SalesGroup> {
    let mut groups: BTreeMap<(String, String), Vec<&Line>> = BTreeMap::new();
    for line in lines {
        groups.entry(key(line)).or_default().push(line);
    }
    let group =
        |((key, name), lines): (_, Vec<&Line>)| SalesGroup { key, name, totals: totals(lines.into_iter()) };
    groups.into_iter().map(group).collect()
}

fn sold_on(lines: &[Line], date: NaiveDate) -> Vec<&Line> {
    lines.iter().filter(|line| line.kind != Kind::Adjustment && line.at.date() == date).collect()
}

/// `locations` are their names.
pub fn sales(
    lines: &[Line],
    date: NaiveDate,
    catalogue: &Catalogue,
    locations: &HashMap<String, String>,
) -> Sales {
    let day = sold_on(lines, date);
    let total = totals(day.iter().copied());
    let earlier = |days| {
        let date = date - Days::new(days);
        let before = totals(sold_on(lines, date).into_iter());
        let percent = |now: i64, then: i64| (then > 0).then(|| Tenths(rounded((now - then) * 1_000, then)));
        let money = |now: Money, then: Money| percent(now.ten_thousandths(), then.ten_thousandths());
        let change = Changes {
            orders_percent: percent(total.orders, before.orders),
            units_percent: percent(total.units, before.units),
            gross_percent: money(total.gross, before.gross),
            net_percent: money(total.net, before.net),
        };
        Earlier { date, totals: before, change }
    };
    let named = |key: &str| (key.to_owned(), key.to_owned());
    Sales {
        compared: Comparison { day_before: earlier(1), week_before: earlier(7) },
        by_source: groups(&day, |line| named(line.topic)),
        by_location: groups(&day, |line| (line.location.to_owned(), locations[line.location].clone())),
        by_category: groups(&day, |line| named(&catalogue[&line.product].1)),
        total,
    }
}

/// What a list of top sellers is sorted by.
type Order = (Reverse<i64>, Reverse<i64>, String);

pub fn top_sellers(lines: &[Line], date: NaiveDate, catalogue: &Catalogue, top_n: u32) -> TopSellers {
    let mut products: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in sold_on(lines, date).into_iter().filter(|line| line.is_goods()) {
        products.entry(&line.product).or_default().push(line);
    }
    let sellers = products.into_iter().map(|(product, lines)| {
        let sums = totals(lines.into_iter());
        Seller {
            rank: 0,
            product_id: product.to_owned(),
            name: catalogue[product].0.clone(),
            category: catalogue[product].1.clone(),
            orders: sums.orders,
            units: sums.units,
            revenue: sums.gross,
            returned_units: sums.returned_units,
            returned_value: sums.returned_value,
        }
    });
    let sellers: Vec<Seller> = sellers.filter(|seller| seller.units > 0).collect();
    let list = |order: fn(&Seller) -> Order| {
        let mut list = sellers.clone();
        list.sort_by_key(order);
        list.truncate(top_n as usize);
        list.into_iter().zip(1..).map(|(seller, rank)| Seller { rank, ..seller }).collect()
    };
    TopSellers {
        top_n,
        by_units: list(|s| (Reverse(s.units), Reverse(s.revenue.ten_thousandths()), s.product_id.clone())),
        by_revenue: list(|s| (Reverse(s.revenue.ten_thousandths()), Reverse(s.units), s.product_id.clone())),
    }
}
