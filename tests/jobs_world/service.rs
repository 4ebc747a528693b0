//! A `stocktide jobs run` that goes on while a test does.
#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something holds.
pub fn until(holds: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    until_within(PATIENCE, holds, otherwise);
}

/// Waits as long as that until something holds.
pub fn until_within(patience: Duration, mut holds: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process. It is killed if the test does not end it.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it with a log of its own.
    pub fn start(command: &mut Command, log: &Path) -> Service {
        command.env("STOCKTIDE_LOG_FILTER", "info").stdout(Stdio::null()).stderr(File::create(log).unwrap());
        Service { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.log());
    }

    /// Whether it is still the process that was started.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What its admin endpoint answers: the status, and the body.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let address = || Some(self.log().split_once("http://")?.1.split_whitespace().next()?.to_owned());
        until(|| address().is_some(), || self.log());
        let mut stream = TcpStream::connect(address().unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Waits until it shows this line among its metrics.
    pub fn shows(&self, line: &str) {
        let metrics = || self.ask("/metrics").1;
        until(|| metrics().lines().any(|shown| shown == line), || format!("no {line} in {}", metrics()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
