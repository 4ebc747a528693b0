//! Fingerprints, so that a million records can be compared without holding their bytes.

use sha2::{Digest as _, Sha256};

/// The first half of a SHA-256: no two records that differ share it by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(&Sha256::digest(bytes))
    }

    /// Of a SHA-256 that somebody else computed.
    pub fn from_sha256(hash: &[u8]) -> Digest {
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(hash) {
            *to = *from;
        }
        Digest(u128::from_be_bytes(first))
    }

    /// Of a record's headers, in their order.
    pub fn of_headers<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Digest {
        let mut hash = Sha256::new();
        // Lengths first, so that no two lists of headers spell the same bytes; a missing value is not an empty one.
        for (name, value) in headers {
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name.as_bytes());
            hash.update(value.map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
            hash.update(value.unwrap_or_default());
        }
        Digest::from_sha256(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_apart_by_where_they_end() {
        let one = Digest::of_headers([("ab", Some(&b"c"[..]))]);
        assert_ne!(one, Digest::of_headers([("a", Some(&b"bc"[..]))]));
        assert_ne!(Digest::of_headers([("a", None)]), Digest::of_headers([("a", Some(&b""[..]))]));
        assert_eq!(one, Digest::of_headers([("ab", Some(&b"c"[..]))]));
    }

    #[test]
    fn it_is_the_database_s_sha256() {
        let hash = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
            0x27,
        ];
        assert_eq!(Digest::of(b""), Digest::from_sha256(&hash));
    }
}
