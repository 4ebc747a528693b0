//! Jobs whose reports go to a store: the same files there, and what goes wrong with stores and disks, on the whole way.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{Outcome, run};
use crate::jobs_world::{World, bytes, files};
use crate::s3::S3Server;
use serde_json::Value;

const BACKFILL: [&str; 7] =
    ["jobs", "backfill", "daily_report", "--from", "2024-03-01", "--to", "2024-03-10"];

#[test]
fn a_backfill_into_s3_puts_the_same_files_there_as_into_a_directory_and_once() {
    let world = World::new();
    world.run(&BACKFILL).done();
    let server = S3Server::start(&["shop"]);
    let mut into_s3 = world.command(&[&BACKFILL[..], &["--force", "--parallel", "3"]].concat());
    into_s3.env("STOCKTIDE_REPORTS_URL", "s3://shop/nightly").envs(server.settings());
    run(&mut into_s3).done();
    let there = files(&server.object("shop", "nightly"));
    assert_eq!((there.len(), server.uploads()), (70, 70));
    assert_eq!(bytes(&there), bytes(&files(&world.reports())));
    // Nothing is written again.
    run(&mut into_s3).done();
    assert_eq!(server.uploads(), 70);
    assert_eq!(files(&server.object("shop", "nightly")), there);
    assert!(world.holds("SELECT count(*) = 10 AND bool_and(place LIKE 's3://shop/nightly/%') FROM reports"));
}

/// A world that gives a report three seconds and a second try.
fn impatient(server: &S3Server) -> World {
    let mut world = World::in_store("s3://shop/nightly", server.settings());
    let schedule = "[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\nretries = 1\nbackoff = \"100ms\"\ntimeout = \"3s\"\n";
    let schedule = world.schedule(schedule).display().to_string();
    world.settings.push(("STOCKTIDE_JOBS_FILE".to_owned(), schedule));
    world
}

/// That a run failed at its upload, so often, with one clear line; that there is no report for it; that its retry succeeds.
fn assert_failed_and_mend(
    world: &World,
    failed: &Outcome,
    (says, attempts): (&str, i64),
    mend: impl FnOnce(),
) {
    assert_eq!(failed.code, 1, "{failed:?}");
    let run = failed.documents().remove(0);
    let error = run["error"].as_str().unwrap();
    assert_eq!(run["state"], "failed");
    assert!(error.starts_with("task upload: ") && error.contains(says), "{error}");
    assert!(!error.contains('\n') && error.len() < 450, "{error}");
    assert_eq!(failed.stderr.lines().filter(|line| line.contains("ERROR")).count(), 1, "{failed:?}");
    assert_eq!(attempt(&run, "upload"), attempts, "{run}");
    let date = run["data_date"].as_str().unwrap();
    let recorded = format!("SELECT count(*) FROM reports WHERE report_date = '{date}'");
    assert_eq!(world.number(&recorded), 0);
    mend();
    let retried =
        world.run(&["jobs", "retry", &run["run_id"].to_string(), "--json"]).done().documents().remove(0);
    assert_eq!((&retried["state"], &retried["run_id"]), (&"succeeded".into(), &run["run_id"]));
    assert_eq!((attempt(&retried, "collect"), attempt(&retried, "upload")), (1, attempts + 1));
    assert_eq!(world.number(&recorded), 1);
}

fn attempt(run: &Value, task: &str) -> i64 {
    let tasks = run["tasks"].as_array().unwrap();
    tasks.iter().find(|t| t["task"] == task).unwrap()["attempts"].as_i64().unwrap()
}

#[test]
fn a_store_that_refuses_fails_the_run_at_once_and_the_retry_succeeds() {
    let server = S3Server::start(&["shop"]);
    let world = impatient(&server);
    let trigger = |date: &str, (name, value): (&str, &str)| {
        let mut command = world.command(&["jobs", "trigger", "daily_report", "--date", date, "--json"]);
        run(command.env(name, value))
    };
    let wrong = trigger("2024-03-01", ("AWS_SECRET_ACCESS_KEY", "not-the-secret"));
    assert!(!format!("{wrong:?}").contains("not-the-secret"), "{wrong:?}");
    let says = "s3://shop/nightly refuses access: SignatureDoesNotMatch";
    assert_failed_and_mend(&world, &wrong, (says, 1), || ());
    let missing = trigger("2024-03-02", ("STOCKTIDE_REPORTS_URL", "s3://elsewhere/nightly"));
    let says = "s3://elsewhere/nightly: there is no such bucket; create it, or set reports.url to another";
    assert_failed_and_mend(&world, &missing, (says, 1), || ());
    let nowhere = trigger("2024-03-03", ("AWS_ACCESS_KEY_ID", "AKNOBODY"));
    assert_failed_and_mend(&world, &nowhere, ("s3://shop/nightly refuses access: ", 1), || ());

    // In the middle, after three files.
    server.expire_after(3);
    let expired = world.trigger("2024-03-04");
    let manifest = server.object("shop", "nightly/daily_report/date=2024-03-04/manifest.json");
    assert!(!manifest.exists());
    let says = "s3://shop/nightly refuses access: ExpiredToken: The provided token has expired.; set AWS_ACCESS_KEY_ID";
    assert_failed_and_mend(&world, &expired, (says, 1), || server.recover());
    assert!(manifest.exists());
    assert_eq!(files(&server.object("shop", "nightly")).len(), 28);
}

#[test]
fn a_store_that_fails_or_hangs_in_the_middle_of_an_upload_is_tried_again_and_the_retry_succeeds() {
    let server = S3Server::start(&["shop"]);
    let world = impatient(&server);
    let fails = "s3://shop/nightly does not serve: SlowDown";
    let hangs = "it took longer than 3s";
    for (date, says) in [("2024-03-01", fails), ("2024-03-02", hangs)] {
        let break_down = if says == fails { S3Server::fail_after } else { S3Server::hang_after };
        break_down(&server, 3);
        let failed = world.trigger(date);
        let day = server.object("shop", &format!("nightly/daily_report/date={date}"));
        // The first three are whole, the manifest is not there.
        let names: Vec<String> = files(&day).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["low_stock.csv", "sales.csv", "top_sellers.csv"]);
        assert_failed_and_mend(&world, &failed, (says, 2), || server.recover());
        assert_eq!(files(&day).len(), 7);
    }
}

#[test]
fn a_store_that_is_slow_gets_its_report_at_the_first_try() {
    let server = S3Server::start(&["shop"]);
    let world = impatient(&server);
    server.slow_down();
    let run = world.trigger("2024-03-01").done().documents().remove(0);
    let task = run["tasks"].as_array().unwrap().iter().find(|task| task["task"] == "upload").unwrap();
    assert_eq!(task["attempts"], 1);
    assert_eq!(files(&server.object("shop", "nightly")).len(), 7);
}

/// A small disk of its own.
struct Disk(PathBuf);

impl Disk {
    /// None: only root may make one.
    fn of_bytes(directory: PathBuf, bytes: &str) -> Option<Disk> {
        std::fs::create_dir(&directory).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&directory);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Disk(directory))
    }

    fn grow(&self, bytes: &str) {
        let size = format!("remount,size={bytes}");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_written_and_the_retry_succeeds_when_there_is_room() {
    let world = World::new();
    let Some(disk) = Disk::of_bytes(world.reports(), "12k") else {
        println!("not tried: no disk can be made here, which takes root's rights");
        return;
    };
    let schedule =
        "[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\nretries = 1\nbackoff = \"100ms\"\n";
    let schedule = world.schedule(schedule);
    let trigger = ["jobs", "trigger", "daily_report", "--date", "2024-03-01", "--json"];
    let failed = run(world.command(&trigger).env("STOCKTIDE_JOBS_FILE", &schedule));
    let left = files(&world.reports());
    // There may be room again by itself, and so it is tried again.
    assert_failed_and_mend(&world, &failed, ("cannot be used: No space left on device", 2), || {
        disk.grow("1m");
    });
    let all = files(&world.reports());
    assert_eq!(all.len(), 7);
    for file in left {
        assert!(file.0 != "daily_report/date=2024-03-01/manifest.json");
        assert!(bytes(&all).contains(&(file.0.clone(), file.1)), "{} is half-written", file.0);
    }
}
