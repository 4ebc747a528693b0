//! Jobs whose reports go to Google Cloud Storage. The server is built by Go, so this test is asked for: `make test-gcs`.

use crate::command::run;
use crate::gcs_server::GcsServer;
use crate::jobs_world::{World, bytes, files};

#[test]
fn a_backfill_into_google_cloud_storage_puts_the_same_files_there_as_into_a_directory() {
    let world = World::new();
    let backfill =
        ["jobs", "backfill", "daily_report", "--from", "2024-03-01", "--to", "2024-03-10", "--force"];
    world.run(&backfill).done();
    let local = files(&world.reports());
    assert_eq!(local.len(), 70);

    let server = GcsServer::start(&["shop"]);
    let there = |args: &[&str], url: &str| {
        let mut command = world.command(args);
        run(command.env("STOCKTIDE_REPORTS_URL", url).envs(server.settings()))
    };
    there(&backfill, "gs://shop/nightly").done();
    assert!(world.holds("SELECT count(*) = 10 AND bool_and(place LIKE 'gs://shop/nightly/%') FROM reports"));
    let fetched = world.directory.path().join("fetched");
    for day in 1..=10 {
        let date = format!("2024-03-{day:02}");
        there(&["report", "fetch", &date, "--to", &fetched.display().to_string()], "gs://shop/nightly")
            .done();
    }
    assert_eq!(bytes(&files(&fetched)), bytes(&local));
    // Nothing is written again.
    there(&backfill, "gs://shop/nightly").done();
    assert_eq!(
        world.number(
            "SELECT sum(jsonb_array_length(output -> 'written'))::bigint FROM job_tasks WHERE task = 'upload'"
        ),
        0
    );

    let trigger = ["jobs", "trigger", "daily_report", "--date", "2024-03-11", "--json"];
    let failed = there(&trigger, "gs://elsewhere/nightly");
    let error = failed.documents()[0]["error"].clone();
    let says = "task upload: gs://elsewhere/nightly: there is no such bucket; create it, or set reports.url to another";
    assert_eq!((failed.code, error.as_str()), (1, Some(says)));
}
