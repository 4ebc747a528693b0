//! `wrk`, which asks as fast as it is answered.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

/// What is asked, and how.
pub struct Load {
    /// The API.
    pub address: String,
    /// Asked in turn.
    pub paths: Vec<String>,
    /// Each asks again once it is answered.
    pub connections: u32,
    /// How long.
    pub seconds: u64,
}

/// How it was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Answers a second.
    pub per_second: f64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// What 1 in 100 exceeds, in milliseconds.
    pub p99_ms: f64,
    /// Requests that were answered by an error, or not at all.
    pub failed: f64,
}

const SCRIPT: &str = "
local n = 0
request = function()
  n = n % #paths + 1
  return wrk.format('GET', paths[n])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('DONE %d %d %d %d %d\\n', summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
";

impl Load {
    /// Runs it; blocks the thread.
    ///
    /// # Errors
    /// When there is no wrk, or it fails.
    pub fn run(&self) -> anyhow::Result<Answered> {
        let place = TempDir::new()?;
        let script = place.path().join("paths.lua");
        let mut paths = "paths = {\n".to_owned();
        for path in &self.paths {
            writeln!(paths, "'{path}',")?;
        }
        std::fs::write(&script, paths + "}\n" + SCRIPT)?;
        let done = Command::new("wrk")
            .args([
                "-t1",
                &format!("-c{}", self.connections),
                &format!("-d{}s", self.seconds),
                "--timeout=10s",
                "-s",
            ])
            .arg(&script)
            .arg(format!("http://{}", self.address))
            .output()
            .context("wrk cannot be started (Debian: wrk)")?;
        let said = String::from_utf8_lossy(&done.stdout);
        let numbers = said.lines().find_map(|line| line.strip_prefix("DONE "));
        let numbers = numbers.with_context(|| format!("wrk said {said}"))?;
        let numbers: Vec<f64> = numbers.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [requests, micros, p50, p99, failed] = numbers[..] else { anyhow::bail!("wrk said {said}") };
        Ok(Answered { per_second: requests / micros * 1e6, p50_ms: p50 / 1e3, p99_ms: p99 / 1e3, failed })
    }
}
