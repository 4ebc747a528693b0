//! The books balance: stock rows against the ledger.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::facts::{Facts, StockRow, StockStatus};
use crate::movements::{Movement, Movements, StockKey};
use crate::report::Check;

/// All checks of this family.
pub fn check(facts: &Facts, movements: &Movements) -> Vec<Check> {
    vec![balances(facts, movements), chains(facts, movements), statuses(facts, movements)]
}

/// Opening stock and the sum of the lines make the figure in `inventory`, and the versions count the changes.
fn balances(facts: &Facts, movements: &Movements) -> Check {
    let mut check =
        Check::new("stock_balances", "each stock row is its opening stock and the sum of its ledger lines");
    let mut known: FxHashSet<StockKey> = FxHashSet::default();
    for row in &facts.stock {
        let key = (row.product, row.location);
        known.insert(key);
        let problem = balance(row, movements.of_row(key));
        check.item(problem.map(|problem| format!("{}: {problem}", facts.shown_stock(key))));
    }
    for moved in movements.rows().filter(|moved| !known.contains(&moved[0].row)) {
        let key = facts.shown_stock(moved[0].row);
        check.differs(|| {
            format!("{key}: the ledger has {} movements, inventory has no such row", moved.len())
        });
    }
    check
}

fn balance(row: &StockRow, moved: &[Movement]) -> Option<String> {
    let sum = i128::from(row.opening) + moved.iter().map(|m| i128::from(m.line_delta)).sum::<i128>();
    if sum != i128::from(row.on_hand) {
        return Some(format!("ledger says {sum}, inventory says {}", row.on_hand));
    }
    if row.version != moved.len() as i64 {
        return Some(format!(
            "the ledger has {} changes, inventory is at version {}",
            moved.len(),
            row.version
        ));
    }
    None
}

/// Versions 1, 2, … without gap or repeat, and each figure follows from the one before.
fn chains(facts: &Facts, movements: &Movements) -> Check {
    let mut check = Check::new(
        "movements_chain",
        "each stock row's versions run 1, 2, … and each figure follows from the one before",
    );
    let rows: FxHashMap<StockKey, i64> =
        facts.stock.iter().map(|row| ((row.product, row.location), row.opening)).collect();
    for moved in movements.rows() {
        let key = moved[0].row;
        let (mut version, mut quantity) = (0, rows.get(&key).copied().unwrap_or(0));
        for movement in moved {
            let problem = step(movement, version, quantity);
            check.item(problem.map(|problem| {
                format!("{} ({}): {problem}", facts.shown_stock(key), facts.shown(movement.at))
            }));
            // Go on from what the row says, so that one gap is told once.
            (version, quantity) = (movement.result.version, movement.result.quantity_after);
        }
    }
    check
}

fn step(movement: &Movement, version: i64, quantity: i64) -> Option<String> {
    let result = &movement.result;
    if result.version == version {
        return Some(format!("version {version} is there twice"));
    }
    if result.version != version + 1 {
        return Some(format!("version {} follows version {version}", result.version));
    }
    if !movement.agreed {
        return Some(format!("the lines of version {} do not agree on its outcome", result.version));
    }
    if movement.line_delta != result.delta {
        return Some(format!(
            "version {} says {:+}, its lines add up to {:+}",
            result.version, result.delta, movement.line_delta
        ));
    }
    (quantity.checked_add(result.delta) != Some(result.quantity_after)).then(|| {
        format!(
            "version {} goes from {quantity} by {:+} to {}",
            result.version, result.delta, result.quantity_after
        )
    })
}

/// The sign of a figure and its status agree. (Where `low` begins may have changed since: the reorder point is the
/// catalogue's.)
fn statuses(facts: &Facts, movements: &Movements) -> Check {
    let mut check = Check::new("statuses", "each movement's stock status fits the sign of its figure");
    for movement in movements.all() {
        let result = &movement.result;
        let fits = match result.status {
            StockStatus::Oversold => result.quantity_after < 0,
            StockStatus::Out => result.quantity_after == 0,
            StockStatus::InStock | StockStatus::Low => result.quantity_after > 0,
            StockStatus::Unknown => false,
        };
        check.expect(fits, || {
            let (row, status) = (facts.shown_stock(movement.row), result.status.as_str());
            format!("{row} version {}: {} units are called {status}", result.version, result.quantity_after)
        });
    }
    check
}
