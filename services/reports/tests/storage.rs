//! Reports in a directory and in S3 (a real server, started here): whole or not at all, once, and what goes wrong in one line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/support/s3.rs"]
mod s3;

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use s3::S3Server;
use stocktide_reports::manifest::{Entry, Interval, MANIFEST};
use stocktide_reports::{File, Manifest, Storage, StorageError, StorageOptions};

fn date() -> NaiveDate {
    "2011-03-27".parse().unwrap()
}

/// A small report whose one figure is `gross`.
fn report(gross: &str) -> Vec<File> {
    let sales =
        File { name: "sales.csv", bytes: format!("gross\r\n{gross}\r\n").into_bytes(), rows: Some(1) };
    let page = File { name: "report.html", bytes: format!("<p>{gross}").into_bytes(), rows: None };
    let manifest = Manifest {
        report: "daily_report".to_owned(),
        date: date(),
        interval: Interval {
            timezone: "UTC".to_owned(),
            start: date().and_hms_opt(0, 0, 0).unwrap().and_utc(),
            end: date().succ_opt().unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc(),
        },
        revision: 1,
        figures_sha256: stocktide_reports::file::sha256(gross.as_bytes()),
        code_version: "test".to_owned(),
        files: vec![Entry::of(&sales), Entry::of(&page)],
        reason: None,
        changes: Vec::new(),
        further_changes: 0,
    };
    let manifest = File { name: MANIFEST, bytes: serde_json::to_vec(&manifest).unwrap(), rows: None };
    vec![sales, page, manifest]
}

const ALL: [&str; 3] = ["sales.csv", "report.html", MANIFEST];

/// Few and short attempts, so that failing takes no time.
fn impatient(settings: Vec<(String, String)>) -> StorageOptions {
    StorageOptions {
        settings,
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        retries: 1,
        deadline: Duration::from_secs(2),
    }
}

fn in_directory(directory: &Path) -> Storage {
    Storage::open(&format!("file://{}", directory.display()), &StorageOptions::default()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("daily_report/date=2011-03-27")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn assert_holds(storage: &Storage, files: &[File]) {
    let manifest = storage.manifest(date()).await.unwrap().unwrap();
    for entry in &manifest.files {
        let file = files.iter().find(|file| file.name == entry.name).unwrap();
        assert_eq!(storage.fetch(date(), entry).await.unwrap(), file.bytes);
    }
    assert_eq!(manifest.files.len() + 1, files.len());
}

#[tokio::test]
async fn a_report_is_written_once_with_its_manifest_last() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start(&["shop"]);
    let s3 = Storage::open("s3://shop/reports", &impatient(server.settings())).unwrap();
    for storage in [in_directory(&directory.path().join("deep/reports")), s3] {
        let files = report("10.00");
        assert_eq!(storage.manifest(date()).await.unwrap(), None);
        assert_eq!(storage.put_report(date(), &files).await.unwrap().written, ALL);
        assert_holds(&storage, &files).await;
        let again = storage.put_report(date(), &files).await.unwrap();
        assert!(again.written.is_empty(), "{} wrote {again:?} again", storage.place());
        let revised = report("12.00");
        assert_eq!(storage.put_report(date(), &revised).await.unwrap().written, ALL);
        assert_holds(&storage, &revised).await;
    }
    assert_eq!(server.uploads(), 6);
}

#[tokio::test]
async fn the_bytes_and_names_are_the_same_in_a_directory_and_in_s3() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start(&["shop"]);
    let files = report("10.00");
    in_directory(directory.path()).put_report(date(), &files).await.unwrap();
    let storage = Storage::open("s3://shop", &impatient(server.settings())).unwrap();
    storage.put_report(date(), &files).await.unwrap();
    for file in &files {
        let key = format!("daily_report/date=2011-03-27/{}", file.name);
        assert_eq!(std::fs::read(directory.path().join(&key)).unwrap(), file.bytes);
        assert_eq!(std::fs::read(server.object("shop", &key)).unwrap(), file.bytes);
    }
}

#[tokio::test]
async fn a_missing_shortened_or_damaged_file_is_written_again_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start(&["shop"]);
    let s3 = Storage::open("s3://shop", &impatient(server.settings())).unwrap();
    let files = report("10.00");
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    for (storage, root) in
        [(in_directory(directory.path()), directory.path().to_owned()), (s3, server.object("shop", ""))]
    {
        let damages: [&dyn Fn(&Path); 3] =
            [&|path| std::fs::remove_file(path).unwrap(), &|path| std::fs::write(path, "g").unwrap(), &flip];
        storage.put_report(date(), &files).await.unwrap();
        for damage in damages {
            damage(&root.join("daily_report/date=2011-03-27/sales.csv"));
            let entry = Entry::of(&files[0]);
            assert!(matches!(storage.fetch(date(), &entry).await, Err(StorageError::Damaged { .. })));
            assert_eq!(storage.put_report(date(), &files).await.unwrap().written, ["sales.csv"]);
            assert_holds(&storage, &files).await;
            assert!(storage.put_report(date(), &files).await.unwrap().written.is_empty());
        }
        // A manifest that cannot be read says nothing of the others.
        flip(&root.join("daily_report/date=2011-03-27").join(MANIFEST));
        assert_eq!(storage.put_report(date(), &files).await.unwrap().written, ALL);
    }
}

#[tokio::test]
async fn a_manifest_of_another_version_stays_and_one_that_is_damaged_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let storage = in_directory(directory.path());
    let files = report("10.00");
    storage.put_report(date(), &files).await.unwrap();
    let path = directory.path().join("daily_report/date=2011-03-27").join(MANIFEST);
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("\"code_version\":\"test\"", "\"code_version\":\"before\"")).unwrap();
    assert!(storage.put_report(date(), &files).await.unwrap().written.is_empty());
    std::fs::write(&path, kept.replace("\"revision\":1", "\"revision\":3")).unwrap();
    assert_eq!(storage.put_report(date(), &files).await.unwrap().written, [MANIFEST]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
}

#[test]
fn a_place_within_the_working_directory_is_named_from_the_root() {
    let storage = Storage::open("file://./some reports", &StorageOptions::default()).unwrap();
    let here = url::Url::from_directory_path(std::env::current_dir().unwrap()).unwrap();
    assert_eq!(storage.place(), format!("{here}some%20reports"));
    assert_eq!(storage.report_place(date()), format!("{here}some%20reports/daily_report/date=2011-03-27"));
}

#[tokio::test]
async fn what_a_killed_process_had_begun_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    let day = directory.path().join("daily_report/date=2011-03-27");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("sales.csv#1"), "gro").unwrap();
    std::fs::write(day.join("notes#today"), "mine").unwrap();
    in_directory(directory.path()).put_report(date(), &report("10.00")).await.unwrap();
    assert_eq!(names(directory.path()), ["manifest.json", "notes#today", "report.html", "sales.csv"]);
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_leaves_no_manifest_and_a_retry_completes() {
    let server = S3Server::start(&["shop"]);
    let storage = Storage::open("s3://shop/reports", &impatient(server.settings())).unwrap();
    let files = report("10.00");
    for break_down in [S3Server::fail_after, S3Server::hang_after] {
        let _ = std::fs::remove_dir_all(server.object("shop", "reports"));
        break_down(&server, 1);
        let started = Instant::now();
        let error = storage.put_report(date(), &files).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
        assert_one_line(&error, "s3://shop/reports does not serve: ");
        assert_eq!(storage.manifest(date()).await.unwrap(), None);
        server.recover();
        assert_eq!(storage.put_report(date(), &files).await.unwrap().written, ALL);
        assert_holds(&storage, &files).await;
    }
}

#[tokio::test]
async fn while_a_revision_replaces_another_the_old_manifest_shows_that_it_is_not_whole() {
    let server = S3Server::start(&["shop"]);
    let storage = Storage::open("s3://shop/reports", &impatient(server.settings())).unwrap();
    storage.put_report(date(), &report("10.00")).await.unwrap();
    server.fail_after(1);
    storage.put_report(date(), &report("12.00")).await.unwrap_err();
    let manifest = storage.manifest(date()).await.unwrap().unwrap();
    assert_eq!(manifest.figures_sha256, stocktide_reports::file::sha256(b"10.00"));
    let fetched = storage.fetch(date(), &manifest.files[0]).await;
    assert!(matches!(fetched, Err(StorageError::Damaged { .. })), "{fetched:?}");
    server.recover();
    storage.put_report(date(), &report("12.00")).await.unwrap();
    assert_holds(&storage, &report("12.00")).await;
}

fn assert_one_line(error: &StorageError, beginning: &str) {
    let line = error.to_string();
    assert!(line.starts_with(beginning), "{line}");
    assert!(!line.contains('\n') && line.len() < 450, "{line}");
}

#[tokio::test]
async fn wrong_credentials_and_a_missing_bucket_are_told_in_one_line() {
    let server = S3Server::start(&["shop"]);
    let files = report("10.00");
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "not-the-secret"), ("AWS_ACCESS_KEY_ID", "AKNOBODY")] {
        let options = impatient(server.settings_with(name, value));
        let storage = Storage::open("s3://shop/reports", &options).unwrap();
        for error in [
            storage.put_report(date(), &files).await.unwrap_err(),
            storage.manifest(date()).await.unwrap_err(),
        ] {
            assert_one_line(&error, "s3://shop/reports refuses access: ");
            assert!(error.to_string().contains("set AWS_ACCESS_KEY_ID"), "{error}");
            assert!(!error.to_string().contains("not-the-secret") && !error.is_transient(), "{error}");
        }
    }
    let storage = Storage::open("s3://elsewhere/reports", &impatient(server.settings())).unwrap();
    let error = storage.put_report(date(), &files).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "s3://elsewhere/reports: there is no such bucket; create it, or set reports.url to another"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_told_in_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = S3Server::start(&["shop"]);
    let options = impatient(server.settings_with("AWS_ENDPOINT", &format!("http://{free}")));
    let storage = Storage::open("s3://shop/reports", &options).unwrap();
    let error = storage.put_report(date(), &report("10.00")).await.unwrap_err();
    assert_one_line(&error, "s3://shop/reports does not serve: ");
    assert!(error.to_string().contains("refused") && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    // /proc takes no directories, not even from root.
    for place in [directory.path().join("file/reports"), "/proc/reports".into()] {
        let error = in_directory(&place).put_report(date(), &report("10.00")).await.unwrap_err();
        assert_one_line(&error, &format!("file://{} cannot be used: ", place.display()));
        assert!(!error.is_transient(), "{error:?}");
    }
}

#[test]
fn urls_that_name_no_place_are_refused() {
    let refused = |url: &str| match Storage::open(url, &StorageOptions::default()) {
        Err(error @ StorageError::Url { .. }) => error.to_string(),
        other => panic!("{url}: {other:?}"),
    };
    for url in [
        "reports",
        "ftp://host/reports",
        "s3://",
        "file://",
        "gs:///reports",
        "s3://shop/reports?versionId=1",
        "file:///tmp/a?b",
    ] {
        let line = refused(url);
        assert!(
            line.contains("allowed: file:///a/directory, s3://bucket/prefix, gs://bucket/prefix"),
            "{line}"
        );
    }
    assert!(!refused("s3://ann:hush@shop/reports").contains("hush"));
}

#[test]
fn a_key_that_cannot_be_read_is_told_when_the_storage_is_opened() {
    let settings = vec![("GOOGLE_SERVICE_ACCOUNT".to_owned(), "/nowhere/key.json".to_owned())];
    let error = Storage::open("gs://shop/reports", &impatient(settings)).unwrap_err();
    assert_one_line(&error, "gs://shop/reports: ");
    assert!(!error.is_transient(), "{error:?}");
}

#[test]
fn a_secret_key_comes_from_its_file_or_from_its_variable_and_not_from_both() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key").display().to_string();
    let open = |more: &[(&str, &str)]| {
        let settings = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY_FILE", file.as_str())];
        let settings = settings.iter().chain(more);
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Storage::open("s3://shop/reports", &impatient(settings))
    };
    let error = open(&[]).unwrap_err();
    assert_one_line(
        &error,
        &format!("s3://shop/reports: AWS_SECRET_ACCESS_KEY_FILE: {file} cannot be read: "),
    );
    std::fs::write(&file, "hush\n").unwrap();
    open(&[]).unwrap();
    let error = open(&[("AWS_SECRET_ACCESS_KEY", "other")]).unwrap_err();
    assert_one_line(
        &error,
        "s3://shop/reports: AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE are both set",
    );
}

#[test]
fn an_endpoint_without_tls_has_to_be_allowed() {
    let settings = [("AWS_ENDPOINT", "http://127.0.0.1:9000"), ("AWS_ACCESS_KEY_ID", "a")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let error = Storage::open("s3://shop/reports", &impatient(settings)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "s3://shop/reports: AWS_ENDPOINT has no TLS; set AWS_ALLOW_HTTP=true to allow that"
    );
}
