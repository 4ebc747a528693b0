//! Simulated shelves, and the rule that refills them.

use std::collections::VecDeque;

use super::catalogue::SimCatalogue;
use super::dice::Dice;

/// The reorder point of a product that has none.
const DEFAULT_REORDER_POINT: i64 = 10;
/// A delivery fills up to so many reorder points.
const TARGET_REORDER_POINTS: i64 = 5;
/// Lines of a delivery.
const LINES_AT_MOST: i64 = 3;

/// Stock of each product at each location as the simulator believes it to be.
#[derive(Debug, Clone)]
pub struct Shelves {
    products: usize,
    on_hand: Vec<i64>,
    reorder_points: Vec<i64>,
    waiting: Vec<bool>,
    /// Per location, the products to reorder, longest waiting first, with the ordinal of their request.
    due: Vec<VecDeque<(u64, usize)>>,
    requests: u64,
}

/// What is delivered, or corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refill {
    /// Location, as an index.
    pub location: usize,
    /// Product and units.
    pub lines: Vec<(usize, i64)>,
}

impl Shelves {
    /// As the catalogue opens.
    pub fn new(catalogue: &SimCatalogue) -> Shelves {
        let (products, locations) = (catalogue.products.len(), catalogue.locations().count());
        let points =
            catalogue.products.iter().map(|p| p.reorder_point.unwrap_or(DEFAULT_REORDER_POINT).max(1));
        let mut shelves = Shelves {
            products,
            on_hand: Vec::with_capacity(products * locations),
            reorder_points: points.collect(),
            waiting: vec![false; products * locations],
            due: vec![VecDeque::new(); locations],
            requests: 0,
        };
        for location in 0..locations {
            for product in 0..products {
                shelves.on_hand.push(catalogue.opening(location, product));
                shelves.reorder(location, product);
            }
        }
        shelves
    }

    /// Adds units, or takes them; what falls to its reorder point is reordered.
    pub fn change(&mut self, location: usize, product: usize, delta: i64) {
        if let Some(units) = self.on_hand.get_mut(location * self.products + product) {
            *units += delta;
            self.reorder(location, product);
        }
    }

    fn reorder(&mut self, location: usize, product: usize) {
        let row = location * self.products + product;
        if self.on_hand[row] <= self.reorder_points[product] && !self.waiting[row] {
            self.waiting[row] = true;
            self.due[location].push_back((self.requests, product));
            self.requests += 1;
        }
    }

    /// The next delivery: what has waited longest, with more for the same location.
    pub fn deliver(&mut self, dice: &mut Dice) -> Option<Refill> {
        loop {
            let longest =
                self.due.iter().enumerate().filter_map(|(location, due)| Some((due.front()?.0, location)));
            let (_, location) = longest.min()?;
            let wanted = dice.between(1, LINES_AT_MOST) as usize;
            let lines: Vec<(usize, i64)> = (0..wanted).filter_map(|_| self.fill(location)).collect();
            // Corrections may have filled meanwhile what was due.
            if !lines.is_empty() {
                return Some(Refill { location, lines });
            }
        }
    }

    /// Where nothing has fallen to its reorder point: fills up whichever of these products (by index) is not full.
    pub fn top_up(&mut self, location: usize, products: &[usize]) -> Option<Refill> {
        let lines: Vec<(usize, i64)> = products
            .iter()
            .filter_map(|&product| self.fill_up(location, product))
            .take(LINES_AT_MOST as usize)
            .collect();
        (!lines.is_empty()).then_some(Refill { location, lines })
    }

    /// Fills up the product that has waited longest at a location.
    fn fill(&mut self, location: usize) -> Option<(usize, i64)> {
        let (_, product) = self.due[location].pop_front()?;
        self.waiting[location * self.products + product] = false;
        self.fill_up(location, product)
    }

    fn fill_up(&mut self, location: usize, product: usize) -> Option<(usize, i64)> {
        let row = location * self.products + product;
        let units = self.reorder_points[product] * TARGET_REORDER_POINTS - self.on_hand[row];
        (units > 0).then(|| {
            self.on_hand[row] += units;
            (product, units)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sim::catalogue::Size;

    #[test]
    fn what_falls_to_its_reorder_point_is_filled_up_once() {
        let catalogue = SimCatalogue::synthetic(Size { products: 10, locations: 2 });
        let mut shelves = Shelves::new(&catalogue);
        let mut dice = Dice::new([1, 0, 0, 0]);
        assert_eq!(shelves.deliver(&mut dice), None);

        let point = catalogue.products[4].reorder_point.unwrap();
        let opening = catalogue.opening(1, 4);
        shelves.change(1, 4, point + 1 - opening);
        assert_eq!(shelves.deliver(&mut dice), None);
        shelves.change(1, 4, -1);
        shelves.change(1, 4, -3);
        assert_eq!(
            shelves.deliver(&mut dice),
            Some(Refill { location: 1, lines: vec![(4, opening - point + 3)] })
        );
        assert_eq!(shelves.deliver(&mut dice), None);
    }

    #[test]
    fn the_longest_waiting_comes_first() {
        let catalogue = SimCatalogue::synthetic(Size { products: 10, locations: 3 });
        let mut shelves = Shelves::new(&catalogue);
        for (location, product) in [(2, 7), (0, 1), (2, 3)] {
            shelves.change(location, product, -catalogue.opening(location, product));
        }
        let mut dice = Dice::new([1, 0, 0, 0]);
        let order: Vec<usize> =
            std::iter::from_fn(|| shelves.deliver(&mut dice)).map(|refill| refill.location).collect();
        assert!(order == [2, 0] || order == [2, 0, 2], "{order:?}");
    }
}
