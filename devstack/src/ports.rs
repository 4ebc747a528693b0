//! Free loopback ports that stay ours while the part behind them is down.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{fs, process};

use crate::{DevstackError, Result};

/// A port that no other stack of this machine takes while this value lives.
///
/// A free port found by binding and letting go could be taken before the part binds it, and again whenever a killed part
/// is down. So it is picked outside of the range that outgoing connections use, and named in a lock that dies with
/// its owner: an abstract Unix socket.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _claim: UnixListener,
}

static CLAIMS: AtomicU32 = AtomicU32::new(0);

/// A free port, `wanted` if it is free (a kept stack likes to come back where it was).
pub(crate) fn claim(wanted: Option<u16>) -> Result<Port> {
    if let Some(port) = wanted.and_then(try_claim) {
        return Ok(port);
    }
    let (from, to) = range();
    let span = u32::from(to - from);
    // Start at a place of our own, so that stacks started together seldom ask for the same ones.
    let start =
        process::id().wrapping_mul(7919).wrapping_add(CLAIMS.fetch_add(1, Relaxed).wrapping_mul(101)) % span;
    (0..span)
        .map(|step| from + ((start + step * 13) % span) as u16)
        .find_map(try_claim)
        .ok_or(DevstackError::NoPort { from, to })
}

fn try_claim(number: u16) -> Option<Port> {
    let name = SocketAddr::from_abstract_name(format!("stocktide-port-{number}")).ok()?;
    let claim = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind(("127.0.0.1", number)).ok()?;
    Some(Port { number, _claim: claim })
}

/// Ports that the system gives to nobody by itself.
fn range() -> (u16, u16) {
    let (low, high) = ephemeral().unwrap_or((32_768, 60_999));
    if low > 20_000 {
        (15_000, low)
    } else if high < 64_000 {
        (high + 1, u16::MAX)
    } else {
        (15_000, 30_000)
    }
}

fn ephemeral() -> io::Result<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    Ok((numbers.next().unwrap_or(32_768), numbers.next().unwrap_or(60_999)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_claimed_port_is_not_given_twice_and_is_free_to_bind() {
        let first = claim(None).unwrap();
        let second = claim(Some(first.number)).unwrap();
        assert_ne!(first.number, second.number);
        TcpListener::bind(("127.0.0.1", first.number)).unwrap();
    }

    #[test]
    fn a_wanted_port_that_is_free_is_given() {
        let number = claim(None).unwrap().number;
        assert_eq!(claim(Some(number)).unwrap().number, number);
    }

    #[test]
    fn a_port_that_something_listens_on_is_passed_over() {
        let free = claim(None).unwrap().number;
        let _listener = TcpListener::bind(("127.0.0.1", free)).unwrap();
        assert_ne!(claim(Some(free)).unwrap().number, free);
    }
}
