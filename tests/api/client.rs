//! The API in this process, and a client of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus::Registry;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use stocktide_api::Api;
use stocktide_runtime::Config;
use stocktide_runtime::admin::Health;
use stocktide_runtime::config::Sources;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The API, until it is ended.
pub struct Served {
    pub address: SocketAddr,
    pub health: Health,
    client: reqwest::Client,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The problem that it must be.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, "application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().starts_with("urn:stocktide:"), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// A configuration: another's places, and settings of its own.
pub fn settings(database: &str, brokers: &str, more: &[(&str, &str)]) -> Config {
    let mut environment = vec![
        ("STOCKTIDE_DATABASE_URL".to_owned(), database.into()),
        ("STOCKTIDE_KAFKA_BROKERS".to_owned(), brokers.into()),
        ("STOCKTIDE_API_LISTEN".to_owned(), "127.0.0.1:0".into()),
    ];
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    Config::load(&Sources { file: None, environment, flags: Vec::new() }).unwrap()
}

impl Served {
    pub async fn start(config: &Config) -> Served {
        let health = Health::new();
        let api = Api::bind(config, Registry::new(), health.clone()).await.unwrap();
        let (address, shutdown) = (api.address(), CancellationToken::new());
        let task = tokio::spawn(api.serve(shutdown.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Served { address, health, client, shutdown, task }
    }

    /// As [`Served::start`], and waits until every part works.
    pub async fn ready(config: &Config) -> Served {
        let served = Served::start(config).await;
        served.until("/health", |answer| answer.status == 200).await;
        served
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response {
        let mut request = self.client.request(method, self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], Vec::new()).await
    }

    /// The JSON of a GET that must succeed.
    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        answer.json()
    }

    /// Every row of a list, page by page.
    pub async fn all(&self, path: &str, limit: usize) -> Vec<Value> {
        let (mut rows, mut next) = (Vec::new(), String::new());
        let mark = if path.contains('?') { '&' } else { '?' };
        loop {
            let cursor = if next.is_empty() { String::new() } else { format!("&cursor={next}") };
            let mut page = self.json(&format!("{path}{mark}limit={limit}{cursor}")).await;
            if !page["movements"].is_null() {
                page = page["movements"].take();
            }
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit && (items.len() == limit || page["next"].is_null()), "{page}");
            rows.extend(items.iter().cloned());
            match page["next"].as_str() {
                Some(cursor) => cursor.clone_into(&mut next),
                None => return rows,
            }
        }
    }

    pub async fn send(&self, topic: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        let json = ("content-type", "application/json");
        let is_typed = headers.iter().any(|(name, _)| *name == "content-type");
        let headers: Vec<_> = headers.iter().copied().chain((!is_typed).then_some(json)).collect();
        self.ask(Method::POST, &format!("/events/{topic}"), &headers, body.into()).await
    }

    /// Sends until Kafka has acknowledged it.
    pub async fn until_sent(&self, topic: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(topic, headers, body).await;
            if answer.status != 503 {
                return answer;
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path}: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it in order.
    pub async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap().unwrap();
    }
}
