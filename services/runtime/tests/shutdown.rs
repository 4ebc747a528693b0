//! Signals, on a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "STOCKTIDE_TEST_SIGNALLED";

/// Not a test of its own: what the others run as a process. It never finishes its work in hand.
#[test]
fn signalled_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let token = stocktide_runtime::shutdown::on_signal();
        println!("waiting");
        token.cancelled().await;
        println!("cancelled");
        std::future::pending::<()>().await;
    });
}

fn start() -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "signalled_process", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn wait_for(stdout: &mut BufReader<ChildStdout>, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the process ended before it said {word:?}");
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn the_first_signal_asks_for_the_end_and_the_second_one_is_the_end() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let (mut child, mut stdout) = start();
        wait_for(&mut stdout, "waiting");
        send(&child, first);
        wait_for(&mut stdout, "cancelled");
        send(&child, second);
        assert_eq!(child.wait().unwrap().code(), Some(stocktide_runtime::shutdown::FORCED_EXIT));
    }
}
