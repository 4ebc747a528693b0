//! Asks a Kafka broker who is in its cluster: the one question of the protocol that tells when it is ready.
//!
//! A broker's port is open long before it serves. Its answer to a Metadata request names the brokers that the controller
//! has let in, so a broker that names itself can be worked with. Thirty lines by hand spare a client library here.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);

/// The node ids of the brokers that the one on `port` names; an error while it cannot answer.
pub(crate) async fn brokers(port: u16) -> io::Result<Vec<i32>> {
    timeout(PATIENCE, ask(port)).await?
}

async fn ask(port: u16) -> io::Result<Vec<i32>> {
    // Length, then: api key 3 (Metadata), version 1, correlation id 1, no client id, an empty list of topics.
    const REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];
    let mut broker = TcpStream::connect(("127.0.0.1", port)).await?;
    broker.write_all(&REQUEST).await?;
    let length = broker.read_u32().await?;
    let mut answer = vec![0; length.min(1 << 20) as usize];
    broker.read_exact(&mut answer).await?;
    node_ids(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The answer's correlation id, then its array of brokers: node id, host, port, rack (may be null).
fn node_ids(mut answer: &[u8]) -> Option<Vec<i32>> {
    number(&mut answer)?;
    let count = number(&mut answer)?;
    (0..count)
        .map(|_| {
            let node = number(&mut answer)?;
            skip_string(&mut answer)?;
            number(&mut answer)?;
            skip_string(&mut answer)?;
            Some(node)
        })
        .collect()
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*head))
}

fn skip_string(bytes: &mut &[u8]) -> Option<()> {
    let (head, rest) = bytes.split_first_chunk()?;
    // Length -1 is null and has no bytes.
    *bytes = rest.get(usize::try_from(i16::from_be_bytes(*head)).unwrap_or(0)..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_of_an_answer_are_read_and_a_cut_one_is_refused() {
        let answer = b"\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\x01h\0\0J\x94\xff\xff\0\0\0\x03\0\x02hh\0\0J\x95\0\x01r\0\0\0\x01";
        assert_eq!(node_ids(answer), Some(vec![1, 3]));
        assert_eq!(node_ids(&answer[..30]), None);
        assert_eq!(node_ids(b"\0\0\0\x01\0\0\0\0"), Some(vec![]));
    }
}
