//! Orders: what they are worth, and what comes back of them.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::amount;
use crate::facts::{Coordinates, Facts, Header, Line, LineKind, OrderStatus, Source};
use crate::names::Name;
use crate::report::Check;

type OrderKey = (Source, Name);

/// All checks of this family.
pub fn check(facts: &Facts) -> Vec<Check> {
    vec![values(facts), given_back(facts)]
}

/// Each header's value is the sum of its lines, and a stated value that differs is flagged.
fn values(facts: &Facts) -> Check {
    let mut check = Check::new(
        "order_values",
        "each order's value is the sum of its lines, and a misstated one is flagged",
    );
    let mut sums: FxHashMap<OrderKey, i128> = FxHashMap::default();
    for line in facts.lines.iter().filter(|line| line.kind == LineKind::Sale) {
        if let Some(source) = facts.source(line.at.slot) {
            *sums.entry((source, line.business_id)).or_default() += line.value();
        }
    }
    for header in &facts.headers {
        let sum = sums.remove(&(header.source, header.order));
        let problem = value_of(header, sum);
        check.item(
            problem.map(|p| format!("{} {}: {p}", header.source.topic(), facts.names.text(header.order))),
        );
    }
    let mut headless: Vec<OrderKey> = sums.into_keys().collect();
    headless.sort_unstable();
    for (source, order) in headless {
        check.differs(|| {
            format!("{} {}: has sale lines and no header", source.topic(), facts.names.text(order))
        });
    }
    check
}

fn value_of(header: &Header, sum: Option<i128>) -> Option<String> {
    let Some(sum) = sum else { return Some("has no sale lines".to_owned()) };
    if i128::from(header.order_value) != sum {
        let stated = amount::shown(header.order_value.into());
        return Some(format!("order_value is {stated}, its lines add up to {}", amount::shown(sum)));
    }
    let mismatch = header.stated_value.is_some_and(|stated| i128::from(stated) != sum);
    (header.value_mismatch != mismatch).then(|| {
        let stated = header.stated_value.map_or_else(|| "nothing".to_owned(), |v| amount::shown(v.into()));
        format!("stated {stated}, true {}, value_mismatch {}", amount::shown(sum), header.value_mismatch)
    })
}

/// An order with everything that ever came back of it.
#[derive(Default)]
struct Affair<'f> {
    sold: Vec<&'f Line>,
    cancelled: Vec<&'f Line>,
    returned: Vec<&'f Line>,
}

/// Never more comes back than was sold; a cancelled order gives back exactly what it took and had not got back.
fn given_back(facts: &Facts) -> Check {
    let mut check = Check::new(
        "cancellations_and_returns",
        "no order gives back more than it took, and a cancelled one gives back all that is left",
    );
    let mut affairs = affairs(facts);
    let mut keys: Vec<OrderKey> = affairs.keys().copied().collect();
    keys.sort_unstable();
    for key in keys {
        let affair = affairs.remove(&key).unwrap_or_default();
        let header = facts.header(key.0, key.1).map(|(_, header)| header);
        let problem = problem_of(facts, header, &affair);
        check.item(problem.map(|p| format!("{} {}: {p}", key.0.topic(), facts.names.text(key.1))));
    }
    check
}

/// The orders of which something came back, and those that are cancelled.
fn affairs(facts: &Facts) -> FxHashMap<OrderKey, Affair<'_>> {
    let cancelled = facts.headers.iter().filter(|h| h.status == OrderStatus::Cancelled);
    let mut affairs: FxHashMap<OrderKey, Affair<'_>> =
        cancelled.map(|h| ((h.source, h.order), Affair::default())).collect();
    for line in &facts.lines {
        let Some(source) = facts.source(line.at.slot) else { continue };
        match line.kind {
            LineKind::Cancellation => {
                affairs.entry((source, line.business_id)).or_default().cancelled.push(line);
            }
            // A return that names no original counts against the order whose id it carries, if there is one.
            LineKind::Return => {
                let order = line.original.unwrap_or(line.business_id);
                if line.original.is_some() || facts.header(source, order).is_some() {
                    affairs.entry((source, order)).or_default().returned.push(line);
                }
            }
            LineKind::Sale | LineKind::Received | LineKind::Adjustment => {}
        }
    }
    for line in facts.lines.iter().filter(|line| line.kind == LineKind::Sale) {
        let affair =
            facts.source(line.at.slot).and_then(|source| affairs.get_mut(&(source, line.business_id)));
        if let Some(affair) = affair {
            affair.sold.push(line);
        }
    }
    affairs
}

fn problem_of(facts: &Facts, header: Option<&Header>, affair: &Affair<'_>) -> Option<String> {
    let Some(header) = header else {
        return Some("something comes back of it, but it was never placed".to_owned());
    };
    let is_cancelled = header.status == OrderStatus::Cancelled;
    if !is_cancelled && !affair.cancelled.is_empty() {
        return Some(format!("has cancellation lines, but is {}", header.status.as_str()));
    }
    let mut seen = FxHashSet::default();
    for line in &affair.cancelled {
        if !seen.insert(line.line_no) {
            return Some(format!("line {} is cancelled twice", line.line_no));
        }
        // That of an order of which nothing is left stands alone, and moves no stock.
        if line.quantity == 0 && (affair.cancelled.len() > 1 || line.result.is_some()) {
            return Some(format!("the cancellation of line {} is of no units", line.line_no));
        }
        if !affair.sold.iter().any(|sold| undoes(line, sold, header)) {
            return Some(format!("the cancellation of line {} fits no line that was sold", line.line_no));
        }
    }
    let lines = affair.sold.iter().chain(&affair.cancelled).chain(&affair.returned);
    let mut products: Vec<Name> = lines.map(|line| line.product).collect();
    products.sort_unstable();
    products.dedup();
    products.into_iter().find_map(|product| {
        let problem = Units::of(product, affair).problem(is_cancelled)?;
        Some(format!("{}: {problem}", facts.names.text(product)))
    })
}

/// Whether a cancellation's line fits the line that it undoes.
fn undoes(line: &Line, sold: &Line, header: &Header) -> bool {
    (line.line_no, line.product, line.location, line.price)
        == (sold.line_no, sold.product, sold.location, sold.price)
        && line.party == header.user
        && line.quantity <= 0
        && -line.quantity <= sold.quantity
}

/// What became of an order's units of one product.
#[derive(Debug, Default)]
struct Units {
    sold: i64,
    cancelled: i64,
    /// Came back by events that name the order: checked when they came.
    named: i64,
    /// Came back by other events that carry its id, before it was cancelled.
    earlier: i64,
    /// The same, where nothing says whether it was before.
    perhaps: i64,
}

impl Units {
    fn of(product: Name, affair: &Affair<'_>) -> Units {
        let sum =
            |lines: &[&Line]| lines.iter().filter(|l| l.product == product).map(|l| l.quantity).sum::<i64>();
        let mut units =
            Units { sold: sum(&affair.sold), cancelled: -sum(&affair.cancelled), ..Units::default() };
        let cancellation = affair.cancelled.first().map(|line| line.at);
        for line in affair.returned.iter().filter(|line| line.product == product) {
            match line.original {
                Some(_) => units.named -= line.quantity,
                None => match came_before(line.at, cancellation) {
                    Some(true) => units.earlier -= line.quantity,
                    Some(false) => {}
                    None => units.perhaps -= line.quantity,
                },
            }
        }
        units
    }

    fn problem(&self, is_cancelled: bool) -> Option<String> {
        let back = self.named + self.cancelled;
        if back > self.sold {
            return Some(format!("{} sold, {back} given back", self.sold));
        }
        let most = (self.sold - self.named - self.earlier).max(0);
        let least = (most - self.perhaps).max(0);
        let right = (least..=most).contains(&self.cancelled);
        (is_cancelled && !right).then(|| {
            let returned = self.named + self.earlier;
            format!(
                "{} sold, {returned} returned before, {} given back by its cancellation",
                self.sold, self.cancelled
            )
        })
    }
}

/// Whether a record came before the cancellation, where their partition tells. (It may have come before the sale, too: it
/// counts against the order all the same.)
fn came_before(at: Coordinates, cancellation: Option<Coordinates>) -> Option<bool> {
    cancellation
        .filter(|cancellation| cancellation.slot == at.slot)
        .map(|cancellation| at.offset < cancellation.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Slot;

    fn at(offset: i64) -> Coordinates {
        Coordinates { slot: Slot(0), offset }
    }

    #[test]
    fn a_return_that_names_no_order_counts_where_its_partition_tells_that_it_came_before() {
        assert_eq!(
            [came_before(at(3), Some(at(5))), came_before(at(7), Some(at(5)))],
            [Some(true), Some(false)]
        );
        let elsewhere = Coordinates { slot: Slot(1), offset: 3 };
        assert_eq!([came_before(elsewhere, Some(at(5))), came_before(at(3), None)], [None; 2]);
    }

    #[test]
    fn a_cancelled_order_gives_back_exactly_what_is_left() {
        let problem = |cancelled, earlier, perhaps| {
            Units { sold: 6, cancelled, named: 1, earlier, perhaps }.problem(true).is_some()
        };
        assert!(!problem(5, 0, 0) && problem(4, 0, 0) && problem(6, 0, 0));
        assert!(!problem(3, 2, 0) && problem(5, 2, 0));
        // More came back unasked than was left: nothing remains to be given back.
        assert!(!problem(0, 9, 0) && problem(1, 9, 0));
        // Where nothing tells whether two units came back before, both answers are right.
        assert!(!problem(5, 0, 2) && !problem(3, 0, 2) && problem(2, 0, 2));
    }

    #[test]
    fn an_open_order_never_gives_back_more_than_it_took() {
        assert!(Units { sold: 6, named: 6, ..Units::default() }.problem(false).is_none());
        assert!(Units { sold: 6, named: 7, ..Units::default() }.problem(false).is_some());
        assert!(Units { sold: 6, earlier: 9, ..Units::default() }.problem(false).is_none());
    }
}
