//! `stocktide up` against a real PostgreSQL and Kafka.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::command::{run, stocktide};
use rustix::process::{Pid, Signal, kill_process};
use stocktide_devstack::{Stack, StackOptions};

/// Ends the service if the test does not.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(address: &str, path: &str) -> u16 {
    answer(address, path)[9..12].parse().unwrap()
}

fn answer(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn up_becomes_ready_and_ends_in_order_at_a_signal() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stack = runtime.block_on(Stack::start(StackOptions::default())).unwrap();
    let connected = |args: &[&str]| {
        let mut command = stocktide(args);
        command.args(["--database-url", &stack.database_url(), "--kafka-brokers", &stack.kafka_brokers()]);
        command
    };
    run(&mut connected(&["migrate"])).done();

    // Always due, whatever the time.
    let directory = tempfile::TempDir::new().unwrap();
    let schedule = directory.path().join("schedule.toml");
    std::fs::write(&schedule, "[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\n").unwrap();
    let reports = format!("file://{}", directory.path().join("reports").display());
    let mut up = connected(&["up"]);
    up.env("STOCKTIDE_JOBS_FILE", &schedule).env("STOCKTIDE_REPORTS_URL", reports);
    up.env("STOCKTIDE_API_LISTEN", "127.0.0.1:0");
    let mut service = Service(up.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(service.0.stderr.take().unwrap()).lines();
    let mut told = |what: &str| {
        let address = |line: String| line.split_once(what).map(|(_, address)| address.to_owned());
        log.find_map(|line| address(line.unwrap())).unwrap()
    };
    let (address, api) = (told("admin endpoint on http://"), told("API on http://"));
    // The pipe must not fill up.
    std::thread::spawn(move || log.for_each(drop));

    let deadline = Instant::now() + Duration::from_mins(1);
    while status(&address, "/ready") != 200 {
        assert!(Instant::now() < deadline, "not ready within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((status(&address, "/live"), status(&address, "/metrics")), (200, 200));
    // The API looks at Kafka for itself.
    while status(&api, "/health") != 200 {
        assert!(Instant::now() < deadline, "{}", answer(&api, "/health"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((status(&api, "/stats/global"), status(&api, "/none")), (200, 404));
    // Yesterday's report is due at once.
    let made = "stocktide_jobs_runs_finished_total{job=\"daily_report\",state=\"succeeded\"} 1";
    while !answer(&address, "/metrics").contains(made) {
        assert!(Instant::now() < deadline, "{}", answer(&address, "/metrics"));
        std::thread::sleep(Duration::from_millis(50));
    }
    // The tables are looked at every `jobs.poll`.
    let looked = "stocktide_jobs_runs{job=\"daily_report\",state=\"succeeded\"} 1";
    while !answer(&address, "/metrics").contains(looked) {
        assert!(Instant::now() < deadline, "{}", answer(&address, "/metrics"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let last = ["last_success_timestamp_seconds", "last_run_seconds", "last_success_rows"];
    for name in ["runs", "run_seconds_sum", "takeovers_total"].into_iter().chain(last) {
        let shown = answer(&address, "/metrics");
        assert!(shown.contains(&format!("\nstocktide_jobs_{name}")), "{name}: {shown}");
    }
    kill_process(Pid::from_child(&service.0), Signal::TERM).unwrap();
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
    runtime.block_on(stack.stop()).unwrap();
}
