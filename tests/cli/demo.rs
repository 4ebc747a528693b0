//! `stocktide demo`, as a person would run it: what it proves, what it leaves behind, and what it does not.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{run, stocktide};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory for a demo's temporary ones. PostgreSQL's user, who is not root, must get through.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

fn demo(place: &Path, args: &[&str]) -> Command {
    let mut command = stocktide(&["demo"]);
    command.args(args).env("TMPDIR", place);
    command
}

/// The command lines of the processes that name `place`: the servers have their data there.
fn processes(place: &Path) -> Vec<String> {
    let place = place.to_str().unwrap();
    let command_line = |entry: fs::DirEntry| {
        let bytes = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " ")).filter(|line| line.contains(place))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| command_line(entry.unwrap())).collect()
}

fn assert_nothing_is_left(place: &TempDir) {
    assert_eq!(processes(place.path()), Vec::<String>::new());
    let files: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "{files:?}");
}

/// Ends a kept stack, whether or not the test gets there.
struct Kept(String);

impl Drop for Kept {
    fn drop(&mut self) {
        let ended = stocktide(&["dev", "down", "--state-dir", &self.0]).output().unwrap();
        assert!(ended.status.success() || std::thread::panicking());
    }
}

#[test]
fn the_demo_proves_every_promise_and_leaves_nothing_behind() {
    let place = place();
    let outcome = run(&mut demo(place.path(), &["--json"])).done();
    assert_nothing_is_left(&place);
    let documents = outcome.documents();
    let [report] = documents.as_slice() else { panic!("{documents:?}") };
    assert_eq!((&report["ok"], &report["verify"]["ok"]), (&true.into(), &true.into()));
    assert!(report["seconds"].as_f64().unwrap() < 60.0, "{}", report["seconds"]);

    let fates =
        ["applied", "duplicate", "rejected", "parked"].map(|fate| report["fates"][fate].as_i64().unwrap());
    assert!(fates.iter().all(|&records| records > 0), "{fates:?}");
    // Each sound event of the month is applied once, whatever was sent twice or broken beside it.
    // 2,068 of them move stock; 1,400 are payments of online orders, one more pays too little.
    assert_eq!((fates[0], fates[3]), (2_068 + 1_400 + 1, 2));
    assert_eq!(report["payments"], json!({"joined": 1_401, "amount_mismatches": 1, "waiting": 2}));
    let paid = &report["paid_order"];
    assert_eq!((&paid["order_id"], &paid["payment_status"]), (&"536365".into(), &"captured".into()));
    let sent: i64 =
        report["sent"].as_object().unwrap().values().map(|tally| tally["sent"].as_i64().unwrap()).sum();
    assert_eq!(fates.iter().sum::<i64>(), sent);
    let reasons = report["reasons"].as_object().unwrap();
    assert_eq!(reasons.values().map(|records| records.as_i64().unwrap()).sum::<i64>(), fates[2]);
    let letters: Vec<&str> =
        report["dlq"].as_array().unwrap().iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(letters, reasons.keys().collect::<Vec<_>>());

    // Σ quantity × price of the month's ordinary sales, added up from the file without this program.
    assert_eq!(report["total_sales"], "823746.14");
    let checks = report["verify"]["checks"].as_array().unwrap();
    assert!(!checks.is_empty() && checks.iter().all(|check| check["differing"] == 0), "{checks:?}");
    let first = &report["top_products"][0];
    assert_eq!((&first["product_id"], &first["sold"]), (&"84077".into(), &5_139.into()));
    assert_eq!(report["inventory_updates"][0]["record"]["topic"], "inventory_updates");
    assert_eq!(report["stack"], Value::Null);
    assert_daily_report(&report["report"]);
}

/// Figures of the month's busiest day as `scripts/figures_from_csv.py` adds them up.
fn assert_daily_report(report: &Value) {
    let sales = &report["sales"];
    assert_eq!(report["date"], "2010-12-06");
    let counts = ["orders", "lines", "units", "cancellations", "returns", "returned_units"];
    assert_eq!(counts.map(|name| sales[name].as_i64().unwrap()), [102, 3_816, 21_795, 0, 18, 299]);
    let money = ["gross", "returned_value", "net", "average_order_value"];
    assert_eq!(money.map(|name| sales[name].as_str().unwrap()), ["54830.46", "970.28", "53860.18", "537.55"]);
    assert_eq!(report["files"].as_array().unwrap().len(), 7);
    assert!(!Path::new(report["directory"].as_str().unwrap()).exists());
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let place = place();
    let mut command = demo(place.path(), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_server = |line: &String| line.contains("/postgres ") || line.contains("java");
    let deadline = Instant::now() + Duration::from_mins(1);
    while processes(place.path()).iter().filter(|line| is_server(line)).count() < 2 {
        assert!(Instant::now() < deadline, "no servers: {:?}", processes(place.path()));
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_nothing_is_left(&place);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert!(output.stderr.ends_with(b"stopped; nothing is left of it\n"), "{output:?}");
}

#[test]
fn a_kept_demo_of_a_file_can_be_looked_at_and_ended() {
    let place = place();
    let file = place.path().join("sales.csv");
    let sales = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom
536366,22633,HAND WARMER UNION JACK,4,12/1/2010 8:28,1.85,,United Kingdom
";
    fs::write(&file, sales).unwrap();
    let demo = run(&mut demo(place.path(), &["--input", file.to_str().unwrap(), "--keep", "--json"])).done();
    let report = &demo.documents()[0];
    assert_eq!((&report["ok"], &report["total_sales"]), (&true.into(), &"22.70".into()));
    assert_eq!(report["payments"], json!({"joined": 2, "amount_mismatches": 1, "waiting": 2}));
    let made = &report["report"];
    assert_eq!((&made["date"], &made["sales"]["gross"]), (&"2010-12-01".into(), &"22.70".into()));
    let directory = Path::new(made["directory"].as_str().unwrap());
    let files = made["files"].as_array().unwrap();
    assert!(files.iter().all(|file| directory.join(file.as_str().unwrap()).is_file()), "{made}");
    let kept = Kept(report["stack"]["state_dir"].as_str().unwrap().to_owned());

    let status = run(&mut stocktide(&["dev", "status", "--json", "--state-dir", &kept.0])).done();
    assert_eq!(status.documents()[0]["database_url"], report["stack"]["database_url"]);
    let brokers = report["stack"]["kafka_brokers"].as_str().unwrap();
    let mut tail = stocktide(&["topics", "tail", "inventory_updates", "--json", "--kafka-brokers", brokers]);
    assert_eq!(run(&mut tail).done().documents().len(), 2);
    let mut show = stocktide(&["report", "show", "--json"]);
    show.env("STOCKTIDE_DATABASE_URL", report["stack"]["database_url"].as_str().unwrap());
    assert_eq!(run(&mut show).done().documents()[0]["sales"]["total"], made["sales"]);
    drop(kept);
    assert_eq!(processes(place.path()), Vec::<String>::new());
    assert!(directory.join("report.html").is_file());
}

#[test]
fn a_file_that_cannot_be_read_is_named_before_anything_is_started() {
    let place = place();
    let file = place.path().join("sales.csv");
    let outcome = run(&mut demo(place.path(), &["--input", file.to_str().unwrap()]));
    assert_eq!(outcome.code, 1);
    assert!(outcome.complaint().starts_with(&format!("cannot read {}: No such file", file.display())));
    fs::write(&file, "when,what\n2010,7\n").unwrap();
    let outcome = run(&mut demo(place.path(), &["--input", file.to_str().unwrap()]));
    assert_eq!(outcome.code, 1);
    assert!(outcome.complaint().contains("InvoiceNo"), "{outcome:?}");
    fs::remove_file(&file).unwrap();
    assert_nothing_is_left(&place);
}
