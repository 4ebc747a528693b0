//! Reads the table of rules in `ARCHITECTURE.md` and that of runs in `docs/model/README.md`, so that tests can hold them against the
//! code. The runs themselves are Spin's business: `docs/model/run`.

use std::path::{Path, PathBuf};

/// A rule of the protocol, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: u32,
    /// Where it is kept.
    pub kept_in: Vec<Place>,
    /// Runs of the model that fail without it.
    pub runs: Vec<String>,
    /// Tests that fail without it.
    pub tests: Vec<Place>,
}

/// A file, and functions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From the repository's root.
    pub file: String,
    /// Their names; may be none.
    pub functions: Vec<String>,
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// The rows of the table of rules: `| number | rule | kept in | fails without it |`.
pub fn rules(architecture: &str) -> Vec<Rule> {
    architecture.lines().filter_map(rule).collect()
}

/// The names of the runs, and what is expected of each: `holds` or `fails`.
pub fn runs(readme: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        Some((cells.first()?.trim_matches('`').to_owned(), (*cells.get(3)?).to_owned()))
    };
    readme.lines().filter_map(row).collect()
}

fn rule(line: &str) -> Option<Rule> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let number = cells.next()?.parse().ok()?;
    let (_, kept_in, without) = (cells.next()?, cells.next()?, cells.next()?);
    let marked = code_spans(without);
    Some(Rule {
        number,
        kept_in: code_spans(kept_in).map(place).collect(),
        runs: marked.clone().filter(|span| !span.contains('/')).map(str::to_owned).collect(),
        tests: marked.filter(|span| span.contains('/')).map(place).collect(),
    })
}

/// What stands between backquotes.
fn code_spans(cell: &str) -> impl Iterator<Item = &str> + Clone {
    cell.split('`').skip(1).step_by(2)
}

/// `dir/file.rs: one, two`. The processor's own files stand without their folder.
fn place(span: &str) -> Place {
    let (file, functions) = span.split_once(": ").unwrap_or((span, ""));
    let file = if file.contains('/') { file.to_owned() } else { format!("services/processor/src/{file}") };
    let functions = functions.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Place { file, functions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read() {
        let row = "| 3 | Every `x`. | `a.rs: one, two`; `services/store/src/b.rs` | `same-id`; `tests/t.rs: it_holds` |";
        let place = |file: &str, functions: &[&str]| Place {
            file: file.to_owned(),
            functions: functions.iter().map(ToString::to_string).collect(),
        };
        let expected = Rule {
            number: 3,
            kept_in: vec![
                place("services/processor/src/a.rs", &["one", "two"]),
                place("services/store/src/b.rs", &[]),
            ],
            runs: vec!["same-id".to_owned()],
            tests: vec![place("tests/t.rs", &["it_holds"])],
        };
        assert_eq!(rules(&format!("| | rule |\n|---|---|\n{row}\n")), [expected]);
        assert_eq!(
            runs("| `a-b` | small | `-DX` | holds | | 7 | y |"),
            [("a-b".to_owned(), "holds".to_owned())]
        );
    }
}
