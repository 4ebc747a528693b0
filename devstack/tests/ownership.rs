//! A stack ends with its owner, however the owner ends. The owner is this test program in a second process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Child;

use common::{sql, stack_id, wait_for, wait_until_nothing_is_left};
use rustix::process::{Pid, Signal, kill_process};
use stocktide_devstack::{Stack, StackOptions};

/// Not a test by itself: what the other process runs. It starts a stack, says where, and waits to be ended.
#[tokio::test]
async fn holder() {
    if std::env::var_os("STOCKTIDE_TEST_HOLD").is_none() {
        return;
    }
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let options = StackOptions {
        state_dir: set("STOCKTIDE_TEST_STATE"),
        kafka: set("STOCKTIDE_TEST_NO_KAFKA").is_none(),
        postgres: set("STOCKTIDE_TEST_NO_POSTGRES").is_none(),
        ..StackOptions::default()
    };
    match Stack::start(options).await {
        Ok(stack) => {
            println!("\nSTACK {} {}", stack.state_dir().display(), stack.database_url());
            assert!(set("STOCKTIDE_TEST_PANIC").is_none(), "as asked");
            std::future::pending::<()>().await;
        }
        Err(error) => println!("\nERROR {}", error.to_string().replace('\n', " ")),
    }
}

/// The rest of the holder's line that starts with `word`.
fn told(holder: &mut Child, word: &str) -> String {
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let found = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(word).map(str::to_owned));
    found.expect("the holder says how it went")
}

fn started(holder: &mut Child) -> (PathBuf, String) {
    let line = told(holder, "STACK ");
    let (dir, url) = line.split_once(' ').unwrap();
    (PathBuf::from(dir), url.to_owned())
}

fn signal(holder: &Child, signal: Signal) {
    kill_process(Pid::from_child(holder), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_killed_with_kill_9_in_the_middle_of_work_leaves_no_process_and_no_directory() {
    let mut owner = common::holder(&[]);
    let (dir, url) = started(&mut owner);
    let id = stack_id(&dir);
    // A backend that is busy and reads nothing from its client would not notice a vanished postmaster for long.
    let busy = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT count(*) FROM generate_series(1, 100000000000)").await.is_err()
    });
    wait_for("the query runs", || {
        common::processes_that_mention(&format!("stocktide-{id}"))
            .iter()
            .any(|title| title.contains("SELECT"))
    });
    signal(&owner, Signal::KILL);
    owner.wait().unwrap();
    wait_until_nothing_is_left(&dir, &id);
    wait_for("the directory is removed", || !dir.exists());
    assert!(busy.await.unwrap(), "the query was cut off");
}

#[test]
fn an_owner_that_ends_by_a_signal_or_a_panic_leaves_nothing_either() {
    for ending in [Some(Signal::INT), Some(Signal::TERM), Some(Signal::HUP), None] {
        let panic: &[(&str, &str)] = if ending.is_none() { &[("STOCKTIDE_TEST_PANIC", "1")] } else { &[] };
        let mut owner = common::holder(&[&[("STOCKTIDE_TEST_NO_KAFKA", "1")], panic].concat());
        let (dir, _) = started(&mut owner);
        let id = stack_id(&dir);
        if let Some(ending) = ending {
            signal(&owner, ending);
        }
        owner.wait().unwrap();
        wait_until_nothing_is_left(&dir, &id);
        wait_for("the directory is removed", || !dir.exists());
    }
}

#[tokio::test]
async fn a_kept_stack_whose_owner_was_killed_comes_back_with_its_data() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = home.path().join("state");
    let mut owner = common::holder(&[("STOCKTIDE_TEST_STATE", state.to_str().unwrap())]);
    let (dir, url) = started(&mut owner);
    sql(&url, "CREATE TABLE kept AS SELECT 42 AS x").await;
    signal(&owner, Signal::KILL);
    owner.wait().unwrap();
    // At once, while the watchdog may still be at work.
    let stack =
        Stack::start(StackOptions { state_dir: Some(state), ..StackOptions::default() }).await.unwrap();
    assert_eq!(sql(&stack.database_url(), "SELECT x FROM kept").await, "42");
    stack.stop().await.unwrap();
    wait_until_nothing_is_left(&dir, &stack_id(&dir));
}

#[test]
fn an_old_java_is_refused_by_name_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let java = home.path().join("bin/java");
    std::fs::create_dir_all(java.parent().unwrap()).unwrap();
    std::fs::write(&java, "#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n").unwrap();
    std::fs::set_permissions(&java, std::fs::Permissions::from_mode(0o755)).unwrap();
    let no_postgres = ("STOCKTIDE_TEST_NO_POSTGRES", "1");
    let mut owner = common::holder(&[("JAVA_HOME", home.path().to_str().unwrap()), no_postgres]);
    let error = told(&mut owner, "ERROR ");
    owner.wait().unwrap();
    assert!(error.contains("needs Java 17 or newer") && error.contains("is Java 11"), "{error}");
    assert!(error.contains(java.to_str().unwrap()) && error.contains("JAVA_HOME"), "{error}");

    let mut owner = common::holder(&[("JAVA_HOME", "/nowhere"), no_postgres]);
    let error = told(&mut owner, "ERROR ");
    owner.wait().unwrap();
    assert!(error.contains("java is needed by Apache Kafka") && error.contains("scripts/setup"), "{error}");
}
