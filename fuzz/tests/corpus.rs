//! Every target survives its corpus, and some thousand mutations of it from a fixed seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use stocktide_fuzz::engine::{self, Until, execute};
use stocktide_fuzz::targets::{TARGETS, Target};

/// Mutations of each target: a few seconds for all of them, built without optimisation.
const EXECUTIONS: u64 = 2_000;

#[test]
fn no_input_of_the_corpus_and_no_mutation_of_it_breaks_a_promise() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let mut told = Vec::new();
    for target in &TARGETS {
        let report = engine::run(target, 1, Until::Executions(EXECUTIONS), &scratch).unwrap();
        println!("{:<20} {} executions, {} answers", target.name, report.executions, report.answers);
        for (finding, input) in report.findings {
            let path = engine::keep(&scratch, target, &input).unwrap();
            told.push(format!(
                "{}: {:?}: {}, in {}",
                target.name,
                finding.kind,
                finding.what,
                path.display()
            ));
        }
        assert!(report.answers > 2, "{}: its corpus has hardly any different answers", target.name);
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_panic_too_much_memory_and_too_much_time_are_found() {
    fn panics(input: &[u8]) -> u64 {
        assert!(!input.starts_with(b"x"), "an x");
        0
    }
    fn hoards(input: &[u8]) -> u64 {
        vec![0_u8; input.len() * 1_000].len() as u64
    }
    fn dawdles(input: &[u8]) -> u64 {
        (0..input.len() * 4_000_000).fold(0, |sum, n| std::hint::black_box(sum ^ n as u64))
    }
    let of = |run| Target { name: "control", run, tokens: &[], heap_bytes: 1_000 };
    let kind =
        |run, input: &[u8]| execute(&of(run), input).0.err().map(|finding| format!("{:?}", finding.kind));
    assert_eq!(kind(panics, b"ab"), None);
    assert_eq!(kind(panics, b"xab").as_deref(), Some("Panic"));
    assert_eq!(kind(hoards, &[0; 100]).as_deref(), Some("Memory"));
    assert_eq!(kind(dawdles, &[0; 1_000]).as_deref(), Some("Time"));
}
