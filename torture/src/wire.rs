//! Where in a stream of PostgreSQL's protocol a COMMIT goes by.

/// One direction of a connection, as far as it has been looked at.
#[derive(Debug)]
pub struct Scanner {
    /// Whether the first message, which has no type, is still to come.
    untyped: bool,
    wanted: Wanted,
    /// Of the message that is going by: its beginning, and how many bytes are still to come.
    head: Vec<u8>,
    left: usize,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The client's `Query` with the text COMMIT.
    Question,
    /// The server's `CommandComplete` with the tag COMMIT.
    Answer,
}

/// So much of each message is looked at: type, length, and the word with its end.
const HEAD: usize = 5 + 7;

impl Scanner {
    /// Of a connection that begins.
    pub fn new(wanted: Wanted) -> Scanner {
        Scanner { untyped: wanted == Wanted::Question, wanted, head: Vec::with_capacity(HEAD), left: 0 }
    }

    /// Looks at what goes by next. Answers how many of its bytes come before the wanted message; none where that does not
    /// begin or go on in it.
    pub fn scan(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut began = 0;
        while at < chunk.len() {
            if self.head.is_empty() {
                began = at;
            }
            let header = if self.untyped { 4 } else { 5 };
            if self.head.len() < header {
                self.head.push(chunk[at]);
                at += 1;
                if self.head.len() == header {
                    self.left = length(&self.head[header - 4..]).saturating_sub(4);
                }
            } else {
                let take = self.left.min(chunk.len() - at);
                let room = HEAD.saturating_sub(self.head.len()).min(take);
                self.head.extend_from_slice(&chunk[at..at + room]);
                self.left -= take;
                at += take;
            }
            if self.head.len() >= header && self.left == 0 {
                let found = !self.untyped && self.is_wanted();
                self.untyped = false;
                self.head.clear();
                if found {
                    return Some(began);
                }
            }
        }
        None
    }

    fn is_wanted(&self) -> bool {
        let kind = if self.wanted == Wanted::Question { b'Q' } else { b'C' };
        self.head.first() == Some(&kind) && self.head.get(5..) == Some(b"COMMIT\0")
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend((body.len() as u32 + 4).to_be_bytes());
        message.extend(body);
        message
    }

    fn startup() -> Vec<u8> {
        let mut message = message(0, b"\0\x03\0\0user\0stocktide\0\0");
        message.remove(0);
        message
    }

    #[test]
    fn a_commit_is_found_in_the_middle_of_a_flight_and_what_comes_before_it_is_told() {
        let flight = [startup(), message(b'Q', b"BEGIN\0"), message(b'd', &[7; 3_000])].concat();
        let whole = [flight.clone(), message(b'Q', b"COMMIT\0"), message(b'Q', b"BEGIN\0")].concat();
        assert_eq!(Scanner::new(Wanted::Question).scan(&whole), Some(flight.len()));
        let rows = [message(b'R', &[0; 4]), message(b'C', b"COPY 3\0")].concat();
        let whole = [rows.clone(), message(b'C', b"COMMIT\0"), message(b'Z', b"I")].concat();
        assert_eq!(Scanner::new(Wanted::Answer).scan(&whole), Some(rows.len()));
    }

    #[test]
    fn a_commit_that_comes_byte_by_byte_is_found() {
        let whole = [startup(), message(b'Q', b"COMMIT\0")].concat();
        let mut scanner = Scanner::new(Wanted::Question);
        let found: Vec<_> = whole.iter().map(|byte| scanner.scan(&[*byte])).collect();
        assert_eq!(found.last(), Some(&Some(0)));
        assert_eq!(found.iter().flatten().count(), 1);
    }

    #[test]
    fn what_only_speaks_of_a_commit_is_none() {
        let talk = [
            startup(),
            message(b'Q', b"COMMIT PREPARED 'x'\0"),
            message(b'd', b"COMMIT\0"),
            message(b'Q', b"ROLLBACK\0"),
        ];
        assert_eq!(Scanner::new(Wanted::Question).scan(&talk.concat()), None);
        assert_eq!(Scanner::new(Wanted::Answer).scan(&message(b'C', b"ROLLBACK\0")), None);
    }
}
