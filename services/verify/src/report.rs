//! What is said in the end: per promise how much was checked, how much differs, and the first culprits by name.

use serde::Serialize;

/// As many examples are kept of each check.
pub const EXAMPLES: usize = 5;

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every check holds.
    pub ok: bool,
    /// One entry per check, in the order in which a record meets them.
    pub checks: Vec<Check>,
    /// What could not be checked, or deserves to be known beside the checks; none of it makes the answer "no".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(checks: Vec<Check>, notes: Vec<String>) -> Report {
        Report { ok: checks.iter().all(|check| check.differing == 0), checks, notes }
    }
}

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its stable name, in snake_case.
    pub name: &'static str,
    /// What it holds true, in a sentence for people.
    #[serde(skip)]
    pub promise: &'static str,
    /// How many things were looked at; the promise says which.
    pub checked: u64,
    /// How many of them are not as they should be.
    pub differing: u64,
    /// The first of them, at most [`EXAMPLES`], each naming the culprit.
    pub examples: Vec<String>,
}

impl Check {
    pub(crate) fn new(name: &'static str, promise: &'static str) -> Check {
        Check { name, promise, checked: 0, differing: 0, examples: Vec::new() }
    }

    /// Counts one thing; `problem` is what is wrong with it.
    pub(crate) fn item(&mut self, problem: Option<String>) {
        self.checked += 1;
        if let Some(problem) = problem {
            self.differing += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(problem);
            }
        }
    }

    /// Counts one thing that should hold; the words are made only where it does not.
    pub(crate) fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        // Past the examples a difference is only counted.
        let words = (!holds).then(|| if self.examples.len() < EXAMPLES { problem() } else { String::new() });
        self.item(words);
    }

    /// Counts one thing that is wrong.
    pub(crate) fn differs(&mut self, problem: impl FnOnce() -> String) {
        self.expect(false, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_differing_item_makes_the_answer_no_and_only_the_first_ones_are_named() {
        let mut check = Check::new("sums", "sums agree");
        for n in 0..10 {
            check.expect(n < 3, || format!("item {n}"));
        }
        assert_eq!((check.checked, check.differing), (10, 7));
        assert_eq!(check.examples, ["item 3", "item 4", "item 5", "item 6", "item 7"]);
        assert!(!Report::new(vec![Check::new("none", ""), check], Vec::new()).ok);
    }

    #[test]
    fn the_document_has_the_fields_that_programs_rely_on() -> serde_json::Result<()> {
        let mut check = Check::new("stock_balances", "a sentence");
        check.differs(|| "22423@online: ledger says 41, inventory says 42".to_owned());
        let json = serde_json::to_string(&Report::new(vec![check], Vec::new()))?;
        assert_eq!(
            json,
            r#"{"ok":false,"checks":[{"name":"stock_balances","checked":1,"differing":1,"examples":["22423@online: ledger says 41, inventory says 42"]}]}"#
        );
        Ok(())
    }
}
