//! The rules, the code that keeps them, and what fails without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;

use stocktide_model::{Place, Rule, root, rules, runs};

fn table() -> Vec<Rule> {
    rules(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap())
}

fn readme() -> String {
    fs::read_to_string(root().join("docs/model/README.md")).unwrap()
}

/// The text of a place's file, where all its functions are.
fn text_of(place: &Place) -> Result<String, String> {
    let text = fs::read_to_string(root().join(&place.file)).map_err(|_| format!("no file {}", place.file))?;
    for name in &place.functions {
        if !text.contains(&format!("fn {name}(")) && !text.contains(&format!("fn {name}<")) {
            return Err(format!("{} has no function {name}", place.file));
        }
    }
    Ok(text)
}

#[test]
fn each_rule_is_named_where_the_table_says_that_it_is_kept() {
    let rules = table();
    assert_eq!(rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for rule in &rules {
        assert!(!rule.kept_in.is_empty(), "rule {} is kept nowhere", rule.number);
        for place in &rule.kept_in {
            match text_of(place) {
                Err(problem) => wrong.push(format!("rule {}: {problem}", rule.number)),
                Ok(text) if !names(&text, rule.number) => {
                    wrong.push(format!("rule {}: {} does not name it", rule.number, place.file));
                }
                Ok(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `rule 4`, `Rule 4`, `rules 4 and 9`.
fn names(text: &str, number: u32) -> bool {
    let text = text.to_lowercase().replace("rules ", "rule ");
    let after = |at: usize| text[at + "rule ".len()..].chars().take("5 and 9".len()).collect::<String>();
    text.match_indices("rule ").any(|(at, _)| {
        after(at)
            .split(" and ")
            .any(|word| word.trim_end_matches(|c: char| !c.is_ascii_digit()) == number.to_string())
            || after(at).starts_with(&number.to_string())
    })
}

#[test]
fn each_rule_has_a_run_of_the_model_or_a_test_that_fails_without_it() {
    let known = runs(&readme());
    for rule in table() {
        assert!(
            !rule.runs.is_empty() || !rule.tests.is_empty(),
            "rule {}: nothing fails without it",
            rule.number
        );
        for run in &rule.runs {
            let expected = known.iter().find(|(name, _)| name == run).map(|(_, expected)| expected.as_str());
            assert_eq!(expected, Some("fails"), "rule {}: the run {run}", rule.number);
        }
        for place in &rule.tests {
            assert!(!place.functions.is_empty(), "rule {}: {} and no test in it", rule.number, place.file);
            text_of(place).unwrap_or_else(|problem| panic!("rule {}: {problem}", rule.number));
        }
    }
}

#[test]
fn each_variant_of_the_model_is_run_and_expected_to_fail() {
    let model = fs::read_to_string(root().join("docs/model/stocktide.pml")).unwrap();
    let (head, _) = model.split_once("*/").unwrap();
    let (_, variants) = head.split_once("all have to fail:").unwrap();
    let variants: Vec<&str> = variants
        .lines()
        .filter_map(|line| line.trim().split(' ').next())
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase()))
        .collect();
    assert!(variants.len() >= 18, "{variants:?}");
    let readme = readme();
    for variant in variants {
        let flag = format!("-D{variant}");
        let rows = readme.lines().filter(|line| line.split([' ', '`']).any(|word| word == flag));
        assert!(rows.clone().count() > 0, "{variant} is run nowhere");
        assert!(rows.clone().all(|row| row.contains("| fails |")), "{variant} is not expected to fail");
    }
}

#[test]
fn the_small_runs_of_the_model_end_as_expected() {
    let done = Command::new(root().join("docs/model/run")).arg("small").output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    println!("{told}");
    assert!(done.status.success(), "{told}{}", String::from_utf8_lossy(&done.stderr));
    assert!(told.lines().filter(|line| line.contains(" states ")).count() >= 30, "not all were run: {told}");
}
