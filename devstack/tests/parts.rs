//! The programs are fetched once, and a PostgreSQL that loses updates is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use stocktide_devstack::{DevstackError, Parts, Stack, StackOptions};

#[tokio::test]
async fn two_that_fetch_at_once_share_one_whole_set() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::at(Some(dir.path().join("parts")));
    assert!(!parts.are_present());
    let (one, two) = tokio::join!(parts.prepare(), parts.prepare());
    one.unwrap();
    two.unwrap();
    assert!(parts.are_present());
    assert!(parts.postgres.join("bin/initdb").exists());
    let readable_by_all =
        fs::metadata(parts.postgres.join("bin/postgres")).unwrap().permissions().mode() & 0o555;
    assert_eq!(readable_by_all, 0o555);
    let mut left: Vec<_> =
        fs::read_dir(&parts.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 3, "nothing but the two parts and the lock: {left:?}");
}

#[tokio::test]
async fn a_postgresql_that_loses_updates_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::at(Some(dir.path().to_path_buf()));
    fs::create_dir_all(&parts.kafka).unwrap();
    fs::create_dir_all(parts.postgres.join("bin")).unwrap();
    let postgres = parts.postgres.join("bin/postgres");
    fs::write(&postgres, "#!/bin/sh\necho 'postgres (PostgreSQL) 18.1'\n").unwrap();
    fs::set_permissions(&postgres, fs::Permissions::from_mode(0o755)).unwrap();
    let options = StackOptions { parts_dir: Some(parts.dir), kafka: false, ..StackOptions::default() };
    let error = Stack::start(options).await.unwrap_err();
    assert!(matches!(&error, DevstackError::LossyPostgres { version, .. } if version == "18.1"), "{error}");
    assert!(error.to_string().contains("lose updates"), "{error}");
}

#[tokio::test]
async fn another_number_of_nodes_than_one_or_three_is_refused() {
    let error = Stack::start(StackOptions { kafka_nodes: 2, ..StackOptions::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "a stack has 1 or 3 Kafka nodes, not 2");
}
