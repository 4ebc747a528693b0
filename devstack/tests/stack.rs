//! Stacks start, answer, keep apart, and survive the death of their parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Instant;

use common::{create_topic, receive, send, sql, stack_id, wait_until_nothing_is_left};
use stocktide_devstack::{DevstackError, RecordedStack, Stack, StackOptions};

fn in_dir(dir: &tempfile::TempDir) -> StackOptions {
    StackOptions { state_dir: Some(dir.path().join("state")), ..StackOptions::default() }
}

/// A directory that PostgreSQL's user can enter when the tests run as root.
fn open_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn a_stack_starts_answers_and_leaves_nothing_behind() {
    let began = Instant::now();
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    println!("both parts ready after {:.2} s", began.elapsed().as_secs_f64());
    let (dir, id) = (stack.state_dir().to_path_buf(), stack_id(stack.state_dir()));

    let version = sql(&stack.database_url(), "SHOW server_version").await;
    assert_eq!(version, stocktide_devstack::postgres_version());
    for (setting, wanted) in [("fsync", "on"), ("synchronous_commit", "on"), ("max_connections", "200")] {
        assert_eq!(sql(&stack.database_url(), &format!("SHOW {setting}")).await, wanted, "{setting}");
    }
    let own = stack.create_database("another one").await.unwrap();
    assert_eq!(sql(&own, "SELECT current_database()").await, "another one");

    create_topic(&stack.kafka_brokers(), "t", 1).await;
    send(&stack.kafka_brokers(), "t", "hello").await;
    assert_eq!(receive(&stack.kafka_brokers(), "t", 1), ["hello"]);

    stack.stop().await.unwrap();
    wait_until_nothing_is_left(&dir, &id);
    assert!(!dir.exists());
}

#[tokio::test]
async fn two_stacks_side_by_side_do_not_see_each_other() {
    let (one, two) =
        tokio::join!(Stack::start(StackOptions::default()), Stack::start(StackOptions::default()));
    let (one, two) = (one.unwrap(), two.unwrap());
    sql(&one.database_url(), "CREATE TABLE only_here (x int)").await;
    let there = "SELECT to_regclass('only_here') IS NULL";
    assert_eq!(sql(&one.database_url(), there).await, "f");
    assert_eq!(sql(&two.database_url(), there).await, "t");
    create_topic(&one.kafka_brokers(), "t", 1).await;
    create_topic(&two.kafka_brokers(), "t", 1).await;
    send(&one.kafka_brokers(), "t", "one").await;
    send(&two.kafka_brokers(), "t", "two").await;
    assert_eq!(receive(&one.kafka_brokers(), "t", 1), ["one"]);
    assert_eq!(receive(&two.kafka_brokers(), "t", 1), ["two"]);
}

#[tokio::test]
async fn killed_parts_come_back_on_their_ports_with_all_that_they_had_acknowledged() {
    let mut stack = Stack::start(StackOptions::default()).await.unwrap();
    let (url, brokers) = (stack.database_url(), stack.kafka_brokers());
    sql(&url, "CREATE TABLE kept AS SELECT 42 AS x").await;
    create_topic(&brokers, "t", 1).await;
    send(&brokers, "t", "kept").await;

    let cluster = format!("postgres: stocktide-{}", stack_id(stack.state_dir()));
    stack.kill_postgres().await.unwrap();
    assert_eq!(common::processes_that_mention(&cluster), Vec::<String>::new());
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err());
    let began = Instant::now();
    stack.start_postgres().await.unwrap();
    println!("PostgreSQL ready {:.2} s after its kill", began.elapsed().as_secs_f64());
    assert_eq!(stack.database_url(), url);
    assert_eq!(sql(&url, "SELECT x FROM kept").await, "42");

    stack.kill_broker(1).await.unwrap();
    let began = Instant::now();
    stack.start_broker(1).await.unwrap();
    println!("Kafka ready {:.2} s after its kill", began.elapsed().as_secs_f64());
    assert_eq!(stack.kafka_brokers(), brokers);
    send(&brokers, "t", "more").await;
    assert_eq!(receive(&brokers, "t", 2), ["kept", "more"]);

    // Starting what runs changes nothing.
    let before = stack.processes();
    stack.start_postgres().await.unwrap();
    stack.start_broker(1).await.unwrap();
    assert_eq!(stack.processes(), before);
    assert!(matches!(stack.kill_broker(2).await, Err(DevstackError::NoSuchPart { .. })));
}

#[tokio::test]
async fn a_cluster_of_three_goes_on_without_one_of_them() {
    let options = StackOptions { kafka_nodes: 3, postgres: false, ..StackOptions::default() };
    let mut stack = Stack::start(options).await.unwrap();
    let brokers = stack.kafka_brokers();
    assert_eq!(brokers.split(',').count(), 3);
    create_topic(&brokers, "t", 3).await;
    send(&brokers, "t", "with three").await;
    stack.kill_broker(2).await.unwrap();
    send(&brokers, "t", "with two").await;
    stack.start_broker(2).await.unwrap();
    stack.kill_broker(3).await.unwrap();
    send(&brokers, "t", "with another two").await;
    assert_eq!(receive(&brokers, "t", 3), ["with three", "with two", "with another two"]);
}

#[tokio::test]
async fn a_kept_stack_is_left_in_the_background_found_ended_and_started_again_with_its_data() {
    let dir = open_dir();
    let stack = Stack::start(in_dir(&dir)).await.unwrap();
    let (url, brokers, processes) = (stack.database_url(), stack.kafka_brokers(), stack.processes());
    sql(&url, "CREATE TABLE kept AS SELECT 42 AS x").await;
    create_topic(&brokers, "t", 1).await;
    send(&brokers, "t", "kept").await;
    let state_dir = stack.detach().unwrap();
    assert!(processes.iter().all(stocktide_devstack::ProcessId::is_alive));

    let again = Stack::start(in_dir(&dir)).await;
    assert!(matches!(again, Err(DevstackError::AlreadyRunning { .. })), "{again:?}");
    let status = RecordedStack::open(&state_dir).unwrap().unwrap().status();
    assert!(status.running && status.held_by.is_none());
    assert_eq!((status.database_url.as_ref(), status.kafka_brokers.as_ref()), (Some(&url), Some(&brokers)));

    assert!(RecordedStack::open(&state_dir).unwrap().unwrap().stop().await.unwrap());
    wait_until_nothing_is_left(&state_dir, &stack_id(&state_dir));
    assert!(!RecordedStack::open(&state_dir).unwrap().unwrap().status().running);
    assert!(!RecordedStack::open(&state_dir).unwrap().unwrap().stop().await.unwrap());

    let stack = Stack::start(in_dir(&dir)).await.unwrap();
    assert_eq!(sql(&stack.database_url(), "SELECT x FROM kept").await, "42");
    assert_eq!(receive(&stack.kafka_brokers(), "t", 1), ["kept"]);
    stack.stop().await.unwrap();

    let three = Stack::start(StackOptions { kafka_nodes: 3, ..in_dir(&dir) }).await;
    assert!(matches!(three, Err(DevstackError::OtherNodes { found: 1, wanted: 3, .. })), "{three:?}");
}

#[tokio::test]
async fn a_part_that_dies_by_itself_is_told_with_its_log() {
    let mut stack = Stack::start(StackOptions { kafka: false, ..StackOptions::default() }).await.unwrap();
    assert_eq!(stack.failure(), None);
    let postmaster = stack.processes()[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(postmaster.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let mut failure = None;
    common::wait_for("the death is seen", || {
        failure = stack.failure();
        failure.is_some()
    });
    let failure = failure.unwrap();
    assert!(failure.contains("PostgreSQL ended") && failure.contains("postgres.log"), "{failure}");
    stack.start_postgres().await.unwrap();
    assert_eq!(stack.failure(), None);
}
