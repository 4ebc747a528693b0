//! The command line without any server: usage, configuration, and how it complains.

use crate::command::{run, stocktide};

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    for (args, complaint) in [
        (&["topics", "tail"][..], "the following required arguments were not provided: <TOPIC>"),
        (
            &["topics", "tail", "t", "--count", "0"],
            "invalid value '0' for '--count <N>': 0 is not in 1..18446744073709551615",
        ),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["migrate", "--force"], "unexpected argument '--force' found"),
    ] {
        let outcome = run(&mut stocktide(args));
        assert_eq!((outcome.code, outcome.complaint()), (2, complaint));
    }
    let outcome = run(&mut stocktide(&["topics", "tail", "t", "--from", "yesterday"]));
    assert!(outcome.complaint().ends_with("allowed: beginning, end, or an offset from 0"), "{outcome:?}");
}

#[test]
fn help_goes_to_stdout_and_shows_an_example() {
    let outcome = run(&mut stocktide(&["topics", "tail", "--help"])).done();
    assert!(
        outcome.stdout.contains("stocktide topics tail online_orders --from end --follow"),
        "{}",
        outcome.stdout
    );
    assert_eq!(run(&mut stocktide(&[])).code, 2);
}

#[test]
fn a_log_format_that_is_none_is_refused_by_every_command_that_has_settings() {
    for command in ["config", "demo"] {
        let outcome = run(&mut stocktide(&[command, "--log-format", "xml"]));
        assert_eq!(outcome.code, 2);
        let complaint = "--log-format: log.format is \"xml\"; allowed: text or json";
        assert_eq!(outcome.complaint(), complaint);
    }
}

#[test]
fn config_prints_what_holds_where_it_is_from_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    std::fs::write(
        &file,
        "[business]\ntimezone = 'Europe/London'\n[kafka.properties]\nsasl.password = 'hush'\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let configured = |args: &[&str]| {
        let mut command = stocktide(args);
        command.env("STOCKTIDE_CONFIG", file).env("STOCKTIDE_PAYMENTS_WAIT", "90s");
        run(command.args(["--database-url", "postgres://ann:hush@db/shop"])).done()
    };
    let table = configured(&["config"]).stdout;
    for line in [
        "key                               value                        from".to_owned(),
        "database.url                      postgres://ann:***@db/shop   --database-url".to_owned(),
        format!("business.timezone                 Europe/London                {file}"),
        "payments.wait                     90s                          STOCKTIDE_PAYMENTS_WAIT".to_owned(),
        "jobs.file                         (not set)                    default".to_owned(),
        format!("kafka.properties.sasl.password    ***                          {file}"),
    ] {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(table.lines().any(|l| words(l) == words(&line)), "{line} is not in\n{table}");
    }
    let json = configured(&["config", "--json"]);
    let [document] = &json.documents()[..] else { panic!("{json:?}") };
    assert_eq!(
        document["payments.wait"],
        serde_json::json!({"value": "90s", "from": "STOCKTIDE_PAYMENTS_WAIT"})
    );
    assert_eq!(document["jobs.file"], serde_json::json!({"value": null, "from": "default"}));
    assert!(!table.contains("hush") && !json.stdout.contains("hush"));
}

#[test]
fn a_wrong_setting_is_one_line_and_exit_code_2_whatever_the_command() {
    let outcome = run(stocktide(&["migrate"]).env("STOCKTIDE_TOPICS_PARTITIONS", "many"));
    let complaint =
        "STOCKTIDE_TOPICS_PARTITIONS: topics.partitions is \"many\"; allowed: a whole number from 1 to 10000";
    assert_eq!((outcome.code, outcome.complaint()), (2, complaint));
    let outcome = run(stocktide(&["config"]).env("STOCKTIDE_KAFKA_BROKER", "a:1"));
    assert_eq!(outcome.code, 2);
    assert!(outcome.complaint().contains("there is no setting \"STOCKTIDE_KAFKA_BROKER\""), "{outcome:?}");
    let outcome = run(&mut stocktide(&["config", "--config", "/nowhere.toml"]));
    assert_eq!(
        (outcome.code, outcome.complaint()),
        (2, "/nowhere.toml: No such file or directory (os error 2)")
    );
    let outcome = run(&mut stocktide(&["config", "--log", "info,=x=y"]));
    assert_eq!(outcome.code, 2);
    assert!(outcome.complaint().starts_with("--log: log.filter is"), "{outcome:?}");
}

#[test]
fn a_command_without_its_servers_says_how_to_set_them() {
    let outcome = run(&mut stocktide(&["migrate"]));
    let complaint =
        "no database: set STOCKTIDE_DATABASE_URL or --database-url, or database.url in a configuration file";
    assert_eq!((outcome.code, outcome.complaint()), (2, complaint));
    let outcome = run(&mut stocktide(&["topics", "list"]));
    assert!(outcome.complaint().starts_with("no Kafka brokers: set STOCKTIDE_KAFKA_BROKERS"), "{outcome:?}");
    // Nothing listens on port 1.
    let start = std::time::Instant::now();
    let outcome = run(&mut stocktide(&[
        "catalog",
        "export",
        "x",
        "--database-url",
        "postgres://ann:hush@127.0.0.1:1/shop",
    ]));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .complaint()
            .starts_with("PostgreSQL at postgres://ann:***@127.0.0.1:1/shop?sslmode=disable: "),
        "{outcome:?}"
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    use std::process::Stdio;
    let mut child = stocktide(&["config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
