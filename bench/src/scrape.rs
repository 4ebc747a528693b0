//! What a process of the product says of itself on its admin port.

use std::io::{BufRead, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

/// Reads a log until it tells where the admin endpoint is.
pub fn admin_address(log: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        if let Some((_, address)) = line.split_once("admin endpoint on http://") {
            return Ok(address.trim().to_owned());
        }
        line.clear();
    }
    bail!("the product ended before it had an admin endpoint")
}

/// The body of an answer to GET; none when nobody answers 200 within a second.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// The sum of a metric over its labels; none when nobody answers.
pub fn metric(address: &str, name: &str) -> Option<f64> {
    let text = get(address, "/metrics")?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    Some(values.sum())
}

/// Waits until the product says that it is ready.
pub fn ready(address: &str, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while get(address, "/ready").is_none() {
        ensure!(Instant::now() < deadline, "not ready within {} s", within.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
