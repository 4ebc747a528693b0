//! Reports in Google Cloud Storage: the same bytes as in a directory, once, whole. The server is built by Go, so this test is
//! asked for: `cargo test -p stocktide-reports --features gcs-tests --test storage_gcs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/support/gcs.rs"]
mod gcs;
mod sample;

use gcs::GcsServer;
use sample::{HOSTILE, figures, money};
use stocktide_reports::{File, RenderContext, Storage, StorageError, StorageOptions, render};

fn report(gross: &str) -> Vec<File> {
    let mut figures = figures(HOSTILE);
    figures.sales.total.gross = money(gross);
    let context = RenderContext { revision: 1, code_version: "0.1.0".to_owned(), previous: None };
    render(&figures, &context).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_kept_once_and_comes_back_with_equal_digests() {
    let server = GcsServer::start(&["shop"]);
    let options = StorageOptions { settings: server.settings(), ..StorageOptions::default() };
    let storage = Storage::open("gs://shop/nightly", &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let beside = Storage::in_directory(directory.path(), &options).unwrap();
    let date = "2011-03-27".parse().unwrap();
    assert_eq!(storage.report(date).await.unwrap(), None);
    for gross in ["10.00", "12.00"] {
        let files = report(gross);
        assert_eq!(storage.put_report(date, &files).await.unwrap().written.len(), 7);
        assert!(storage.put_report(date, &files).await.unwrap().written.is_empty());
        beside.put_report(date, &files).await.unwrap();
        let kept = storage.report(date).await.unwrap().unwrap();
        assert_eq!(kept, beside.report(date).await.unwrap().unwrap());
        for (kept, file) in kept.1.iter().zip(&files) {
            assert_eq!((kept.name, kept.sha256()), (file.name, file.sha256()));
        }
    }
    let elsewhere = Storage::open("gs://elsewhere/nightly", &options).unwrap();
    let error = elsewhere.put_report(date, &report("10.00")).await.unwrap_err();
    assert_eq!(error, StorageError::NoBucket { place: "gs://elsewhere/nightly".to_owned() });
}
