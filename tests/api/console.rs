//! The console in a real browser: a private stack with the processor and the API on it, and headless Chromium driven by
//! `tests/console/drive.mjs`, which asks for what happens outside of the page.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::{run, stocktide};
use crate::support::World;
use serde_json::Value;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console");

/// A child that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The stack as seen by the program, and the API that can be ended and started again at the same address.
struct Outside {
    database_url: String,
    brokers: String,
    address: String,
    api: Option<Process>,
}

impl Outside {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = stocktide(args);
        command.args(["--database-url", &self.database_url, "--kafka-brokers", &self.brokers]);
        command
    }

    fn start_api(&mut self, token: Option<&str>) {
        let mut api = self.command(&["api", "--listen", &self.address]);
        if let Some(token) = token {
            api.env("STOCKTIDE_API_TOKEN", token).env("STOCKTIDE_API_OPEN_READS", "never");
        }
        let mut api = Process(api.stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(api.0.stderr.take().unwrap()).lines();
        let told =
            log.find_map(|line| line.unwrap().split_once("API on http://").map(|(_, at)| at.to_owned()));
        self.address = told.expect("the API listens");
        // The pipe must not fill up.
        std::thread::spawn(move || log.for_each(drop));
        self.api = Some(api);
    }

    fn send(&self, topic: &str, more: &[&str], input: &[u8]) {
        let mut send = self.command(&[&["send", topic], more].concat());
        let mut child = send.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Does what the script asks for.
    fn answer(&mut self, asked: &Value) {
        if let Some(reason) = asked["discard"].as_str() {
            let [by, note] = ["by", "note"].map(|name| asked[name].as_str().unwrap());
            run(&mut self.command(&["dlq", "discard", "--reason", reason, "--by", by, "--note", note]))
                .done();
            return;
        }
        match (asked["api"].as_str(), asked["send"].as_str()) {
            // As the kernel would end it: nobody says goodbye.
            (Some("kill"), _) => self.api = None,
            (Some("start"), _) => self.start_api(asked["token"].as_str()),
            (_, Some(topic)) => match asked["hex"].as_str() {
                Some(hex) => self.send(topic, &["--raw"], &bytes(hex)),
                None => self.send(topic, &[], asked["event"].to_string().as_bytes()),
            },
            _ => panic!("the script asks for {asked}"),
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn chromium() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    found.expect("a Chromium: run `scripts/setup checks`")
}

/// playwright-core as the lock file has it, installed once beside the build's products.
fn modules() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-browser");
    let [wanted, installed] =
        [Path::new(SCRIPTS), &folder].map(|at| std::fs::read(at.join("package-lock.json")).ok());
    if wanted != installed || !folder.join("node_modules/playwright-core/package.json").is_file() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(Path::new(SCRIPTS).join("package.json"), folder.join("package.json")).unwrap();
        // The lock file last: it says that the rest is there.
        let lock = folder.join("package-lock.json");
        std::fs::copy(Path::new(SCRIPTS).join("package-lock.json"), &lock).unwrap();
        let npm = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&folder)
            .status();
        let is_done = npm.expect("npm: run `scripts/setup checks`").success();
        if !is_done {
            std::fs::remove_file(lock).unwrap();
        }
        assert!(is_done, "npm could not install playwright-core");
    }
    folder
}

/// Enough rows for pages, and yesterday's report.
async fn furnish(world: &World, outside: &Outside, reports: &Path) {
    world.stock_shelves().await;
    world
        .execute(
            "INSERT INTO products (product_id, name, category, price, currency, reorder_point, kind)
                SELECT 'item-' || to_char(n, 'FM00'), 'Item ' || n, 'Gifts', 1, 'GBP', NULL, 'stock' FROM generate_series(1, 45) n;
             INSERT INTO inventory (product_id, location_id, quantity_on_hand, opening_quantity, last_updated)
                SELECT product_id, location_id, 20, 20, now() FROM products, locations WHERE product_id LIKE 'item-%';
             UPDATE installation SET catalogue_version = catalogue_version + 1",
        )
        .await;
    let yesterday = (stocktide_runtime::clock::now().date_naive() - chrono::Days::new(1)).to_string();
    let mut job = outside.command(&["jobs", "trigger", "daily_report", "--date", &yesterday]);
    run(job.env("STOCKTIDE_REPORTS_URL", format!("file://{}", reports.display()))).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_in_a_browser() {
    let (modules, chromium) = (modules(), chromium());
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    let reports = tempfile::TempDir::new().unwrap();
    let mut outside = Outside {
        database_url: world.stack.database_url(),
        brokers: world.stack.kafka_brokers(),
        address: "127.0.0.1:0".to_owned(),
        api: None,
    };
    furnish(&world, &outside, reports.path()).await;
    let processor = world.start_processor();
    outside.start_api(None);

    let drive = tokio::task::spawn_blocking(move || drive(&mut outside, &modules, &chromium));
    let transcript = drive.await.unwrap();
    assert!(transcript.last().is_some_and(|line| line == "all done"), "{}", transcript.join("\n"));
    processor.end().await;
    world.verify().await;
    world.stack.stop().await.unwrap();
}

/// Lets the script run, and returns what it said.
fn drive(outside: &mut Outside, modules: &Path, chromium: &Path) -> Vec<String> {
    let mut node = Command::new("node");
    node.arg(Path::new(SCRIPTS).join("drive.mjs"))
        .arg(format!("http://{}", outside.address))
        .args([modules, chromium]);
    node.arg(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = Process(node.spawn().expect("node: run `scripts/setup checks`"));
    let (mut answers, said) = (node.0.stdin.take().unwrap(), BufReader::new(node.0.stdout.take().unwrap()));
    let mut transcript = Vec::new();
    for line in said.lines() {
        let line = line.unwrap();
        if let Some(asked) = line.strip_prefix("ask ") {
            outside.answer(&serde_json::from_str(asked).unwrap());
            writeln!(answers, "done").unwrap();
        } else {
            println!("{line}");
            transcript.push(line);
        }
    }
    if node.0.wait().unwrap().success() {
        transcript.push("all done".to_owned());
    }
    transcript
}
