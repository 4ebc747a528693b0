//! From a URL to a store.

use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::{Storage, StorageError, StorageOptions};

const S3_CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_SECRET_ACCESS_KEY_FILE (and AWS_ENDPOINT, AWS_REGION where they differ)";
const GCS_CREDENTIALS: &str = "set GOOGLE_SERVICE_ACCOUNT to the file of a service account's key";

pub(super) fn open(url: &str, options: &StorageOptions) -> Result<Storage, StorageError> {
    let wrong = |problem: &str| StorageError::Url { url: url.to_owned(), problem: problem.to_owned() };
    let Some((scheme, rest)) = url.split_once("://") else { return Err(wrong("it is no URL")) };
    match scheme {
        "file" => {
            let directory = directory(rest).map_err(|problem| wrong(&problem))?;
            // Who reads the place later may work in another directory.
            let absolute = Url::from_file_path(&directory).ok().filter(|_| !rest.starts_with('/'));
            local(directory, absolute.as_ref().map_or(url, Url::as_str), options)
        }
        "s3" | "gs" => {
            let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
            let bucket = parsed.host_str().filter(|bucket| !bucket.is_empty());
            let bucket = bucket.ok_or_else(|| wrong("it names no bucket"))?;
            let has_more = !parsed.username().is_empty()
                || parsed.password().is_some()
                || parsed.port().is_some()
                || parsed.query().is_some()
                || parsed.fragment().is_some();
            if has_more {
                let bare = format!("{scheme}://{bucket}{}", parsed.path());
                let problem = "it may hold a bucket and a prefix only".to_owned();
                return Err(StorageError::Url { url: bare, problem });
            }
            let prefix = Path::from_url_path(parsed.path()).map_err(|error| wrong(&error.to_string()))?;
            let unusable = |error: object_store::Error| super::error::unusable(url, &error);
            let options = &if scheme == "s3" { with_secret(url, options)? } else { options.clone() };
            if scheme == "s3" {
                check_endpoint(url, options)?;
            }
            let (store, credentials) = match scheme {
                "s3" => (s3(bucket, options).map_err(unusable)?, S3_CREDENTIALS),
                _ => (gcs(bucket, options).map_err(unusable)?, GCS_CREDENTIALS),
            };
            Ok(storage(store, prefix, url, options, credentials))
        }
        _ => Err(wrong("it has another scheme")),
    }
}

pub(super) fn in_directory(directory: &FilePath, options: &StorageOptions) -> Result<Storage, StorageError> {
    let url = format!("file://{}", directory.display());
    let absolute =
        std::path::absolute(directory).map_err(|error| super::error::of_directory(&url, &error))?;
    local(absolute, &url, options)
}

fn local(directory: PathBuf, url: &str, options: &StorageOptions) -> Result<Storage, StorageError> {
    let prefix = Path::from_absolute_path(&directory)
        .map_err(|error| StorageError::Url { url: url.to_owned(), problem: error.to_string() })?;
    let store = Arc::new(LocalFileSystem::new().with_fsync(true));
    Ok(Storage { directory: Some(directory), ..storage(store, prefix, url, options, "") })
}

fn storage(
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    url: &str,
    options: &StorageOptions,
    credentials: &'static str,
) -> Storage {
    let place = url.trim_end_matches('/').to_owned();
    Storage { store, prefix, place, directory: None, credentials, deadline: options.deadline }
}

/// The directory of a `file://` URL: absolute, or within the working directory where it does not begin with a slash.
fn directory(rest: &str) -> Result<PathBuf, String> {
    if rest.is_empty() {
        return Err("it names no directory".to_owned());
    }
    let encoded =
        Url::parse(&format!("file:///{}", rest.trim_start_matches('/'))).map_err(|e| e.to_string())?;
    if encoded.query().is_some() || encoded.fragment().is_some() {
        return Err("? and # must be written as %3F and %23".to_owned());
    }
    let absolute = encoded.to_file_path().map_err(|()| "it is no path".to_owned())?;
    if rest.starts_with('/') {
        return Ok(absolute);
    }
    let working = std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?;
    let relative = absolute.strip_prefix("/").unwrap_or(FilePath::new(""));
    Ok(working.join(relative))
}

/// The store's client takes a key as it is; from a file it is nobody's who may see the process's environment.
fn with_secret(url: &str, options: &StorageOptions) -> Result<StorageOptions, StorageError> {
    const KEY: &str = "AWS_SECRET_ACCESS_KEY";
    const KEY_FILE: &str = "AWS_SECRET_ACCESS_KEY_FILE";
    let value =
        |wanted: &str| options.settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let unusable = |problem| StorageError::Settings { place: url.to_owned(), problem };
    let Some(file) = value(KEY_FILE) else { return Ok(options.clone()) };
    if value(KEY).is_some() {
        return Err(unusable(format!("{KEY} and {KEY_FILE} are both set; allowed: one of them")));
    }
    let secret = std::fs::read_to_string(file)
        .map_err(|error| unusable(format!("{KEY_FILE}: {file} cannot be read: {error}")))?;
    let mut options = options.clone();
    options.settings.push((KEY.to_owned(), secret.trim_end().to_owned()));
    Ok(options)
}

/// An endpoint without TLS has to be allowed; the store's own error would not say how.
fn check_endpoint(url: &str, options: &StorageOptions) -> Result<(), StorageError> {
    let names = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];
    let is_plain =
        |(name, value): &(String, String)| names.contains(&name.as_str()) && value.starts_with("http://");
    if options.settings.iter().any(is_plain) && !allows_http(options, "AWS_ALLOW_HTTP") {
        let problem = "AWS_ENDPOINT has no TLS; set AWS_ALLOW_HTTP=true to allow that".to_owned();
        return Err(StorageError::Settings { place: url.to_owned(), problem });
    }
    Ok(())
}

fn s3(bucket: &str, options: &StorageOptions) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let client = client(options).with_allow_http(allows_http(options, "AWS_ALLOW_HTTP"));
    let builder = AmazonS3Builder::new().with_bucket_name(bucket);
    let known = |name: &str| AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()).ok();
    let is_client =
        |key: &AmazonS3ConfigKey| matches!(key, AmazonS3ConfigKey::Client(_) | AmazonS3ConfigKey::Bucket);
    let settings = options.settings.iter().filter_map(|(name, value)| Some((known(name)?, value)));
    let builder = settings
        .filter(|(key, _)| !is_client(key))
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    Ok(Arc::new(builder.with_client_options(client).with_retry(retry(options)).build()?))
}

fn gcs(bucket: &str, options: &StorageOptions) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let client = client(options).with_allow_http(allows_http(options, "GOOGLE_ALLOW_HTTP"));
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
    let known = |name: &str| GoogleConfigKey::from_str(&name.to_ascii_lowercase()).ok();
    let is_client =
        |key: &GoogleConfigKey| matches!(key, GoogleConfigKey::Client(_) | GoogleConfigKey::Bucket);
    let settings = options.settings.iter().filter_map(|(name, value)| Some((known(name)?, value)));
    let builder = settings
        .filter(|(key, _)| !is_client(key))
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    Ok(Arc::new(builder.with_client_options(client).with_retry(retry(options)).build()?))
}

fn allows_http(options: &StorageOptions, name: &str) -> bool {
    options.settings.iter().any(|(key, value)| key == name && ["true", "1"].contains(&value.as_str()))
}

fn client(options: &StorageOptions) -> ClientOptions {
    ClientOptions::new().with_connect_timeout(options.connect_timeout).with_timeout(options.request_timeout)
}

fn retry(options: &StorageOptions) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: options.retries, retry_timeout: options.deadline }
}
