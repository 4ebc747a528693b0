//! A Prometheus that watches services under test.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod queries;
pub mod services;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of Debian's packages prometheus and prometheus-alertmanager: on the PATH, or where `scripts/setup checks` put it.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home.map(|home| home.join(".cache")));
    let kept = cache.into_iter().map(|cache| cache.join("stocktide/prometheus/usr/bin"));
    let found =
        std::env::split_paths(&path).chain(kept).map(|directory| directory.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is not there: run scripts/setup checks"))
}

/// What a server answers to a GET. HTTP/1.0, so that the answer comes in one piece.
pub fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let status =
        head.get(9..12).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

/// A running Prometheus. It ends when it is dropped.
pub struct Prometheus {
    process: Child,
    pub address: String,
    directory: TempDir,
}

impl Prometheus {
    /// Starts one that looks at the targets of each job every second, with the repository's rules as `edited`.
    pub fn start(jobs: &[(&str, &str)], edited: impl Fn(String) -> String) -> Prometheus {
        let directory = TempDir::new().unwrap();
        let rules = edited(std::fs::read_to_string(file("prometheus/rules/stocktide.yml")).unwrap());
        std::fs::write(directory.path().join("rules.yml"), rules).unwrap();
        let mut config = "global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [rules.yml]\nscrape_configs:\n".to_owned();
        for (job, target) in jobs {
            writeln!(config, "  - {{ job_name: {job}, static_configs: [{{ targets: [\"{target}\"] }}] }}")
                .unwrap();
        }
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // Free now, and asked for at once: it takes no port 0.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Prometheus { process, address, directory };
        until("Prometheus is ready", || {
            get(&prometheus.address, "/-/ready").is_ok_and(|(status, _)| status == 200)
        });
        prometheus
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let (_, body) = get(&self.address, path).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] != "success" {
            return Err(answer["error"].as_str().unwrap_or_default().to_owned());
        }
        Ok(answer["data"].clone())
    }

    /// What an expression gives now: series, each with its labels and its value.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.api(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The rules, as Prometheus has read them.
    pub fn rules(&self) -> Vec<Value> {
        let data = self.api("/api/v1/rules").unwrap();
        let groups = data["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
    }

    /// The names of the alerts that fire.
    pub fn firing(&self) -> Vec<String> {
        let data = self.api("/api/v1/alerts").unwrap();
        let firing = data["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
