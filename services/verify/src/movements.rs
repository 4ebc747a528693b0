//! The ledger, seen from the stock rows: what each event made of each row.

use std::ops::Range;

use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::facts::{Coordinates, Facts, StockResult};
use crate::names::Name;

/// A product at a location.
pub type StockKey = (Name, Name);

/// One event's change of one stock row, from its lines.
#[derive(Debug, Clone, Copy)]
pub struct Movement {
    /// The row.
    pub row: StockKey,
    /// The record.
    pub at: Coordinates,
    /// The event.
    pub event: Uuid,
    /// Microseconds since 1970.
    pub processed_at: i64,
    /// What its first line says of the outcome.
    pub result: StockResult,
    /// The sum of what its lines add.
    pub line_delta: i64,
    /// Whether its lines agree on the outcome.
    pub agreed: bool,
}

/// All movements, by stock row and version.
#[derive(Debug)]
pub struct Movements {
    all: Vec<Movement>,
    rows: FxHashMap<StockKey, Range<u32>>,
}

impl Movements {
    /// Those of a ledger.
    pub fn of(facts: &Facts) -> Movements {
        let mut all: Vec<Movement> = Vec::with_capacity(facts.lines.len());
        // Lines are in the order of their records; an event's lines on one row need not be neighbours.
        let mut open: FxHashMap<StockKey, usize> = FxHashMap::default();
        let mut last = None;
        for line in &facts.lines {
            let Some(result) = line.result else { continue };
            if last != Some((line.at, line.event)) {
                last = Some((line.at, line.event));
                open.clear();
            }
            let row = (line.product, line.location);
            if let Some(movement) = open.get(&row).and_then(|&index| all.get_mut(index)) {
                movement.line_delta += line.stock_delta();
                movement.agreed &= movement.result == result && movement.processed_at == line.processed_at;
                continue;
            }
            open.insert(row, all.len());
            all.push(Movement {
                row,
                at: line.at,
                event: line.event,
                processed_at: line.processed_at,
                result,
                line_delta: line.stock_delta(),
                agreed: true,
            });
        }
        all.sort_unstable_by_key(|m| (m.row, m.result.version, m.event));
        let mut rows: FxHashMap<StockKey, Range<u32>> = FxHashMap::default();
        let mut start = 0;
        for movements in all.chunk_by(|a, b| a.row == b.row) {
            let end = start + movements.len() as u32;
            rows.insert(movements[0].row, start..end);
            start = end;
        }
        Movements { all, rows }
    }

    /// All of them, by stock row and version.
    pub fn all(&self) -> &[Movement] {
        &self.all
    }

    /// Those of a stock row, by version.
    pub fn of_row(&self, row: StockKey) -> &[Movement] {
        self.rows.get(&row).map_or(&[], |range| &self.all[range.start as usize..range.end as usize])
    }

    /// The stock rows that moved.
    pub fn rows(&self) -> impl Iterator<Item = &[Movement]> {
        self.all.chunk_by(|a, b| a.row == b.row)
    }

    /// The index of an event's change of a row to a version.
    pub fn find(&self, row: StockKey, version: i64, event: Uuid) -> Option<usize> {
        let start = self.rows.get(&row)?.start as usize;
        let found = self.of_row(row).binary_search_by_key(&(version, event), |m| (m.result.version, m.event));
        found.ok().map(|index| start + index)
    }
}
