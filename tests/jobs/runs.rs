//! `stocktide jobs` on a real PostgreSQL, as a person would use it.

use crate::command::run;
use crate::jobs_world::{World, bytes, files};
use serde_json::Value;

#[test]
fn a_day_is_triggered_backfilled_shown_and_never_rewritten() {
    let world = World::new();
    let triggered = world.run(&["jobs", "trigger", "daily_report", "--date", "2024-03-31", "--json"]).done();
    let run = &triggered.documents()[0];
    assert_eq!((run["state"].as_str(), run["data_date"].as_str()), (Some("succeeded"), Some("2024-03-31")));
    // The day on which London's clocks go forward.
    assert_eq!(run["interval_start"], "2024-03-31T00:00:00Z");
    assert_eq!(run["interval_end"], "2024-03-31T23:00:00Z");
    let tasks: Vec<_> =
        run["tasks"].as_array().unwrap().iter().map(|t| t["task"].as_str().unwrap()).collect();
    assert_eq!((tasks.len(), tasks[0], tasks[7]), (9, "collect", "record"));
    let written = files(&world.reports());
    assert_eq!(written.len(), 7);
    assert!(world.holds("SELECT count(*) = 1 AND max(revision) = 1 FROM reports"));

    // A second time there is nothing to write, and still one revision.
    world.run(&["jobs", "trigger", "daily_report", "--date", "2024-03-31"]).done();
    assert_eq!(files(&world.reports()), written);
    assert!(world.holds("SELECT count(*) = 1 FROM reports"));

    let range =
        ["jobs", "backfill", "daily_report", "--from", "2024-03-29", "--to", "2024-04-02", "--parallel", "2"];
    let dry = world.run(&[&range[..], &["--dry-run", "--json"]].concat()).done();
    let would: Vec<_> = dry.documents().iter().map(|day| day["would"].as_str().unwrap().to_owned()).collect();
    assert_eq!(would, ["execute", "execute", "leave", "execute", "execute"]);
    let summary = world.run(&[&range[..], &["--json"]].concat()).done().documents();
    assert_eq!((&summary[0]["succeeded"], &summary[0]["already"]), (&4.into(), &1.into()));
    let written = files(&world.reports());
    assert_eq!(written.len(), 35);
    let again = world.run(&[&range[..], &["--force", "--json"]].concat()).done().documents();
    assert_eq!(again[0]["succeeded"], 5);
    assert_eq!(files(&world.reports()), written);

    // A bit turns over in one of the files.
    let damaged = world.reports().join("daily_report/date=2024-03-31/sales.csv");
    let mut turned = std::fs::read(&damaged).unwrap();
    *turned.last_mut().unwrap() ^= 1;
    std::fs::write(&damaged, turned).unwrap();
    let fetched = world.directory.path().join("fetched");
    let fetch = ["report", "fetch", "2024-03-31", "--to", fetched.to_str().unwrap()];
    assert!(world.run(&fetch).complaint().contains("differs from its manifest; make the report again"));
    world.run(&["jobs", "trigger", "daily_report", "--date", "2024-03-31"]).done();
    world.run(&fetch).done();
    assert_eq!(bytes(&files(&world.reports())), bytes(&written));

    // Dropped and made in another order, byte for byte the same.
    std::fs::remove_dir_all(world.reports()).unwrap();
    for date in ["2024-04-02", "2024-03-30", "2024-03-31", "2024-03-29", "2024-04-01"] {
        world.run(&["jobs", "trigger", "daily_report", "--date", date]).done();
    }
    assert_eq!(bytes(&files(&world.reports())), bytes(&written));

    let runs = world.run(&["jobs", "runs", "--job", "daily_report", "--state", "succeeded", "--json"]).done();
    assert_eq!(runs.documents().len(), 5);
    let shown = world.run(&["jobs", "show", "1"]).done().stdout;
    assert!(shown.starts_with("run 1 of daily_report for 2024-03-31 (Europe/London)\n"), "{shown}");
    let list: Vec<Value> = world.run(&["jobs", "list", "--json"]).done().documents();
    assert_eq!(
        list.iter().map(|job| job["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["daily_report", "reconcile", "retention", "revise"]
    );
    assert_eq!(list[0]["last_run"]["data_date"], "2024-04-02");
    assert!(world.run(&["jobs", "list"]).done().stdout.starts_with("job "));
}

#[test]
fn a_place_that_cannot_be_written_fails_the_run_and_the_retry_succeeds() {
    let world = World::new();
    // A file where the directory has to be.
    std::fs::write(world.reports(), "in the way").unwrap();
    let failed = world.run(&["jobs", "trigger", "daily_report", "--date", "2024-03-01", "--json"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let run = &failed.documents()[0];
    assert_eq!(run["state"], "failed");
    assert!(run["error"].as_str().unwrap().starts_with("task upload: "), "{run}");
    assert!(world.holds("SELECT count(*) = 0 FROM reports"));

    std::fs::remove_file(world.reports()).unwrap();
    let retried = world.run(&["jobs", "retry", "1", "--json"]).done();
    let run = &retried.documents()[0];
    assert_eq!((run["state"].as_str(), run["run_id"].as_i64()), (Some("succeeded"), Some(1)));
    let attempts = |task| {
        let tasks = run["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["task"] == task).unwrap()["attempts"].as_i64()
    };
    assert_eq!((attempts("collect"), attempts("upload")), (Some(1), Some(2)));
    assert_eq!(files(&world.reports()).len(), 7);
    let again = world.run(&["jobs", "retry", "1"]).done();
    assert!(again.stdout.starts_with("run 1 has succeeded already: nothing was done\n"), "{again:?}");
}

#[test]
fn retention_that_is_not_configured_keeps_everything() {
    let world = World::new();
    world.run(&["jobs", "trigger", "retention", "--date", "2024-03-01"]).done();
    let noted = "SELECT output ->> 'note' LIKE 'retention.log_age is not set%' FROM job_tasks";
    assert!(world.holds(noted));
}

#[test]
fn what_cannot_be_done_is_told_in_one_line() {
    let world = World::new();
    let refused = |args: &[&str], code: i32, says: &str| {
        let outcome = world.run(args);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.complaint().contains(says), "{outcome:?}");
    };
    let trigger = ["jobs", "trigger", "daily_report", "--date"];
    refused(
        &[&trigger[..], &["2999-01-01"]].concat(),
        2,
        "2999-01-01 is not over yet in Europe/London; allowed: days up to",
    );
    refused(&[&trigger[..], &["2024-02-30"]].concat(), 2, "2024-02-30");
    refused(
        &[&trigger[..], &["0001-01-01"]].concat(),
        2,
        "0001-01-01 is too early; allowed: days from 2000-01-01",
    );
    let beyond = ["jobs", "trigger", "daily_report", "--date=-262143-01-01"];
    refused(&beyond, 2, "-262143-01-01 is too early; allowed: days from 2000-01-01");
    refused(&["jobs", "trigger", "daily_report", "--date=+262142-12-31"], 2, "+262142-12-31 is not over yet");
    let allowed = "there is no job \"nap\"; allowed: daily_report, reconcile, retention, revise";
    refused(&["jobs", "trigger", "nap", "--date", "2024-01-01"], 2, allowed);
    refused(&["jobs", "runs", "--job", "nap"], 2, allowed);
    let backfill = ["jobs", "backfill", "daily_report", "--from", "2024-01-02", "--to"];
    refused(&[&backfill[..], &["2024-01-01"]].concat(), 2, "2024-01-02 comes after 2024-01-01");
    refused(&[&backfill[..], &["2999-01-01"]].concat(), 2, "too many days");
    let early = ["jobs", "backfill", "daily_report", "--from", "1999-12-31", "--to", "2024-01-01"];
    refused(&early, 2, "1999-12-31 is too early; allowed: days from 2000-01-01");
    refused(&["jobs", "show", "99"], 1, "there is no run 99");
    refused(&["jobs", "retry", "99"], 1, "there is no run 99");

    let schedule = world.directory.path().join("schedule.toml");
    for (rest, says) in [
        ("cron = \"0 0 30 2 *\"", "job \"daily_report\": cron \"0 0 30 2 *\" never fires"),
        ("cron = \"61 0 * * *\"", "job \"daily_report\": cron \"61 0 * * *\" is not one"),
        ("cron = \"0 0 * * *\"\ntimezone = \"Mars/Base\"", "timezone \"Mars/Base\" is not known"),
        (
            "cron = \"@daily\"",
            "job \"daily_report\": cron \"@daily\" is not one: it has 1 field; allowed: five fields",
        ),
        (
            "cron = \"0 0 * * *\"\nstart = 1999-12-31",
            "job \"daily_report\": start is 1999-12-31; allowed: a date from",
        ),
    ] {
        std::fs::write(&schedule, format!("[[job]]\nname = \"daily_report\"\n{rest}\n")).unwrap();
        let outcome = run(world.command(&["jobs", "list"]).env("STOCKTIDE_JOBS_FILE", &schedule));
        assert!(outcome.code == 2 && outcome.complaint().contains(says), "{outcome:?}");
    }

    let outcome = run(world.command(&["jobs", "list"]).env("STOCKTIDE_BUSINESS_TIMEZONE", "UTC"));
    let says =
        "business.timezone is UTC, but this installation was set up with Europe/London: it cannot be changed";
    assert!(outcome.code == 2 && outcome.complaint() == says, "{outcome:?}");

    let outcome = run(world.command(&["jobs", "list"]).env("STOCKTIDE_REPORTS_URL", "s3://"));
    assert!(outcome.code == 2 && outcome.complaint().contains("and a place behind it"), "{outcome:?}");

    world.execute("CREATE DATABASE empty");
    let empty = format!("{}/empty", world.url.rsplit_once('/').unwrap().0);
    let outcome = run(world.command(&["jobs", "list"]).env("STOCKTIDE_DATABASE_URL", empty));
    assert!(
        outcome.code == 1 && outcome.complaint().contains("run `stocktide migrate` first"),
        "{outcome:?}"
    );
}

#[test]
fn a_date_that_a_clock_was_put_forward_over_is_left_out_and_said() {
    let world = World::in_timezone("Pacific/Apia");
    let backfill =
        ["jobs", "backfill", "daily_report", "--from", "2011-12-29", "--to", "2011-12-31", "--json"];
    let outcome = world.run(&backfill).done();
    assert_eq!(outcome.documents()[0]["succeeded"], 2);
    let says = "2011-12-30 did not exist in Pacific/Apia, where a clock was put forward over it";
    assert_eq!(outcome.stderr, format!("left out: {says}\n"));
    let refused = world.trigger("2011-12-30");
    assert!(refused.code == 2 && refused.complaint().starts_with(says), "{refused:?}");
}

#[test]
fn jobs_list_says_what_is_due_what_comes_next_and_what_is_left_to_others() {
    let world = World::new();
    let list = |rest: &str| {
        let schedule =
            world.schedule(&format!("[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\n{rest}"));
        let command = |args| run(world.command(args).env("STOCKTIDE_JOBS_FILE", &schedule)).done();
        (command(&["jobs", "list", "--json"]).documents(), command(&["jobs", "list"]).stdout)
    };
    let (future, _) = list("start = 2999-01-01\n");
    assert_eq!((&future[0]["due"], &future[0]["next_run"]), (&0.into(), &"2999-01-02T00:00:00Z".into()));
    let (overdue, _) = list("start = 2024-03-30\n");
    assert!(overdue[0]["due"].as_i64().unwrap() > 600, "{overdue:?}");
    let next = (&overdue[0]["next_date"], &overdue[0]["next_run"]);
    assert_eq!(next, (&"2024-03-30".into(), &"2024-03-31T00:00:00Z".into()));

    world.enqueue("2024-03-01");
    world.execute("UPDATE job_runs SET job = 'late'");
    let (with_other, table) = list("");
    assert_eq!(with_other[1]["name"], "late");
    let says = "left to others: 1 runs of \"late\", which is not in the schedule followed here";
    assert!(table.lines().any(|line| line == says), "{table}");
}
