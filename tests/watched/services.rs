//! The services, each a process of its own, on a private stack.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::command::{Outcome, run, stocktide};

/// A service that runs. It ends when it is dropped.
pub struct Service {
    process: Child,
    /// Where its metrics are.
    pub address: String,
}

impl Service {
    /// Starts a service, and waits until it says where its metrics are.
    fn start(mut command: Command) -> Service {
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let told = log.find_map(|line| {
            line.unwrap().split_once("admin endpoint on http://").map(|(_, at)| at.to_owned())
        });
        let address = told.expect("it says where its metrics are");
        // The pipe must not fill up. What went wrong is worth seeing.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| println!("{line}")));
        Service { process, address }
    }

    /// Ends it in order.
    pub fn end(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The API, which serves its own address beside its metrics.
pub struct Api {
    pub service: Service,
    /// Where it answers.
    pub address: String,
}

impl Api {
    /// What it answers, head and all; nothing when it does not.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let ask = || {
            let mut stream = TcpStream::connect(&self.address)?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                self.address,
                body.len()
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        ask().unwrap_or_default()
    }
}

/// An installation, and what it takes to run its services.
pub struct World {
    pub runtime: Runtime,
    pub stack: Option<Stack>,
    pub directory: TempDir,
    url: String,
    brokers: String,
}

/// All jobs are always due, whatever the time, and do not wait long.
const SCHEDULE: &str = r#"
[[job]]
name = "daily_report"
cron = "0 0 * * *"
retries = 0

[[job]]
name = "reconcile"
cron = "0 0 * * *"
retries = 0

[[job]]
name = "retention"
cron = "0 0 * * *"
"#;

impl World {
    /// A stack with the schema, the topics and a made-up catalogue.
    pub fn start() -> World {
        let runtime = Runtime::new().unwrap();
        let stack = runtime.block_on(Stack::start(StackOptions::default())).unwrap();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("schedule.toml"), SCHEDULE).unwrap();
        let (url, brokers) = (stack.database_url(), stack.kafka_brokers());
        let world = World { runtime, stack: Some(stack), directory, url, brokers };
        world.keep_certificate(90);
        world.run(&["migrate"]);
        world.produce("40", &["--catalogue", "synthetic", "--products", "50", "--locations", "3"]);
        world
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = stocktide(args);
        let here = |name: &str| self.directory.path().join(name).display().to_string();
        command
            .env("STOCKTIDE_DATABASE_URL", &self.url)
            .env("STOCKTIDE_KAFKA_BROKERS", &self.brokers)
            .env("STOCKTIDE_JOBS_FILE", here("schedule.toml"))
            .env("STOCKTIDE_JOBS_POLL", "500ms")
            .env("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "6s")
            // It is watched, though nobody asks for it here.
            .env("STOCKTIDE_KAFKA_CERTIFICATE_FILE", here("client.pem"))
            .env("STOCKTIDE_KAFKA_KEY_FILE", here("client.key"))
            .env("STOCKTIDE_REPORTS_URL", format!("file://{}", here("reports")));
        command
    }

    /// Makes the services' own certificate anew, with so many days left.
    pub fn keep_certificate(&self, days: i64) {
        let mut wanted = rcgen::CertificateParams::new(vec!["stocktide".to_owned()]).unwrap();
        let until =
            std::time::SystemTime::now() + std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
        wanted.not_after = until.into();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = wanted.self_signed(&key).unwrap();
        let put = |name: &str, text: String| {
            let fresh = self.directory.path().join(format!("{name}.new"));
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(fresh, self.directory.path().join(name)).unwrap();
        };
        put("client.key", key.serialize_pem());
        put("client.pem", made.pem());
    }

    /// Runs a command to its good end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(self.command(args).env("STOCKTIDE_LOG_FILTER", "error")).done()
    }

    /// Sends simulated records.
    pub fn produce(&self, count: &str, more: &[&str]) {
        self.run(&[&["produce", "all", "--count", count], more].concat());
    }

    /// Sends one event, as a person would.
    pub fn send(&self, topic: &str, event: &serde_json::Value) {
        let file = self.directory.path().join("event.json");
        std::fs::write(&file, event.to_string()).unwrap();
        self.run(&["send", topic, file.to_str().unwrap()]);
    }

    pub fn service(&self, args: &[&str]) -> Service {
        Service::start(self.command(args))
    }

    /// The API, at an address that was free just now.
    pub fn api(&self) -> Api {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Api { service: self.service(&["api", "--listen", &address]), address }
    }

    /// As [`World::service`], at an address of its own choice, so that it can be found again after a restart.
    pub fn service_at(&self, address: &str, args: &[&str]) -> Service {
        let mut command = self.command(args);
        command.env("STOCKTIDE_ADMIN_LISTEN", address);
        Service::start(command)
    }

    pub fn stack(&mut self) -> (&Runtime, &mut Stack) {
        (&self.runtime, self.stack.as_mut().unwrap())
    }

    /// A query's rows, each as JSON, whatever its columns are.
    pub fn rows(&self, sql: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "SELECT row_to_json(answer)::text FROM ({}) AS answer",
            sql.trim_end().trim_end_matches(';')
        );
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.map_err(|error| error.to_string())?;
            let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_all(&mut connection).await;
            rows.map_err(|error| error.to_string())
        })
    }

    /// A query's only column.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
        })
    }

    pub fn execute(&self, sql: &str) {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        });
    }

    /// Whether a condition holds.
    pub fn holds(&self, condition: &str) -> bool {
        self.texts(&format!("SELECT ({condition})::text")) == ["true"]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.take() {
            let _ = self.runtime.block_on(stack.stop());
        }
    }
}
