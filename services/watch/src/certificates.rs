//! When certificates expire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stocktide_runtime::Config;
use stocktide_runtime::tls::expiry::{self, Expiry, OF_FILES, OF_SERVERS};

use crate::metrics::Metrics;

/// How often the servers' certificates are looked at; the files are at each look.
const EVERY: Duration = Duration::from_mins(10);

/// Looks at the certificates that the installation hangs on.
pub struct Certificates {
    config: Config,
    metrics: Arc<Metrics>,
    servers: BTreeMap<&'static str, f64>,
    looked: Option<Instant>,
}

impl Certificates {
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Certificates {
        Certificates { config: config.clone(), metrics, servers: BTreeMap::new(), looked: None }
    }

    /// Shows when each expires: infinity where none is used, nothing where it is not known.
    ///
    /// # Errors
    /// The first one that could not be looked at.
    pub async fn look(&mut self) -> anyhow::Result<()> {
        let mut trouble = None;
        if self.looked.is_none_or(|looked| looked.elapsed() >= EVERY) {
            self.looked = Some(Instant::now());
            let found = expiry::of_servers(&self.config).await;
            self.servers = known(&OF_SERVERS, found, &mut trouble);
        }
        let files = known(&OF_FILES, expiry::of_files(&self.config), &mut trouble);
        let gauge = &self.metrics.certificate_expiry;
        gauge.reset();
        for (name, at) in self.servers.iter().chain(&files) {
            gauge.with_label_values(&[*name]).set(*at);
        }
        trouble.map_or(Ok(()), |problem| Err(anyhow::Error::msg(problem)))
    }
}

fn known(
    all: &[&'static str],
    found: Vec<Expiry>,
    trouble: &mut Option<String>,
) -> BTreeMap<&'static str, f64> {
    let mut known: BTreeMap<&'static str, f64> = all.iter().map(|name| (*name, f64::INFINITY)).collect();
    for (name, at) in found {
        match at {
            Ok(at) => drop(known.insert(name, at.timestamp() as f64)),
            Err(problem) => {
                known.remove(name);
                trouble.get_or_insert(problem);
            }
        }
    }
    known
}
