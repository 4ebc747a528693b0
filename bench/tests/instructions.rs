//! The processor's own work must not grow unnoticed.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn decoding_folding_and_encoding_an_event_take_no_more_instructions_than_written_down() {
    let output = Command::new(env!("CARGO_BIN_EXE_stocktide-bench")).arg("instructions").output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}{wrong}");
    assert!(["decode", "fold", "encode"].iter().all(|stage| said.contains(stage)), "{said}");
}
