//! A late event: the report of its day is made again without a person.

use crate::jobs_world::World;

/// What comes in late: two apples for nine pounds each, of noon on 5 March.
const LATE: &str = "
    INSERT INTO orders (order_id, line_no, product_id, quantity, unit_price, source, location_id, \"timestamp\", event_id,
                        kind, delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
    VALUES ('late', 1, 'apple', 2, 9, 'online_orders', 'online', '2024-03-05 12:00Z', gen_random_uuid(),
            'sale', -2, 4, 32, 'low', now(), 0, 99)";
/// Schedules nothing by itself.
const BY_HAND: &str =
    "[[job]]\nname = \"nightly\"\nbuilds = \"daily_report\"\ncron = \"15 0 * * *\"\nstart = \"9999-01-01\"\n
[[job]]\nname = \"revise\"\ncron = \"45 5 * * *\"\nstart = \"9999-01-01\"\n";

#[test]
fn a_late_event_has_the_reports_of_its_day_and_of_those_that_are_compared_with_it_made_again() {
    let world = World::new();
    let file = world.schedule(BY_HAND).display().to_string();
    let jobs = |args: &[&str]| {
        let mut command = world.command(&[&["jobs"], args].concat());
        crate::command::run(command.env("STOCKTIDE_JOBS_FILE", &file)).done().documents()
    };
    jobs(&["backfill", "nightly", "--from", "2024-03-04", "--to", "2024-03-13", "--json"]);
    let look = || {
        let run = jobs(&["trigger", "revise", "--date", "2024-03-13", "--json"]).remove(0);
        run["tasks"][0]["output"].clone()
    };
    let at_first = look();
    assert_eq!((at_first["stale"].as_array().unwrap().len(), &at_first["from"]), (0, &"2024-02-08".into()));

    world.execute(LATE);
    let found = look();
    let dates = |key: &str| -> Vec<String> {
        found[key].as_array().unwrap().iter().map(|date| date.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(dates("stale"), ["2024-03-05"]);
    assert_eq!(dates("compared"), ["2024-03-06", "2024-03-12"]);
    assert_eq!(found["queued"].as_array().unwrap().len(), 3);
    // What waits already is not asked for again.
    assert_eq!(look()["queued"].as_array().unwrap().len(), 0);

    let service = world.serve(BY_HAND, &[]);
    world.until("SELECT count(*) = 3 FROM reports WHERE revision = 2");
    world.until("SELECT count(*) = 0 FROM job_runs WHERE state <> 'succeeded'");
    service.end();
    assert!(world.holds(
        "SELECT array_agg(report_date ORDER BY report_date) = '{2024-03-05,2024-03-06,2024-03-12}' FROM reports WHERE revision = 2"
    ));
    let shown = world.run(&["report", "show", "2024-03-05"]).done().stdout;
    let why = "\nRevision 2: a late event of the day came in. ";
    assert!(
        shown.contains(why) && shown.contains("\n  sales · total · gross: from 2.10 to 20.10\n"),
        "{shown}"
    );
    assert_eq!(look()["stale"].as_array().unwrap().len(), 0);
    assert_eq!(world.number("SELECT count(*) FROM reports WHERE revision > 2"), 0);
}

#[test]
fn a_report_that_did_not_say_what_it_was_made_from_is_made_again_once() {
    let world = World::new();
    world.trigger("2024-03-05").done();
    // As one of before this was kept.
    world.execute("UPDATE reports SET as_of = NULL, ledger_lines = NULL");
    let look =
        || world.run(&["jobs", "trigger", "revise", "--date", "2024-03-05", "--json"]).done().documents();
    assert_eq!(look()[0]["rows"], 1);
    world.run(&["jobs", "backfill", "daily_report", "--from", "2024-03-05", "--to", "2024-03-05"]).done();
    assert_eq!(look()[0]["rows"], 0);
    assert_eq!(world.number("SELECT count(*) FROM reports"), 1);
}
