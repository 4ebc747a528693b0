//! What the programs say of themselves, and what the system says of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What `/ready` answers.
    pub ready: bool,
    /// And why not.
    pub said: String,
    /// Records that met their fate.
    pub settled: f64,
    /// Records that wait.
    pub lag: f64,
    /// Batches applied.
    pub applies: f64,
    /// Seconds that they took together.
    pub apply_seconds: f64,
    /// Resident memory of the processor.
    pub processor_kib: u64,
    /// Resident memory of the API.
    pub api_kib: u64,
}

/// Looks at the processor's admin endpoint and at both processes.
pub struct Looks {
    admin: String,
    processor: u32,
    api: u32,
    /// The most memory of each process.
    most: BTreeMap<u32, u64>,
    /// The last look.
    pub last: Look,
}

impl Looks {
    /// Nothing seen yet.
    pub fn new(admin: String, processor: u32, api: u32) -> Looks {
        Looks { admin, processor, api, most: BTreeMap::new(), last: Look::default() }
    }

    /// Waits until the processor answers.
    pub async fn wait_for_the_first(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while get(&self.admin, "/live").await.is_err() {
            ensure!(Instant::now() < deadline, "the processor does not answer");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.look().await
    }

    /// Looks.
    ///
    /// # Errors
    /// When the processor does not answer: it must, whatever is on it.
    pub async fn look(&mut self) -> anyhow::Result<()> {
        let (status, ready) = get(&self.admin, "/ready").await?;
        let (_, metrics) = get(&self.admin, "/metrics").await?;
        let failing = serde_json::from_str::<Value>(&ready).unwrap_or_default()["failing"].clone();
        let said = failing
            .as_object()
            .into_iter()
            .flatten()
            .map(|(part, why)| format!("{part}: {}", why.as_str().unwrap_or_default()));
        let kib = [self.processor, self.api].map(|pid| memory(pid, "VmRSS:"));
        for pid in [self.processor, self.api] {
            let most = self.most.entry(pid).or_default();
            *most = (*most).max(memory(pid, "VmHWM:"));
        }
        let sum = |names: &[&str]| -> f64 { names.iter().map(|name| total(&metrics, name)).sum() };
        self.last = Look {
            ready: status == 200,
            said: said.collect::<Vec<_>>().join("; "),
            settled: sum(&[
                "stocktide_processor_records_applied_total{",
                "stocktide_processor_records_duplicate_total{",
                "stocktide_processor_records_rejected_total{",
            ]),
            lag: sum(&["stocktide_processor_lag_records{"]),
            applies: sum(&["stocktide_processor_stage_seconds_count{stage=\"apply\""]),
            apply_seconds: sum(&["stocktide_processor_stage_seconds_sum{stage=\"apply\""]),
            processor_kib: kib[0],
            api_kib: kib[1],
        };
        Ok(())
    }

    /// The most memory that a process had, in KiB.
    pub fn most(&self, pid: u32) -> u64 {
        self.most.get(&pid).copied().unwrap_or(0)
    }
}

/// The sum of the samples whose line begins so.
fn total(metrics: &str, beginning: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(beginning));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// A request on a connection of its own: the status and the body.
pub async fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_mins(1), answered).await??;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
