//! The configuration's file and environment.

use std::ffi::OsString;
use std::io::Write as _;

use stocktide_runtime::Config;
use stocktide_runtime::config::Sources;

use super::{answer, told};

pub const TOKENS: &[&str] = &[
    "[database]\n",
    "[kafka]\n",
    "[kafka.properties]\n",
    "[business]\n",
    "[processor]\n",
    "[api]\n",
    "[log]\n",
    "[payments]\n",
    "url = ",
    "brokers = ",
    "timezone = ",
    "\"Europe/London\"",
    "\"10s\"",
    "\"1 GiB\"",
    "\"64MiB\"",
    "batch_linger = ",
    "filter = ",
    "wait = ",
    "\"postgres://u:p@h:5432/d?sslmode=verify-full\"",
    "\"localhost:9092,other:9093\"",
    "\"[::1]:8080\"",
    "security.protocol = ",
    "STOCKTIDE_DATABASE_URL=",
    "STOCKTIDE_KAFKA_BROKERS=",
    "STOCKTIDE_KAFKA_PROPERTIES_",
    "STOCKTIDE_LOG_FILTER=",
    "STOCKTIDE_PAYMENTS_WAIT=",
    "STOCKTIDE_PROCESSOR_BATCH_MAX_BYTES=",
    "STOCKTIDE_BUSINESS_CURRENCY=",
    "info,stocktide=debug",
    "9999999y",
    "1ns",
    "\"\"\"",
    "'''",
    "1979-05-27T07:32:00Z",
    "inf",
];

/// A `stocktide.toml`.
pub fn file(input: &[u8]) -> u64 {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return 0 };
    if file.write_all(input).is_err() {
        return 0;
    }
    load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
}

/// Variables, one a line.
pub fn environment(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let variable =
        |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), OsString::from(value)));
    load(&Sources { environment: text.lines().filter_map(variable).collect(), ..Sources::default() })
}

fn load(sources: &Sources) -> u64 {
    match Config::load(sources) {
        Ok(config) => {
            // What is shown to people shows no password.
            let urls = [config.database_url().is_ok(), config.kafka_brokers().is_ok()];
            answer(&format!("{urls:?}"))
        }
        Err(error) => {
            let error = error.to_string();
            // Where the file happens to lie makes no other answer.
            let path = sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            told(&if path.is_empty() { error } else { error.replace(&path, "file") })
        }
    }
}
