//! What can go wrong with a store, in one line, and whether trying again helps.

use std::error::Error as _;
use std::io::ErrorKind;

/// Why a report could not be kept or read. The variant says what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The URL cannot be used: set another.
    #[error(
        "reports.url is {url}: {problem}; allowed: file:///a/directory, s3://bucket/prefix, gs://bucket/prefix"
    )]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store's settings or credentials cannot be used as they stand.
    #[error("{place}: {problem}")]
    Settings {
        /// Where.
        place: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The store does not accept the credentials, or they may not do this.
    #[error("{place} refuses access: {problem}")]
    Denied {
        /// Where.
        place: String,
        /// What the store says, and what to set.
        problem: String,
    },
    /// The bucket does not exist.
    #[error("{place}: there is no such bucket; create it, or set reports.url to another")]
    NoBucket {
        /// Where.
        place: String,
    },
    /// A directory cannot be written: permission, a full disk, a file in the way.
    #[error("{place} cannot be used: {problem}")]
    Directory {
        /// Where.
        place: String,
        /// What the system says.
        problem: String,
        /// Whether it may pass: a full disk does.
        passes: bool,
    },
    /// The store is away, slow, overloaded or failing: try again later.
    #[error("{place} does not serve: {problem}")]
    Unavailable {
        /// Where.
        place: String,
        /// What happened.
        problem: String,
    },
    /// A file is not what its manifest says: make the report again.
    #[error("{place} {problem}; make the report again")]
    Damaged {
        /// The file.
        place: String,
        /// How it differs.
        problem: String,
    },
}

impl StorageError {
    /// Whether the same call may succeed later with nothing changed by hand.
    pub fn is_transient(&self) -> bool {
        matches!(self, StorageError::Unavailable { .. } | StorageError::Directory { passes: true, .. })
    }
}

/// What an error of the store means.
pub(super) fn classify(error: &object_store::Error, place: &str, credentials: &str) -> StorageError {
    use object_store::Error;
    let place = place.to_owned();
    let texts = causes(error);
    let asks_instance = texts.iter().any(|text| {
        text.contains("169.254.169.254")
            || text.contains("metadata.google")
            || text.contains("/latest/api/token")
    });
    if asks_instance {
        return StorageError::Denied { place, problem: format!("no credentials: {credentials}") };
    }
    if let Some(io) = io_error(error)
        && matches!(
            error,
            Error::Generic { store: "LocalFileSystem", .. }
                | Error::NotFound { .. }
                | Error::PermissionDenied { .. }
        )
    {
        return of_directory(&place, io);
    }
    if names_bucket(error) {
        return StorageError::NoBucket { place };
    }
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StorageError::Denied { place, problem: format!("{}; {credentials}", answer(&texts)) }
        }
        // An object is only ever asked for where its absence is an answer, so it is the bucket that is missing.
        Error::NotFound { .. } => StorageError::NoBucket { place },
        _ if texts.iter().any(|text| text.contains("status code: 400")) && is_about_credentials(&texts) => {
            StorageError::Denied { place, problem: format!("{}; {credentials}", answer(&texts)) }
        }
        _ => StorageError::Unavailable { place, problem: answer(&texts) },
    }
}

/// What an error of the file system means.
pub(super) fn of_directory(place: &str, error: &std::io::Error) -> StorageError {
    let passes = matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
            | ErrorKind::StaleNetworkFileHandle
    );
    StorageError::Directory { place: place.to_owned(), problem: error.to_string(), passes }
}

/// Whether the store says that the bucket is missing.
pub(super) fn names_bucket(error: &object_store::Error) -> bool {
    causes(error).iter().any(|text| text.contains("NoSuchBucket") || text.contains("bucket does not exist"))
}

/// S3 answers 400 where a token has expired or a region does not fit the signature.
fn is_about_credentials(texts: &[String]) -> bool {
    let codes = [
        "ExpiredToken",
        "InvalidToken",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
        "invalid_grant",
    ];
    texts.iter().any(|text| codes.iter().any(|code| text.contains(code)))
}

fn causes(error: &object_store::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        texts.push(inner.to_string());
        cause = inner.source();
    }
    texts
}

fn io_error(error: &object_store::Error) -> Option<&std::io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}

/// What the store says in its own words: the code and message of its XML answer, else the innermost cause.
fn answer(texts: &[String]) -> String {
    let outer = texts.first().map_or("", String::as_str);
    let element = |name: &str| {
        let (_, rest) = outer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let said = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => texts.last().cloned().unwrap_or_default(),
    };
    let line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 300 { line } else { line.chars().take(299).chain(['…']).collect() }
}

/// What it means that a store could not even be made ready.
pub(super) fn unusable(place: &str, error: &object_store::Error) -> StorageError {
    StorageError::Settings { place: place.to_owned(), problem: answer(&causes(error)) }
}
