//! Where a reader of `inventory_updates` stands: the next offset of each partition.

use std::fmt;

/// The most partitions whose place is read.
const MOST_PARTITIONS: usize = 10_000;

/// The next offset of each partition, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place(pub Vec<i64>);

impl Place {
    /// Reads what [`fmt::Display`] wrote.
    pub fn read(text: &str) -> Option<Place> {
        let offset = |part: &str| {
            let is_plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            is_plain.then(|| part.parse::<i64>().ok()).flatten()
        };
        let offsets: Vec<i64> = text.split('.').map(offset).collect::<Option<_>>()?;
        (offsets.len() <= MOST_PARTITIONS).then_some(Place(offsets))
    }

    /// A record was read.
    pub fn pass(&mut self, partition: i32, offset: i64) {
        if let Some(next) = usize::try_from(partition).ok().and_then(|at| self.0.get_mut(at)) {
            *next = offset + 1;
        }
    }

    /// The next offset of a partition; one that has been added since begins at its beginning.
    pub fn of(&self, partition: usize) -> i64 {
        self.0.get(partition).copied().unwrap_or(0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, offset) in self.0.iter().enumerate() {
            write!(f, "{}{offset}", if at > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let mut place = Place(vec![0, 12, 9_000_000_000]);
        place.pass(1, 40);
        place.pass(7, 1);
        assert_eq!(place.to_string(), "0.41.9000000000");
        assert_eq!(Place::read("0.41.9000000000").unwrap(), place);
        assert_eq!((place.of(1), place.of(3)), (41, 0));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "x", "1.", ".1", "-1", "1..2", "1 2", "99999999999999999999", "+1", "٣"] {
            assert!(Place::read(text).is_none(), "{text}");
        }
        assert!(Place::read(&vec!["1"; 10_001].join(".")).is_none());
    }
}
