//! Whether the brokers let us in. Asked before a command begins: librdkafka goes on trying whatever is wrong, and says of a
//! certificate no more than that it could not be verified.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use super::{client_config, give_token, token};
use crate::Config;
use crate::tls::{self, Greeting, LookError, Server};

/// How long the brokers may take to let us in; who is merely slow or away is left to whoever works with them.
const PATIENCE: Duration = Duration::from_secs(5);
const ASK_FOR: Duration = Duration::from_millis(500);

/// The brokers do not let us in, or are not who they should be. It does not pass by itself.
#[derive(Debug, thiserror::Error)]
#[error("Kafka at {brokers}: {problem}")]
pub struct Refused {
    brokers: String,
    problem: String,
}

/// Asks the brokers for a sign of life, where TLS or SASL are between us.
///
/// # Errors
/// One line: an expired certificate, one for another host, one that nobody trusted has signed, a name or password that are
/// refused, a file that cannot be read. Brokers that do not answer are no error here.
pub async fn reach(config: &Config) -> Result<(), Refused> {
    let client = client_config(config);
    let Some(brokers) = config.kafka.brokers.clone().filter(|_| is_secured(&client)) else { return Ok(()) };
    if let Err(problem) = files_can_be_read(&client) {
        return Err(Refused { brokers, problem });
    }
    let asked = client.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&asked)).await;
    let problem = match asked {
        Ok(Answer::LetIn) | Err(_) => return Ok(()),
        Ok(Answer::Silence) => match look_closer(&client, &brokers).await {
            Some(problem) => problem,
            None => return Ok(()),
        },
        Ok(Answer::Certificate(reason)) => {
            let looked = look_closer(&client, &brokers).await;
            looked.unwrap_or_else(|| in_one_line(&reason))
        }
        Ok(Answer::Refused(problem)) => problem,
    };
    Err(Refused { brokers, problem })
}

/// librdkafka would not say which file it is.
fn files_can_be_read(client: &ClientConfig) -> Result<(), String> {
    let file = |name: &str| client.get(name).map(PathBuf::from).filter(|path| !path.is_dir());
    for certificates in ["ssl.ca.location", "ssl.certificate.location"].into_iter().filter_map(file) {
        tls::certificates(&certificates)?;
    }
    match file("ssl.key.location") {
        Some(key) => std::fs::File::open(&key).map(drop).map_err(|e| format!("{}: {e}", key.display())),
        None => Ok(()),
    }
}

/// Whether TLS or SASL are asked for.
pub fn is_secured(client: &ClientConfig) -> bool {
    client.get("security.protocol").is_some_and(|protocol| !protocol.eq_ignore_ascii_case("plaintext"))
}

/// The brokers to ask first, as servers to look at; none where they are spoken to without TLS.
pub fn tls_servers(client: &ClientConfig) -> Vec<Server> {
    let protocol = client.get("security.protocol").unwrap_or_default().to_ascii_lowercase();
    if !protocol.ends_with("ssl") {
        return Vec::new();
    }
    let file = |name: &str| client.get(name).map(PathBuf::from);
    let identity = file("ssl.certificate.location").zip(file("ssl.key.location"));
    let brokers = client.get("bootstrap.servers").unwrap_or_default();
    let server = |address: &str| {
        let (host, port) = address.trim().rsplit_once(':')?;
        Some(Server {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().ok()?,
            greeting: Greeting::None,
            ca_file: file("ssl.ca.location"),
            identity: identity.clone(),
        })
    };
    brokers.split(',').filter_map(server).collect()
}

enum Answer {
    LetIn,
    /// Neither that nor a reason.
    Silence,
    /// Something is wrong with TLS.
    Certificate(String),
    Refused(String),
}

fn ask(client: &ClientConfig) -> Answer {
    let consumer: BaseConsumer<Hearing> = match client.create_with_context(Hearing::default()) {
        Ok(consumer) => consumer,
        Err(error) => return Answer::Refused(in_one_line(&error.to_string())),
    };
    if let Err(problem) = give_token(consumer.client(), client) {
        return Answer::Refused(problem);
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if consumer.fetch_metadata(None, ASK_FOR).is_ok() {
            return Answer::LetIn;
        }
        // What went wrong is told while polling.
        while consumer.poll(Duration::ZERO).is_some() {}
        if let Some((code, reason)) = consumer.context().heard() {
            if code == RDKafkaErrorCode::SSL {
                return Answer::Certificate(reason);
            }
            let name = client.get("sasl.username").map(|name| format!(" {name:?}")).unwrap_or_default();
            return Answer::Refused(format!(
                "the brokers refuse the user{name}: wrong name or password, or a mechanism that they do not offer ({})",
                in_one_line(&reason)
            ));
        }
    }
    Answer::Silence
}

/// What rustls says of the brokers' certificates; none: nothing is wrong with them, or nobody is there.
async fn look_closer(client: &ClientConfig, brokers: &str) -> Option<String> {
    for server in tls_servers(client) {
        match tls::look(&server).await {
            Ok(seen) if seen.wrong.is_some() => return seen.wrong,
            Ok(_) | Err(LookError::Away(_)) => {}
            Err(LookError::Unfit(problem)) => return Some(problem),
        }
    }
    tracing::debug!("nothing is wrong with the certificates at {brokers}");
    None
}

/// librdkafka's reason without the thread and broker in front of it.
fn in_one_line(reason: &str) -> String {
    let reason = reason.split_once("]: ").map_or(reason, |(_, rest)| rest);
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Keeps what does not pass by itself.
#[derive(Default)]
struct Hearing(Mutex<Option<(RDKafkaErrorCode, String)>>);

impl Hearing {
    fn heard(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Hearing {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token(file)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let lasting = [RDKafkaErrorCode::SSL, RDKafkaErrorCode::Authentication];
        if let Some(code) = error.rdkafka_error_code().filter(|code| lasting.contains(code)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Hearing {}
