//! Where reports are kept: a directory (`file://`), S3 (`s3://`) or Google Cloud Storage (`gs://`).
//!
//! A report is one directory, `daily_report/date=YYYY-MM-DD/`. Each file appears whole or not at all, and the manifest is
//! written last: while a revision is being replaced, the old manifest stands beside some new files and its digests say so.
//! What is written depends on the report alone, so a repetition overwrites with the same bytes. One that finds the manifest
//! with equal digests reads the files back and writes those alone that are missing or damaged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDate;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetResult, ObjectStore, ObjectStoreExt as _, PutOptions};
use sha2::{Digest as _, Sha256};

use crate::file::{File, sha256};
use crate::manifest::{Entry, MANIFEST, Manifest};
use crate::render::FILES;

mod error;
mod open;
mod remarks;

pub use error::StorageError;

use error::classify;

/// How a store is reached.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// The stores' settings under `object_store`'s own names: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT` ….
    /// Names that it does not know are passed over.
    pub settings: Vec<(String, String)>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How often a request is repeated when the store is away or overloaded.
    pub retries: usize,
    /// How long one file may take, with all its retries.
    pub deadline: Duration,
}

impl Default for StorageOptions {
    fn default() -> StorageOptions {
        StorageOptions {
            settings: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            retries: 3,
            deadline: Duration::from_mins(1),
        }
    }
}

impl StorageOptions {
    /// The defaults, with the settings of this process's environment that begin with `AWS_` or `GOOGLE_`. Empty ones are as good as not
    /// set: what passes variables on, as Compose does, makes such of those that are not.
    pub fn of_process() -> StorageOptions {
        let ours = |name: &str| name.starts_with("AWS_") || name.starts_with("GOOGLE_");
        let settings = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| ours(name) && !value.is_empty());
        StorageOptions { settings: settings.collect(), ..StorageOptions::default() }
    }
}

/// Where reports are kept.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL, for messages.
    place: String,
    /// The directory, where it is one.
    directory: Option<PathBuf>,
    /// What to set where the store asks for credentials.
    credentials: &'static str,
    deadline: Duration,
}

/// What [`Storage::put_report`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Names of the files that were written, in this order; none: the report was there already, whole.
    pub written: Vec<&'static str>,
}

impl Storage {
    /// Makes ready to use the place that a URL names; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StorageError::Url`] or [`StorageError::Settings`], when the URL or the credentials cannot be used.
    pub fn open(url: &str, options: &StorageOptions) -> Result<Storage, StorageError> {
        open::open(url, options)
    }

    /// Makes ready to use a directory, by its path.
    ///
    /// # Errors
    /// [`StorageError::Url`], when it is no path that a store could name.
    pub fn in_directory(
        directory: &std::path::Path,
        options: &StorageOptions,
    ) -> Result<Storage, StorageError> {
        open::in_directory(directory, options)
    }

    /// The URL, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The URL of a day's report.
    pub fn report_place(&self, date: NaiveDate) -> String {
        format!("{}/{}", self.place, directory_of(date))
    }

    /// Keeps a report: its files in the order given, the manifest last. Where the same report is there already it is read back,
    /// and what is damaged is written again.
    ///
    /// # Errors
    /// [`StorageError`]. No file is left half-written, the manifest is not changed before all others are durable, and
    /// calling it again completes the work.
    pub async fn put_report(&self, date: NaiveDate, files: &[File]) -> Result<Put, StorageError> {
        let mut written = Vec::new();
        for file in self.differing(date, files).await? {
            self.put(date, file).await?;
            written.push(file.name);
        }
        if !written.is_empty() {
            self.clear_leftovers(date);
        }
        Ok(Put { written })
    }

    /// The manifest of a day's report; none: there is no report, or its manifest cannot be read as one.
    ///
    /// # Errors
    /// [`StorageError`], when the store does not answer or refuses.
    pub async fn manifest(&self, date: NaiveDate) -> Result<Option<Manifest>, StorageError> {
        let Some(bytes) = self.get(date, MANIFEST).await? else { return Ok(None) };
        Ok(read(&bytes))
    }

    /// Fetches a file of a day's report and holds it against the manifest's entry.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], when it is missing or has another digest; else as [`Storage::manifest`].
    pub async fn fetch(&self, date: NaiveDate, entry: &Entry) -> Result<Bytes, StorageError> {
        let damaged = |problem: &str| StorageError::Damaged {
            place: format!("{}/{}", self.report_place(date), entry.name),
            problem: problem.to_owned(),
        };
        let bytes = self.get(date, &entry.name).await?.ok_or_else(|| damaged("is missing"))?;
        if sha256(&bytes) == entry.sha256 { Ok(bytes) } else { Err(damaged("differs from its manifest")) }
    }

    /// Fetches a day's report whole, each file held against the manifest; none: there is no report.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], when a file is missing, differs from the manifest or belongs to no report; else as
    /// [`Storage::manifest`].
    pub async fn report(&self, date: NaiveDate) -> Result<Option<(Manifest, Vec<File>)>, StorageError> {
        let Some(bytes) = self.get(date, MANIFEST).await? else { return Ok(None) };
        let damaged = |name: &str, problem: String| StorageError::Damaged {
            place: format!("{}/{name}", self.report_place(date)),
            problem,
        };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(MANIFEST, format!("cannot be read ({error})")))?;
        let mut files = Vec::new();
        for entry in &manifest.files {
            // Only names that reports have: a manifest from elsewhere could name any path.
            let name = FILES.into_iter().find(|name| *name == entry.name && *name != MANIFEST);
            let name = name.ok_or_else(|| {
                damaged(MANIFEST, format!("names {:?}, which is no file of a report", entry.name))
            })?;
            let bytes = self.fetch(date, entry).await?.to_vec();
            files.push(File { name, bytes, rows: entry.rows });
        }
        files.push(File { name: MANIFEST, bytes: bytes.to_vec(), rows: None });
        Ok(Some((manifest, files)))
    }

    /// What has to be written, the manifest last: everything, unless the manifest that is there has the same digests; then
    /// what differs from it.
    async fn differing<'f>(&self, date: NaiveDate, files: &'f [File]) -> Result<Vec<&'f File>, StorageError> {
        let (manifest, others): (Vec<&File>, Vec<&File>) =
            files.iter().partition(|file| file.name == MANIFEST);
        let stored = self.get(date, MANIFEST).await?.unwrap_or_default();
        let new: Vec<Entry> = others.iter().map(|file| Entry::of(file)).collect();
        if read(&stored).is_none_or(|manifest| manifest.files != new) {
            return Ok(others.into_iter().chain(manifest).collect());
        }
        let mut differing = Vec::new();
        for file in others {
            // Equal lengths would say nothing of a bit that has turned over.
            if self.digest(date, file.name).await? != Some(Sha256::digest(&file.bytes).into()) {
                differing.push(file);
            }
        }
        differing.extend(manifest.into_iter().filter(|file| !says_the_same(&stored, &file.bytes)));
        Ok(differing)
    }

    /// The SHA-256 of a file as it is stored, read piece by piece; none: it is not there.
    async fn digest(&self, date: NaiveDate, name: &str) -> Result<Option<[u8; 32]>, StorageError> {
        let path = self.path(date, Some(name));
        self.in_time(async {
            let Some(object) = self.object(&path).await? else { return Ok(None) };
            let (mut pieces, mut digest) = (object.into_stream(), Sha256::new());
            while let Some(piece) = pieces.try_next().await? {
                digest.update(&piece);
            }
            Ok(Some(digest.finalize().into()))
        })
        .await
    }

    async fn get(&self, date: NaiveDate, name: &str) -> Result<Option<Bytes>, StorageError> {
        let path = self.path(date, Some(name));
        self.in_time(async {
            match self.object(&path).await? {
                Some(object) => object.bytes().await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn object(&self, path: &Path) -> Result<Option<GetResult>, object_store::Error> {
        match self.store.get(path).await {
            Ok(object) => Ok(Some(object)),
            // Where the bucket itself is missing, that is an error.
            Err(error @ object_store::Error::NotFound { .. }) if !error::names_bucket(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, date: NaiveDate, file: &File) -> Result<(), StorageError> {
        let mut options = PutOptions::default();
        // A directory keeps no attributes.
        if self.directory.is_none() {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, file.media_type())]);
        }
        let path = self.path(date, Some(file.name));
        self.in_time(async { self.store.put_opts(&path, file.bytes.clone().into(), options).await.map(drop) })
            .await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, StorageError> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(outcome) => outcome.map_err(|error| classify(&error, &self.place, self.credentials)),
            Err(_) => Err(StorageError::Unavailable {
                place: self.place.clone(),
                problem: format!("no answer within {:?}", self.deadline),
            }),
        }
    }

    fn path(&self, date: NaiveDate, name: Option<&str>) -> Path {
        let directory = directory_of(date);
        let parts = directory.split('/').chain(name);
        parts.fold(self.prefix.clone(), Path::join)
    }

    /// Removes what a killed process had begun to write in a directory: its names end in `#1`, `#2` ….
    fn clear_leftovers(&self, date: NaiveDate) {
        let Some(directory) = &self.directory else { return };
        let Ok(entries) = std::fs::read_dir(directory.join(directory_of(date))) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_leftover =
                name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(|(_, number)| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                });
            if is_leftover && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(file = %entry.path().display(), %error, "a file begun by a killed process stays");
            }
        }
    }
}

fn read(manifest: &[u8]) -> Option<Manifest> {
    serde_json::from_slice(manifest).ok()
}

/// Whether a stored manifest is the new one. The version that wrote the same files may be another.
fn says_the_same(stored: &[u8], new: &[u8]) -> bool {
    let (Some(before), Some(after)) = (read(stored), read(new)) else { return false };
    stored == new
        || before.code_version != after.code_version
            && before == Manifest { code_version: before.code_version.clone(), ..after }
}

/// The directory of a day's report within the place.
pub fn directory_of(date: NaiveDate) -> String {
    format!("daily_report/date={date}")
}
