//! A file of a report, in memory.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A file of a report: some kilobytes, so it is held whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name within the report's directory.
    pub name: &'static str,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Records in it, without the header, where it has records.
    pub rows: Option<u64>,
}

impl File {
    /// Its SHA-256, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        sha256(&self.bytes)
    }

    /// Its media type.
    pub fn media_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => "text/csv; charset=utf-8",
            Some("json") => "application/json",
            Some("html") => "text/html; charset=utf-8",
            _ => "application/octet-stream",
        }
    }
}

/// The SHA-256 of some bytes, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
