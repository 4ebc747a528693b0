//! The services with no more rights than theirs, and no secret anywhere but where it belongs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::command::{Outcome, run, stocktide};
use crate::service::{Service, until};
use crate::world::{MARK, World};

/// Runs a command with that on stdin.
fn fed(mut command: Command, input: &str) -> Outcome {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What came out of all runs, to be looked through for secrets.
#[derive(Default)]
struct Said(BTreeMap<String, String>);

impl Said {
    fn note(&mut self, what: &str, outcome: &Outcome) {
        self.0.entry(what.to_owned()).or_default().extend([&outcome.stdout[..], &outcome.stderr]);
    }

    fn done(&mut self, what: &str, outcome: Outcome) -> Outcome {
        self.note(what, &outcome);
        outcome.done()
    }
}

/// The command lines of this machine's processes that have the mark in them.
fn command_lines() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit()) && name != own.as_str()
    });
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        // Another test may be making a broker, whose own tool takes its users' passwords that way.
        .filter(|line| line.contains(MARK) && !line.contains("StorageTool"))
        .collect()
}

fn order(number: u32, product: &str) -> String {
    json!({
        "event_id": uuid::Uuid::now_v7(), "order_id": format!("o-{number}"), "user_id": "u-1",
        "order_timestamp": "2026-11-01T10:00:00Z",
        "items": [{"product_id": product, "quantity": 2, "price_per_unit": "18.50"}],
        "order_value": "37.00",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_works_with_its_own_rights_alone_and_tells_nobody_its_secrets() {
    let world = World::start(2060).await;
    world.give_acls();
    let mut said = Said::default();
    said.done("migrate", run(&mut world.command("owner", &["migrate"])));
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/catalogue");
    let load = ["catalog", "load", catalogue.to_str().unwrap()];
    said.done("catalog", run(&mut world.command("owner", &load)));
    said.done("migrate again", run(&mut world.command("owner", &["migrate"])));

    // The services, as verbose as somebody may want them who looks for a fault.
    let start = |user: &str, args: &[&str], log: &str| {
        let mut command = world.command(user, args);
        command.env("STOCKTIDE_REPORTS_URL", format!("file://{}", world.file("reports").display()));
        command.env("STOCKTIDE_API_TOKEN", format!("{MARK}-token"));
        command.env("STOCKTIDE_NARRATIVE_KEY", format!("{MARK}-key"));
        command.env("STOCKTIDE_API_LISTEN", "127.0.0.1:0");
        command.arg("--log").arg("debug");
        Service::start(&mut command, &world.file(log))
    };
    let processor = start("processor", &["processor"], "processor.log");
    let jobs = start("jobs", &["jobs", "run"], "jobs.log");
    let api = start("api", &["api"], "api.log");
    let events = format!("{}\n{}\n", order(1, "kit-001"), order(2, "no such product"));
    said.done("send", fed(world.command("producer", &["send", "online_orders", "-"]), &events));
    let settled = "SELECT coalesce(sum(applied + rejected), 0)::bigint FROM partition_progress";
    let count = || {
        let asked = sqlx::query_scalar::<_, i64>(settled).fetch_one(&world.database);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked)).unwrap()
    };
    until(|| count() == 2, || processor.log());
    for service in [&processor, &jobs, &api] {
        until(
            || service.ask("/ready").0 == 200,
            || format!("{:?}\n{}", service.ask("/ready"), service.log()),
        );
    }

    // The product is still unknown, so the record comes back.
    said.done(
        "replay",
        run(&mut world.command("owner", &["dlq", "replay", "--reason", "unknown_product", "--yes"])),
    );
    until(|| count() == 3, || processor.log());

    // A password on a command line does not stay there.
    let mut verify = stocktide(&["verify", "--json", "--database-url", &world.url("jobs", "ca.pem")]);
    let kafka = world.command("jobs", &["verify"]);
    verify.envs(kafka.get_envs().filter_map(|(name, value)| Some((name, value?))));
    verify.env_remove("STOCKTIDE_DATABASE_URL_FILE");
    let child = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // While it reads the topics.
    let own = format!("/proc/{}/cmdline", child.id());
    let line = || String::from_utf8_lossy(&std::fs::read(&own).unwrap_or_default()).replace('\0', " ");
    until(|| line().contains("verify") && !line().contains("--database-url"), line);
    assert_eq!(command_lines(), Vec::<String>::new());
    let output = child.wait_with_output().unwrap();
    let verified = Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(said.done("verify", verified).documents()[0]["ok"], true);

    // What people do.
    let jobs_of = |args: &[&str]| run(&mut world.command("jobs", args));
    let until_day = ["jobs", "trigger", "daily_report", "--date", "2026-11-01"];
    said.done("report", {
        let mut command = world.command("jobs", &until_day);
        run(command.env("STOCKTIDE_REPORTS_URL", format!("file://{}", world.file("reports").display())))
    });
    said.done("reconcile", jobs_of(&["jobs", "trigger", "reconcile", "--date", "2026-11-01"]));
    said.done("retention", {
        let mut command = world.command("jobs", &["jobs", "trigger", "retention", "--date", "2026-11-01"]);
        run(command.env("STOCKTIDE_RETENTION_LOG_AGE", "10days"))
    });
    said.done("runs", jobs_of(&["jobs", "runs"]));
    said.done("topics", jobs_of(&["topics", "list"]));
    said.done("tail", jobs_of(&["topics", "tail", "dlq", "--json"]));
    said.done("facts", run(&mut world.command("api", &["facts", "o-1"])));
    let shown = said.done("config", run(&mut world.command("api", &["config"])));
    assert!(shown.stdout.contains("sasl.password") && shown.stdout.contains("***"), "{}", shown.stdout);
    said.done("config as JSON", run(&mut world.command("api", &["config", "--json"])));

    // What a service may not do it says in one line.
    let refused = run(&mut world.command("api", &["topics", "tail", "dlq"]));
    said.note("refused by Kafka", &refused);
    assert!(
        refused.complaint().contains("there is no topic \"dlq\", or we lack a right on it"),
        "{refused:?}"
    );
    let refused =
        run(&mut world.command("api", &["jobs", "trigger", "daily_report", "--date", "2026-11-01"]));
    said.note("refused by PostgreSQL", &refused);
    assert!(refused.code == 1 && refused.complaint().contains("permission denied"), "{refused:?}");
    let refused = fed(world.command("api", &["catalog", "export", world.file("out").to_str().unwrap()]), "");
    said.note("export", &refused);

    assert_eq!(command_lines(), Vec::<String>::new());
    for (service, log) in [(processor, "processor.log"), (jobs, "jobs.log"), (api, "api.log")] {
        let metrics = service.ask("/metrics").1;
        service.end();
        said.0.insert(log.to_owned(), std::fs::read_to_string(world.file(log)).unwrap() + &metrics);
    }
    // Kafka's and PostgreSQL's own logs are theirs; ours and all outputs have to be clean.
    let bytes: usize = said.0.values().map(String::len).sum();
    let told: Vec<&String> =
        said.0.iter().filter(|(_, text)| text.contains(MARK)).map(|(what, _)| what).collect();
    println!("{} outputs of {bytes} bytes looked through", said.0.len());
    assert!(bytes > 10_000 && told.is_empty(), "{told:?}");
    let denied: Vec<&str> = said.0["processor.log"]
        .lines()
        .chain(said.0["jobs.log"].lines())
        .chain(said.0["api.log"].lines())
        .filter(|line| line.contains("permission denied") || line.contains("uthorization failed"))
        .collect();
    assert!(denied.is_empty(), "{denied:#?}");
}
