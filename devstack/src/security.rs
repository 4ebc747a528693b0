//! A stack that asks who is there: TLS, SCRAM and rights.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::Path;

use crate::account::Account;
use crate::{DevstackError, Result};

/// What the servers of a stack show, and whom they let in.
///
/// Kafka gets a second listener, at `localhost`, with TLS and SASL (SCRAM-SHA-512; OAUTHBEARER with unsigned tokens), and the
/// standard authorizer: nobody may do anything there without an ACL. PostgreSQL lets nobody in over TCP but by TLS and
/// SCRAM-SHA-256. The stack's own way in stays what it is without security, and may do everything: Kafka's first listener, and
/// the superuser on the loopback.
#[derive(Clone)]
pub struct Security {
    /// The servers' certificate and what it is signed with, as PEM.
    pub certificate: String,
    /// Its private key, as PEM (PKCS#8).
    pub key: String,
    /// Kafka's users and their passwords.
    pub users: Vec<(String, String)>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.users.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Security").field("users", &names).finish_non_exhaustive()
    }
}

/// Writes a file that nobody else can read.
pub(crate) fn write_secret(path: &Path, content: &str, account: Option<&Account>) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).map_err(DevstackError::file("remove", path))?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(DevstackError::file("create", path))?;
    file.write_all(content.as_bytes()).map_err(DevstackError::file("write", path))?;
    match account {
        Some(account) => chown(path, Some(account.uid), Some(account.gid))
            .map_err(DevstackError::file("change the owner of", path)),
        None => Ok(()),
    }
}
