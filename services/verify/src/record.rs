//! A record of a topic, wherever it was read from.

use std::borrow::Cow;

use crate::digest::Digest;

/// A header: its name, and its value if it has one.
pub type HeaderRef<'a> = (Cow<'a, str>, Option<&'a [u8]>);

/// A record of a topic.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: Vec<HeaderRef<'a>>,
}

impl<'a> Record<'a> {
    /// The last header of a name, as text. The last one, because a record that came back from `dlq` may still carry the
    /// headers of its earlier rejection.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| *key == name)?;
        std::str::from_utf8((*value)?).ok()
    }

    /// A header that holds a decimal number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.header(name)?.parse().ok()
    }

    /// What it is made of, up to a number of headers.
    pub fn fingerprint(&self, headers: usize) -> Fingerprint {
        Fingerprint {
            key: self.key.map(Digest::of),
            value: self.value.map(Digest::of),
            header_count: headers.min(self.headers.len()),
            headers: Digest::of_headers(
                self.headers.iter().take(headers).map(|(name, value)| (&**name, *value)),
            ),
        }
    }
}

/// What a record is made of, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of its key.
    pub key: Option<Digest>,
    /// Of its value.
    pub value: Option<Digest>,
    /// How many headers.
    pub header_count: usize,
    /// Of its headers.
    pub headers: Digest,
}

impl Fingerprint {
    /// The name of the first part that is not the same; none where all are.
    pub fn differs(&self, other: &Fingerprint) -> Option<&'static str> {
        match () {
            () if self.value != other.value => Some("value"),
            () if self.key != other.key => Some("key"),
            () if (self.header_count, self.headers) != (other.header_count, other.headers) => Some("headers"),
            () => None,
        }
    }
}
