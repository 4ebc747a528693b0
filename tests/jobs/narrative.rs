//! A daily report with a language model beside it, as a person would have it made. The model is a local server.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::command::{run, stocktide};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_reports::narrative::About;
use tempfile::TempDir;

/// A server whose every answer is the same completion, or that never answers; and the bodies of what it was asked.
fn model(answer: Option<&str>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let body = answer.map(|text| json!({ "choices": [{ "message": { "content": text } }] }).to_string());
    let (asked, questions) = mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = asked.send(read_request(&mut connection));
            if let Some(body) = &body {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = connection.write_all((head + body).as_bytes());
            }
            kept.push(connection);
        }
    });
    (url, questions)
}

fn read_request(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = connection.read(&mut piece).unwrap_or(0);
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let length = |head: &str| {
            let line = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            line.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0)
        };
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if body.len() >= length(head) => return text,
            _ if read == 0 => return text,
            _ => {}
        }
    }
}

/// A rejected order of that day, with a name and an address in it.
const REJECT: &str = r#"INSERT INTO events_log (raw_event, processed_at, status, reason, topic, partition, "offset") VALUES
    ('{"type": "placed", "order_id": "7", "user_id": "Ann Smith", "shipping_address": "1 High Street", "items": []}',
     '2024-03-31 12:00:00Z', 'rejected', 'schema_violation', 'online_orders', 0, 7)"#;

/// A database with a rejected record, and a place for reports.
struct Shop {
    runtime: tokio::runtime::Runtime,
    stack: Stack,
    place: TempDir,
}

impl Shop {
    fn open() -> Shop {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = StackOptions { kafka: false, ..StackOptions::default() };
        let stack = runtime.block_on(Stack::start(options)).unwrap();
        let url = stack.database_url();
        runtime.block_on(async {
            stocktide_store::migrate::run(&url, "GBP", "Europe/London").await.unwrap();
            let mut connection = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(REJECT).execute(&mut connection).await.unwrap();
        });
        Shop { runtime, stack, place: tempfile::tempdir().unwrap() }
    }

    fn stocktide(&self, args: &[&str]) -> Command {
        let mut command = stocktide(args);
        command
            .env("STOCKTIDE_DATABASE_URL", self.stack.database_url())
            .env("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London")
            .env("STOCKTIDE_REPORTS_URL", format!("file://{}", self.place.path().display()))
            .env("STOCKTIDE_LOG_FILTER", "error");
        command
    }

    /// Has the day's report made; returns what became of the remarks.
    fn report(&self, model: &[(&str, &str)]) -> Value {
        let mut command =
            self.stocktide(&["jobs", "trigger", "daily_report", "--date", "2024-03-31", "--json"]);
        let run = run(command.envs(model.iter().copied())).done().documents().remove(0);
        assert_eq!(run["state"], "succeeded", "{run}");
        let tasks = run["tasks"].as_array().unwrap();
        tasks.iter().find(|task| task["task"] == "narrative").unwrap()["output"].clone()
    }

    fn execute(&self, sql: &str) {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.stack.database_url()).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        });
    }

    /// The last report, as a person is shown it.
    fn shown(&self) -> String {
        run(&mut self.stocktide(&["report", "show"])).done().stdout
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("daily_report/date=2024-03-31")
    }

    /// The report's files, without the remarks.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.directory()).into_iter().filter(|(name, _)| !name.ends_with("/narrative.txt")).collect()
    }
}

const LABEL: &str = "Remarks of a language model (small-1) on the data quality of 2024-03-31, revision 1.\n";

#[test]
fn a_report_is_the_same_with_a_model_without_one_and_with_one_that_hangs() {
    let shop = Shop::open();
    let remarks = shop.directory().join("narrative.txt");
    assert_eq!(shop.report(&[])["state"], "off");
    assert!(!remarks.exists());
    let without = shop.files();
    assert_eq!(without.len(), 7);

    let (endpoint, questions) = model(None);
    let hangs = [
        ("STOCKTIDE_NARRATIVE_URL", endpoint.as_str()),
        ("STOCKTIDE_NARRATIVE_MODEL", "small-1"),
        ("STOCKTIDE_NARRATIVE_TIMEOUT", "500ms"),
    ];
    let begun = Instant::now();
    assert_eq!(shop.report(&hangs), json!({ "state": "missing", "reason": "no answer within 0.5 seconds" }));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!remarks.exists() && !shop.shown().contains("language model"));
    questions.recv_timeout(Duration::from_secs(1)).unwrap();

    let (endpoint, questions) = model(Some("One order had <b>no items</b>."));
    let answers = [
        ("STOCKTIDE_NARRATIVE_URL", endpoint.as_str()),
        ("STOCKTIDE_NARRATIVE_MODEL", "small-1"),
        ("STOCKTIDE_NARRATIVE_KEY", "sk-hush"),
    ];
    assert_eq!(shop.report(&answers)["text"], "One order had ‹b›no items‹/b›.");
    let kept = std::fs::read_to_string(&remarks).unwrap();
    assert!(kept.starts_with(LABEL), "{kept}");
    assert_eq!(shop.files(), without, "no file of the report is another one");
    assert_asked(&questions);
    assert_shown(&shop, &kept);

    // The same report is not asked about twice.
    assert_eq!(shop.report(&answers)["state"], "kept");
    assert!(questions.try_recv().is_err());

    // Of other figures it said nothing: its remarks are not shown under them, and go when their files are written.
    let before = shop.shown();
    shop.execute(&REJECT.replace(", 0, 7)", ", 0, 8)"));
    let other = About { date: "2024-03-31".parse().unwrap(), revision: 2, figures_sha256: String::new() };
    assert!(before.contains(LABEL) && !other.is_of(&kept));
    assert_eq!(shop.report(&[])["state"], "off");
    let shown = shop.shown();
    assert!(shown.contains("revision 2\n") && !shown.contains("language model"), "{shown}");
    assert!(!remarks.exists());
    shop.runtime.block_on(shop.stack.stop()).unwrap();
}

/// What the model was told.
fn assert_asked(questions: &Receiver<String>) {
    let question = questions.recv_timeout(Duration::from_secs(1)).unwrap();
    assert!(question.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{question}");
    assert!(question.to_lowercase().contains("authorization: bearer sk-hush"), "{question}");
    assert!(question.contains("schema_violation") && question.contains("user_id: text(9)"), "{question}");
    assert!(!question.contains("Ann") && !question.contains("High Street"), "{question}");
}

/// The remarks stand in the report that is shown, under the label that says whose they are, and below all figures; what
/// somebody put into their file does not command the terminal.
fn assert_shown(shop: &Shop, kept: &str) {
    let shown = shop.shown();
    let at = shown.find(kept.trim_end()).unwrap_or_else(|| panic!("{shown}"));
    assert!(shown[..at].contains("schema_violation") && shown[at..].contains("\nFiles: "), "{shown}");
    let file = shop.directory().join("narrative.txt");
    std::fs::write(&file, format!("{kept}\x1b[2J")).unwrap();
    assert!(shop.shown().contains("\u{fffd}[2J") && !shop.shown().contains('\x1b'));
    std::fs::write(&file, kept).unwrap();
}

/// The files of a directory, by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect();
    files.sort();
    files
}
