#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, std::ffi::OsString)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources { environment: environment(pairs), ..Sources::default() })
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = file(text);
    Config::load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
}

fn entry(config: &Config, key: &str) -> (String, String) {
    let entry = config.entries.iter().find(|e| e.key == key).unwrap();
    (entry.value.clone().unwrap_or_default(), entry.origin.clone())
}

#[test]
fn the_defaults_are_those_of_the_table_and_pass_their_own_checks() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.kafka.group, "stocktide-processor");
    assert_eq!(config.kafka.session_timeout, Duration::from_secs(10));
    assert_eq!(config.processor.batch_max_bytes, 32 << 20);
    assert_eq!(config.processor.batch_linger, Duration::from_millis(3));
    assert_eq!(config.topics.retention_ms, -1);
    assert_eq!(config.payments.wait, Duration::from_mins(10));
    assert_eq!(config.entries.len(), keys::KEYS.len());
    assert!(config.entries.iter().all(|e| e.origin == "default"));
}

#[test]
fn a_flag_is_over_the_environment_which_is_over_the_file_which_is_over_the_default() {
    let file = file("[kafka]\ngroup = 'of-file'\nbrokers = 'file:1'\n[log]\nfilter = 'warn'\n");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[("STOCKTIDE_KAFKA_BROKERS", "env:2"), ("STOCKTIDE_LOG_FILTER", "debug")]),
        flags: vec![Flag { key: "log.filter", value: "trace".to_owned(), flag: "--log" }],
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!(entry(&config, "kafka.group"), ("of-file".to_owned(), file.path().display().to_string()));
    assert_eq!(entry(&config, "kafka.brokers"), ("env:2".to_owned(), "STOCKTIDE_KAFKA_BROKERS".to_owned()));
    assert_eq!(entry(&config, "log.filter"), ("trace".to_owned(), "--log".to_owned()));
    assert_eq!(entry(&config, "topics.partitions"), ("4".to_owned(), "default".to_owned()));
    assert_eq!((config.kafka.brokers.as_deref(), config.log.filter.as_str()), (Some("env:2"), "trace"));
}

#[test]
fn an_unknown_variable_is_named_with_what_is_allowed() {
    let error = from_environment(&[("STOCKTIDE_TOPICS_PARTITION", "4")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment: there is no setting \"STOCKTIDE_TOPICS_PARTITION\"; allowed: STOCKTIDE_ and a key with underscores \
         for dots: topics.partitions, topics.replication, topics.retention_ms, topics.max_message_bytes"
    );
}

#[test]
fn variables_of_tests_and_of_the_private_stack_are_no_configuration() {
    from_environment(&[
        ("STOCKTIDE_TEST_SEED", "7"),
        ("STOCKTIDE_PARTS_DIR", "/x"),
        ("STOCKTIDE_CONFIG", "/y"),
        ("PATH", "/"),
    ])
    .unwrap();
    from_environment(&[("STOCKTIDE_TOPICS_PARTITIONS", "")]).unwrap();
}

#[test]
fn a_wrong_value_is_named_with_what_is_allowed() {
    for (name, value, allowed) in [
        ("STOCKTIDE_TOPICS_PARTITIONS", "many", "a whole number from 1 to 10000"),
        ("STOCKTIDE_TOPICS_PARTITIONS", "0", "a whole number from 1 to 10000"),
        ("STOCKTIDE_TOPICS_RETENTION_MS", "-2", "a whole number from -1"),
        (
            "STOCKTIDE_BUSINESS_TIMEZONE",
            "Mars/Olympus",
            "the name of an IANA time zone like UTC or Europe/London",
        ),
        ("STOCKTIDE_BUSINESS_CURRENCY", "pound", "an ISO 4217 code of three capital letters like GBP"),
        ("STOCKTIDE_PAYMENTS_WAIT", "10", "a duration like 250ms, 10s or 10m, from 0 to 30days"),
        ("STOCKTIDE_PROCESSOR_STOCK_POLICY", "maybe", "record or reject"),
        (
            "STOCKTIDE_PROCESSOR_EVENT_MAX_BYTES",
            "1.5MiB",
            "a number of bytes like 500000 or 32MiB, from 1KiB to 64MiB",
        ),
        ("STOCKTIDE_ADMIN_LISTEN", "9100", "host:port like 127.0.0.1:9100 (port 0: a free one)"),
        ("STOCKTIDE_KAFKA_BROKERS", "a:1,b", "host:port, several with commas between"),
    ] {
        let error = from_environment(&[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.ends_with(&format!(" is {value:?}; allowed: {allowed}")), "{error}");
    }
}

#[test]
fn an_unknown_key_of_a_file_is_named() {
    let error = from_file("[kafka]\nbroker = 'a:1'\n").unwrap_err().to_string();
    assert!(
        error.contains("there is no setting \"kafka.broker\"; allowed: kafka.brokers, kafka.group"),
        "{error}"
    );
    let error = from_file("[kafak]\nbrokers = 'a:1'\n").unwrap_err().to_string();
    assert!(error.contains("\"kafak.brokers\"; allowed: database.…, kafka.…, business.…"), "{error}");
    let error = from_file("currency = 'GBP'\n").unwrap_err().to_string();
    assert!(error.contains("there is no setting \"currency\""), "{error}");
}

#[test]
fn a_broken_or_missing_file_is_named_with_its_line() {
    let error = from_file("[log]\nfilter = 'info'\nformat = \n").unwrap_err().to_string();
    assert!(error.contains(": line 3: ") && !error.contains('\n'), "{error}");
    let error =
        Config::load(&Sources { file: Some("/nowhere.toml".into()), ..Sources::default() }).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere.toml: No such file"), "{error}");
    let error = from_file("[topics]\npartitions = [4]\n").unwrap_err().to_string();
    assert!(
        error.ends_with("topics.partitions is of type array; allowed: a whole number from 1 to 10000"),
        "{error}"
    );
}

#[test]
fn durations_and_bytes_are_read_as_people_write_them() {
    let config = from_file(
        "[payments]\nwait = 0\n[processor]\nbatch_linger = '250ms'\nbatch_max_bytes = '64 MiB'\nevent_max_bytes = 2_048\n\
         shutdown_deadline = '1m 30s'\n",
    )
    .unwrap();
    assert_eq!(config.payments.wait, Duration::ZERO);
    assert_eq!(config.processor.batch_linger, Duration::from_millis(250));
    assert_eq!((config.processor.batch_max_bytes, config.processor.event_max_bytes), (64 << 20, 2_048));
    assert_eq!(config.processor.shutdown_deadline, Duration::from_secs(90));
}

#[test]
fn librdkafka_properties_come_from_tables_and_variables_and_are_checked() {
    let file =
        file("[kafka.properties]\nclient.rack = 'r1'\n'max.in.flight' = 3\n'sasl.password' = 'hush'\n");
    let config = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[("STOCKTIDE_KAFKA_PROPERTIES_SOCKET_KEEPALIVE_ENABLE", "true")]),
        flags: vec![],
    })
    .unwrap();
    let of = |name: &str| config.kafka.properties.get(name).map(String::as_str);
    assert_eq!(of("client.rack"), Some("r1"));
    assert_eq!(of("max.in.flight"), Some("3"));
    assert_eq!(of("socket.keepalive.enable"), Some("true"));
    assert_eq!(entry(&config, "kafka.properties.sasl.password").0, "***");
    assert!(!format!("{config:?}").contains("hush"));

    let error = from_file("[kafka.properties]\nsecurity.protokoll = 'SSL'\n").unwrap_err().to_string();
    assert!(error.contains("kafka.properties.security.protokoll: No such configuration property"), "{error}");
    let error =
        from_file("[kafka.properties]\nisolation.level = 'read_uncommitted'\n").unwrap_err().to_string();
    assert!(error.contains("kafka.properties.isolation.level is not yours to set"), "{error}");
}

#[test]
fn a_secret_may_stand_in_a_file_and_is_shown_nowhere() {
    let secret = file("postgres://ann:hush@db/shop\n");
    let path = secret.path().to_str().unwrap();
    let config = from_environment(&[("STOCKTIDE_DATABASE_URL_FILE", path)]).unwrap();
    assert_eq!(config.database_url().unwrap(), "postgres://ann:hush@db/shop?sslmode=disable");
    let (shown, origin) = entry(&config, "database.url");
    assert_eq!(
        (shown.as_str(), origin),
        ("postgres://ann:***@db/shop", format!("{path} (database.url_file)"))
    );

    let password = file("hush");
    let config =
        from_environment(&[("STOCKTIDE_KAFKA_SASL_PASSWORD_FILE", password.path().to_str().unwrap())])
            .unwrap();
    assert_eq!(config.kafka.properties.get("sasl.password").map(String::as_str), Some("hush"));
}

#[test]
fn a_secret_and_its_file_in_one_layer_are_refused_and_otherwise_the_higher_layer_holds() {
    let secret = file("postgres://file@db/shop");
    let path = secret.path().to_str().unwrap();
    let both = [("STOCKTIDE_DATABASE_URL_FILE", path), ("STOCKTIDE_DATABASE_URL", "postgres://env@db/shop")];
    let error = from_environment(&both).unwrap_err().to_string();
    assert!(error.starts_with("database.url and database.url_file are both set"), "{error}");
    let config = Config::load(&Sources {
        file: None,
        environment: environment(&both[..1]),
        flags: vec![Flag {
            key: "database.url",
            value: "postgres://flag@db/shop".to_owned(),
            flag: "--database-url",
        }],
    })
    .unwrap();
    assert_eq!(config.database_url().unwrap(), "postgres://flag@db/shop?sslmode=disable");
}

#[test]
fn a_url_without_a_place_is_refused() {
    for url in ["file://", "s3://", "gs://", "s3:///reports", "ftp://host/reports"] {
        let error = from_environment(&[("STOCKTIDE_REPORTS_URL", url)]).unwrap_err().to_string();
        assert!(
            error.contains("a URL that starts with file://, s3://, gs://, and a place behind it"),
            "{error}"
        );
    }
    for url in ["file:///srv/reports", "file://./reports", "s3://shop", "gs://shop/nightly"] {
        assert_eq!(from_environment(&[("STOCKTIDE_REPORTS_URL", url)]).unwrap().reports.url, url);
    }
}

#[test]
fn reports_go_to_a_directory_nothing_ages_out_and_no_model_is_asked_unless_it_is_said() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.reports.url, "file://./reports");
    assert_eq!((config.reports.top_n, config.reports.cover_days), (10, 28));
    assert_eq!((config.reports.low_stock_rows, config.reports.revise_days), (10_000, 35));
    assert_eq!(config.retention.log_age, None);
    assert_eq!((config.narrative.url, config.narrative.timeout), (None, Duration::from_secs(20)));
    assert_eq!((config.jobs.file, config.jobs.poll), (None, Duration::from_secs(5)));

    let config = from_environment(&[("STOCKTIDE_RETENTION_LOG_AGE", "400days")]).unwrap();
    assert_eq!(config.retention.log_age, Some(Duration::from_secs(400 * 86_400)));
    let error = from_environment(&[("STOCKTIDE_RETENTION_LOG_AGE", "1h")]).unwrap_err().to_string();
    assert!(error.ends_with("from 1day to 100years"), "{error}");
}

#[test]
fn a_key_of_an_endpoint_is_shown_nowhere_and_a_url_needs_a_model() {
    let secret = file("sk-hush\n");
    let path = secret.path().to_str().unwrap();
    let url = ("STOCKTIDE_NARRATIVE_URL", "http://127.0.0.1:8080/v1");
    let config = from_environment(&[
        url,
        ("STOCKTIDE_NARRATIVE_MODEL", "small"),
        ("STOCKTIDE_NARRATIVE_KEY_FILE", path),
    ])
    .unwrap();
    assert_eq!(config.narrative.key.as_ref().map(Secret::expose), Some("sk-hush"));
    assert_eq!(entry(&config, "narrative.key").0, "***");
    assert!(!format!("{config:?}").contains("hush"));

    let error = from_environment(&[("STOCKTIDE_NARRATIVE_KEY", "sk hush")]).unwrap_err().to_string();
    assert!(!error.contains("hush") && error.contains("visible ASCII"), "{error}");
    let error = from_environment(&[url]).unwrap_err().to_string();
    assert_eq!(
        error,
        "STOCKTIDE_NARRATIVE_URL: narrative.url is set and narrative.model is not; allowed: both, or neither"
    );
}

#[test]
fn a_wrong_url_is_refused_without_showing_its_password() {
    let error =
        from_environment(&[("STOCKTIDE_DATABASE_URL", "mysql://ann:hush@db/shop")]).unwrap_err().to_string();
    assert!(!error.contains("hush") && error.contains("mysql://ann:***@db/shop"), "{error}");
}

#[test]
fn the_heartbeat_is_never_more_than_a_third_of_the_session() {
    let config = from_environment(&[("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "1500ms")]).unwrap();
    assert_eq!(config.kafka.heartbeat_interval, Duration::from_millis(500));
    assert_eq!(entry(&config, "kafka.heartbeat_interval").1, "a third of kafka.session_timeout");
    let error = from_environment(&[("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "5s")]).unwrap_err().to_string();
    assert!(error.ends_with("at most a third of kafka.session_timeout, which is 10s"), "{error}");
}

#[test]
fn what_is_missing_says_how_to_set_it() {
    let config = Config::defaults().unwrap();
    assert_eq!(
        config.kafka_brokers().unwrap_err().to_string(),
        "no Kafka brokers: set STOCKTIDE_KAFKA_BROKERS or --kafka-brokers, or kafka.brokers in a configuration file"
    );
    assert!(config.database_url().unwrap_err().downcast_ref::<ConfigError>().is_some());
}

#[test]
fn the_documentation_of_the_keys_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, docs::page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == docs::page(),
        "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p stocktide-runtime"
    );
}

#[test]
fn the_keys_of_tls_and_sasl_stand_for_librdkafkas_properties() {
    let password = file("hush\n");
    let config = from_environment(&[
        ("STOCKTIDE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("STOCKTIDE_KAFKA_CA_FILE", "/ca.pem"),
        ("STOCKTIDE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("STOCKTIDE_KAFKA_SASL_USERNAME", "ann"),
        ("STOCKTIDE_KAFKA_SASL_PASSWORD_FILE", password.path().to_str().unwrap()),
    ])
    .unwrap();
    let client = crate::kafka::client_config(&config);
    for (name, value) in [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", "/ca.pem"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "ann"),
        ("sasl.password", "hush"),
    ] {
        assert_eq!(client.get(name), Some(value));
    }
    assert_eq!(entry(&config, "kafka.properties.sasl.password").0, "***");
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn what_of_tls_and_sasl_cannot_work_or_would_not_be_verified_is_refused() {
    let refused = |set: &[(&str, &str)]| from_environment(set).unwrap_err().to_string();
    let protocol = ("STOCKTIDE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl");
    let mechanism = ("STOCKTIDE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512");
    assert!(refused(&[protocol]).contains("kafka.sasl_mechanism is not set; allowed: SCRAM-SHA-512"));
    assert!(refused(&[protocol, mechanism]).ends_with("kafka.sasl_username is not set"));
    let name = ("STOCKTIDE_KAFKA_SASL_USERNAME", "ann");
    assert!(refused(&[protocol, mechanism, name]).ends_with("kafka.sasl_password_file is not set"));
    let oauth = ("STOCKTIDE_KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    assert!(refused(&[protocol, oauth]).ends_with("kafka.oauth_token_file is not set"));
    assert!(
        refused(&[("STOCKTIDE_KAFKA_KEY_FILE", "/key")])
            .contains("kafka.certificate_file and kafka.key_file")
    );
    let twice = [("STOCKTIDE_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "ssl"), protocol];
    assert!(refused(&twice).contains("only one of them is allowed"));
    let blind = [("STOCKTIDE_KAFKA_PROPERTIES_ENABLE_SSL_CERTIFICATE_VERIFICATION", "false")];
    assert!(refused(&blind).contains("is not yours to set"));

    for mode in ["allow", "prefer", "require", "verify-ca", "x"] {
        let url = format!("postgres://ann:hush@db/shop?sslmode={mode}");
        let error = refused(&[("STOCKTIDE_DATABASE_URL", &url)]);
        let wanted =
            format!("STOCKTIDE_DATABASE_URL: database.url: sslmode is {mode:?}; allowed: verify-full");
        assert!(error.starts_with(&wanted) && !error.contains("hush"), "{error}");
    }
    let forgotten = refused(&[("STOCKTIDE_DATABASE_URL", "postgres://ann@db/shop?sslrootcert=/ca.pem")]);
    assert!(forgotten.contains("it has certificates, and sslmode is not set"), "{forgotten}");
    let half = refused(&[("STOCKTIDE_DATABASE_URL", "postgres://db/shop?sslmode=verify-full&sslkey=/key")]);
    assert!(half.contains("one of sslcert and sslkey is set"), "{half}");
}
