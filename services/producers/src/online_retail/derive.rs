//! The catalogue that the file implies: what was sold under which name and at which price.

use rustc_hash::FxHashMap;
use stocktide_domain::{Money, ProductKind};

use super::invoices::Invoices;
use super::rows::Rows;

/// A product, by its folded stock code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The stock code in upper case: the file writes some both ways.
    pub product_id: String,
    /// Its most usual description, else its code.
    pub name: String,
    /// Its most usual price, else 0.
    pub price: Money,
    /// Goods, or postage, fees and the like.
    pub kind: ProductKind,
}

/// The products of the rows in range, and which of them each row is of.
#[derive(Debug, Default)]
pub struct Products {
    /// Sorted by product_id.
    pub products: Vec<Product>,
    /// For each of [`Rows::codes`], an index into `products`; [`u32::MAX`] where the range does not have it.
    by_code: Vec<u32>,
}

impl Products {
    /// The product of a stock code, given as an index into [`Rows::codes`].
    pub fn index(&self, code: u32) -> Option<u32> {
        self.by_code.get(code as usize).copied().filter(|&product| product != u32::MAX)
    }

    /// The product of an index.
    pub fn get(&self, index: u32) -> Option<&Product> {
        self.products.get(index as usize)
    }
}

/// A code that does not start with five digits is no product but postage, a fee, a discount, a voucher, …
pub fn kind_of(code: &str) -> ProductKind {
    let digits = code.bytes().take_while(u8::is_ascii_digit).count();
    if digits >= 5 { ProductKind::Stock } else { ProductKind::Service }
}

/// How often each description and price stands with a product.
#[derive(Default)]
struct Seen {
    priced_names: FxHashMap<u32, Tally>,
    other_names: FxHashMap<u32, Tally>,
    prices: FxHashMap<Money, Tally>,
}

#[derive(Default, Clone, Copy)]
struct Tally {
    count: u32,
    last: u32,
}

impl Tally {
    fn add(&mut self, row: u32) {
        self.count += 1;
        self.last = row;
    }
}

/// The products of the invoices in range.
pub fn products(file: &Rows, invoices: &Invoices) -> Products {
    let mut ids: Vec<String> = Vec::new();
    let mut index: FxHashMap<String, u32> = FxHashMap::default();
    let mut by_code = vec![u32::MAX; file.codes.len()];
    let mut seen: Vec<Seen> = Vec::new();
    for &at in invoices.parts.iter().flat_map(|part| &part.rows) {
        let Some(row) = file.rows.get(at as usize) else { continue };
        let slot = &mut by_code[row.code as usize];
        if *slot == u32::MAX {
            let id = file.codes.get(row.code).to_uppercase();
            *slot = *index.entry(id).or_insert_with_key(|id| {
                ids.push(id.clone());
                seen.push(Seen::default());
                ids.len() as u32 - 1
            });
        }
        let seen = &mut seen[*slot as usize];
        if row.price > Money::ZERO {
            seen.priced_names.entry(row.description).or_default().add(at);
            if row.quantity > 0 {
                seen.prices.entry(row.price).or_default().add(at);
            }
        } else {
            seen.other_names.entry(row.description).or_default().add(at);
        }
    }
    let products: Vec<Product> = ids
        .into_iter()
        .zip(&seen)
        .map(|(product_id, seen)| Product {
            name: name(file, seen).unwrap_or_else(|| product_id.clone()),
            price: most_usual(&seen.prices, |_| true).unwrap_or(Money::ZERO),
            kind: kind_of(&product_id),
            product_id,
        })
        .collect();
    sorted(products, by_code)
}

/// Of the priced rows if any has a description. The others' descriptions are often notes ("damaged", "?", "check"),
/// which, unlike names, are mostly in lower case.
fn name(file: &Rows, seen: &Seen) -> Option<String> {
    let text = |at: u32| file.descriptions.get(at).trim();
    let is_name = |at: u32| text(at).len() > 3 && !text(at).bytes().any(|b| b.is_ascii_lowercase());
    most_usual(&seen.priced_names, |&at| !text(at).is_empty())
        .or_else(|| most_usual(&seen.other_names, |&at| is_name(at)))
        .map(|at| text(at).to_owned())
}

/// The key counted most often; of several the one seen last.
fn most_usual<K: Copy>(tallies: &FxHashMap<K, Tally>, admit: impl Fn(&K) -> bool) -> Option<K> {
    let admitted = tallies.iter().filter(|(key, _)| admit(key));
    admitted.max_by_key(|(_, tally)| (tally.count, tally.last)).map(|(key, _)| *key)
}

fn sorted(products: Vec<Product>, mut by_code: Vec<u32>) -> Products {
    let mut order: Vec<u32> = (0..products.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| products[a as usize].product_id.cmp(&products[b as usize].product_id));
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old as usize] = new as u32;
    }
    for slot in by_code.iter_mut().filter(|slot| **slot != u32::MAX) {
        *slot = place[*slot as usize];
    }
    let mut products: Vec<Option<Product>> = products.into_iter().map(Some).collect();
    let products = order.iter().filter_map(|&old| products[old as usize].take()).collect();
    Products { products, by_code }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::online_retail::invoices::group;

    #[test]
    fn products_take_their_most_usual_name_and_price() {
        let file = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
            1,22423a,CAKESTAND ,1,12/1/2010 8:26,10.95,1,UK\n\
            2,22423A,CAKE STAND,1,12/1/2010 8:27,12.75,1,UK\n\
            3,22423A,CAKESTAND ,1,12/1/2010 8:28,12.75,1,UK\n\
            4,22423A,damaged,-9,12/1/2010 8:29,0,,UK\n\
            5,10001,check,-9,12/1/2010 8:29,0,,UK\n\
            6,10002,BLUE DOOR SIGN,3,12/1/2010 8:29,0,,UK\n\
            7,POST,POSTAGE,1,12/1/2010 8:29,18.00,1,UK\n\
            A1,B,Adjust bad debt,1,12/1/2010 8:29,1,,UK\n";
        let file = Rows::read(file.as_bytes()).unwrap();
        let products = products(&file, &group(&file, None, None));
        let shown: Vec<String> = products
            .products
            .iter()
            .map(|p| format!("{} {} {} {}", p.product_id, p.name, p.price, p.kind.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                "10001 10001 0.00 stock",
                "10002 BLUE DOOR SIGN 0.00 stock",
                "22423A CAKESTAND 12.75 stock",
                "POST POSTAGE 18.00 service",
            ]
        );
        let codes: Vec<Option<u32>> = (0..file.codes.len() as u32).map(|code| products.index(code)).collect();
        assert_eq!(codes, [Some(2), Some(2), Some(0), Some(1), Some(3), None]);
    }
}
