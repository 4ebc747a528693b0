//! A language model's remarks on a day's data quality, for those who want them.
//!
//! The endpoint is any that speaks OpenAI's chat completions. It is told counts, and what some rejected records look like
//! with everything masked ([`MaskedReject`]). What it answers is plain text of bounded length, kept apart from the report: no
//! figure depends on it, and no file of the report holds it, so that the report's bytes stay a function of the ledger.
//! [`narrate`] cannot fail and takes no longer than it is given.

mod answer;
mod question;

use std::fmt;
use std::time::Duration;

use chrono::NaiveDate;
use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde::Serialize;
use stocktide_domain::masked::MaskedReject;
use stocktide_domain::report::DataQuality;

pub use answer::TEXT_CHARS;
pub use question::SAMPLED_REJECTS;

/// Longest answer that is read, in bytes.
pub const ANSWER_BYTES: usize = 256 * 1024;
/// The name of the file that the remarks are kept in, beside the report's files and in no manifest.
pub const FILE_NAME: &str = "narrative.txt";

/// Whom to ask.
#[derive(Clone)]
pub struct NarrativeOptions {
    /// The endpoint, up to and with `/v1`.
    pub url: String,
    /// The model.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// The answer is waited for no longer, from the call to its last byte.
    pub timeout: Duration,
}

impl fmt::Debug for NarrativeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret, and the URL may hold one.
        f.debug_struct("NarrativeOptions")
            .field("model", &self.model)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The report that remarks are about: they belong to no other revision of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// The business day.
    pub date: NaiveDate,
    /// The revision.
    pub revision: u32,
    /// SHA-256 of its figures.
    pub figures_sha256: String,
}

impl About {
    /// Whether a file of remarks, as [`Narrative::file`] makes it, is about this report.
    pub fn is_of(&self, file: &str) -> bool {
        let label: Vec<&str> = file.lines().take(LABEL_LINES).collect();
        let [first, .., last] = label[..] else { return false };
        first.ends_with(&self.which()) && last.ends_with(&self.figures())
    }

    fn which(&self) -> String {
        format!("on the data quality of {}, revision {}.", self.date, self.revision)
    }

    fn figures(&self) -> String {
        format!("Figures: SHA-256 {}.", self.figures_sha256)
    }
}

/// How many lines of the file are its label.
const LABEL_LINES: usize = 4;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Narrative {
    /// The model answered.
    Written {
        /// Which model was asked.
        model: String,
        /// The report that the remarks are about.
        #[serde(flatten)]
        about: About,
        /// Plain text of at most [`TEXT_CHARS`] characters, without control characters and angle brackets.
        text: String,
    },
    /// There are no remarks; the report lacks nothing.
    Missing {
        /// Why, in one line of our own words; nothing that the endpoint sent is in it.
        reason: String,
    },
}

impl Narrative {
    /// The file of the remarks, with a label above them that says whose they are; none where there are none.
    pub fn file(&self) -> Option<Vec<u8>> {
        let Narrative::Written { model, about, text } = self else { return None };
        let model = answer::plain(model).replace('\n', " ");
        let file = format!(
            "Remarks of a language model ({model}) {}\n\
             Written by a machine and checked by nobody: the figures are those of data_quality.csv and report.json, and none\n\
             of them depends on what follows.\n{}\n\n{text}\n",
            about.which(),
            about.figures(),
        );
        Some(file.into_bytes())
    }
}

/// Asks for remarks on a day's data quality; whatever goes wrong is an answer of its own.
pub async fn narrate(
    options: &NarrativeOptions,
    about: &About,
    quality: &DataQuality,
    rejects: &[MaskedReject],
) -> Narrative {
    let question = question::body(&options.model, about.date, quality, rejects);
    let answer = tokio::time::timeout(options.timeout, ask(options, question)).await;
    let text = answer
        .unwrap_or_else(|_| Err(format!("no answer within {:.1} seconds", options.timeout.as_secs_f64())));
    match text {
        Ok(text) => Narrative::Written { model: options.model.clone(), about: about.clone(), text },
        Err(reason) => {
            tracing::warn!(date = %about.date, reason, "the report is without a language model's remarks");
            Narrative::Missing { reason }
        }
    }
}

async fn ask(options: &NarrativeOptions, question: Vec<u8>) -> Result<String, String> {
    let client = reqwest::Client::builder()
        // The key must go to nobody else.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|_| "the HTTP client cannot be built".to_owned())?;
    let url = format!("{}/chat/completions", options.url.trim_end_matches('/'));
    let mut request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(question);
    if let Some(key) = &options.key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let response = request.send().await.map_err(|e| said(&e))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the endpoint answered with status {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| said(&e))?;
        if body.len() + piece.len() > ANSWER_BYTES {
            return Err(format!("the answer is longer than {ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    answer::text(&body)
}

/// An error in our own words: the library's name the URL, and may quote what the server sent.
fn said(error: &reqwest::Error) -> String {
    let problem = if error.is_connect() {
        "the endpoint cannot be reached"
    } else if error.is_builder() {
        "the request cannot be built: is the URL a valid one?"
    } else {
        "the connection broke off, or what came over it is not HTTP"
    };
    problem.to_owned()
}
