//! The nightly verification against a real Kafka and PostgreSQL, and what a running `stocktide jobs run` shows of runs that
//! a person executes beside it.

use crate::command::{Outcome, run, stocktide};
use crate::jobs_world::service::Service;
use crate::support::World;
use crate::support::records::{of, order, sale};
use serde_json::Value;
use tempfile::TempDir;

/// An installation with a day's work behind it, and what `stocktide` has to know of it.
struct Shop {
    world: World,
    directory: TempDir,
}

impl Shop {
    async fn open() -> Shop {
        let world = World::start(&[]).await;
        world.stock_shelves().await;
        world.send_events("online_orders", "a", &[of(order(), "apple", 3), of(order(), "bread", 1)]).await;
        world.send_events("store_sales", "b", &[of(sale(), "apple", 2)]).await;
        world.process().await;
        Shop { world, directory: TempDir::new().unwrap() }
    }

    fn command(&self, args: &[&str], schedule: &str) -> std::process::Command {
        let file = self.directory.path().join("schedule.toml");
        std::fs::write(&file, schedule).unwrap();
        let mut command = stocktide(args);
        command
            .env("STOCKTIDE_DATABASE_URL", self.world.stack.database_url())
            .env("STOCKTIDE_KAFKA_BROKERS", self.world.stack.kafka_brokers())
            .env(
                "STOCKTIDE_REPORTS_URL",
                format!("file://{}", self.directory.path().join("reports").display()),
            )
            .env("STOCKTIDE_JOBS_FILE", file)
            .env("STOCKTIDE_JOBS_POLL", "200ms")
            .env("STOCKTIDE_LOG_FILTER", "error");
        command
    }

    fn serve(&self, schedule: &str) -> Service {
        Service::start(&mut self.command(&["jobs", "run"], schedule), &self.directory.path().join("jobs.log"))
    }

    fn run(&self, args: &[&str], schedule: &str) -> Outcome {
        run(&mut self.command(args, schedule))
    }
}

/// Yesterday's run is due at once.
const DUE: &str = "[[job]]\nname = \"reconcile\"\ncron = \"0 0 * * *\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_is_green_on_a_sound_installation_and_names_a_stock_row_that_was_changed_by_hand() {
    let shop = Shop::open().await;
    let service = shop.serve(DUE);
    service.shows("stocktide_jobs_runs{job=\"reconcile\",state=\"succeeded\"} 1");
    service.shows("stocktide_reconcile_differing{check=\"stock_balances\"} 0");
    let by_night: Value = shop.run(&["jobs", "show", "1", "--json"], DUE).done().documents().remove(0);
    assert_eq!((&by_night["state"], &by_night["cause"]), (&"succeeded".into(), &"schedule".into()));
    let report = &by_night["tasks"][0]["output"];
    assert_eq!(report["ok"], true);
    assert!(by_night["rows"].as_i64().unwrap() > 10, "{by_night}");
    println!("{} checks, {} things checked", report["checks"].as_array().unwrap().len(), by_night["rows"]);

    let tamper = "UPDATE inventory SET quantity_on_hand = quantity_on_hand + 1
                  WHERE product_id = 'apple' AND location_id = 'online'";
    shop.world.execute(tamper).await;
    let date = by_night["data_date"].as_str().unwrap();
    let failed = shop.run(&["jobs", "trigger", "reconcile", "--date", date, "--json"], DUE);
    let verdict = failed.documents().remove(0);
    let error = verdict["error"].as_str().unwrap();
    println!("{error}");
    assert_eq!((failed.code, &verdict["state"]), (1, &"failed".into()));
    assert!(error.contains("promises do not hold: ") && error.contains("apple@online"), "{error}");
    // What would be so again is not tried again, and the whole answer is kept.
    assert_eq!(
        (&verdict["tasks"][0]["attempts"], &verdict["tasks"][0]["output"]["ok"]),
        (&1.into(), &false.into())
    );
    // The process that runs by night shows it, though it was not the one that found out.
    service.shows("stocktide_reconcile_differing{check=\"stock_balances\"} 1");
    service.shows("stocktide_jobs_runs{job=\"reconcile\",state=\"failed\"} 1");

    let mend = "UPDATE inventory SET quantity_on_hand = quantity_on_hand - 1
                WHERE product_id = 'apple' AND location_id = 'online'";
    shop.world.execute(mend).await;
    shop.run(&["jobs", "retry", "1"], DUE).done();
    service.shows("stocktide_reconcile_differing{check=\"stock_balances\"} 0");
    service.shows("stocktide_jobs_runs{job=\"reconcile\",state=\"failed\"} 0");
    service.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_shows_runs_that_a_person_executed_beside_it() {
    // Nothing is due before the day on which this program is forgotten.
    let never =
        "[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\nretries = 0\nstart = \"2999-01-01\"\n";
    let shop = Shop::open().await;
    let service = shop.serve(never);
    let is = |name: &str, value: &str| service.shows(&format!("stocktide_jobs_{name} {value}"));
    is("runs{job=\"daily_report\",state=\"succeeded\"}", "0");
    is("last_success_timestamp_seconds{job=\"daily_report\"}", "0");

    let trigger = ["jobs", "trigger", "daily_report", "--date", "2024-03-01", "--json"];
    let by_hand = shop.run(&trigger, never).done().documents().remove(0);
    is("runs{job=\"daily_report\",state=\"succeeded\"}", "1");
    let finished: chrono::DateTime<chrono::Utc> = by_hand["finished_at"].as_str().unwrap().parse().unwrap();
    is("last_success_timestamp_seconds{job=\"daily_report\"}", &finished.timestamp().to_string());
    is("last_success_rows{job=\"daily_report\"}", &by_hand["rows"].to_string());
    is("last_run_seconds{job=\"daily_report\",state=\"succeeded\"}", &by_hand["seconds"].to_string());

    let nowhere = format!("file://{}/reports", shop.directory.path().join("schedule.toml").display());
    let failing = ["jobs", "trigger", "daily_report", "--date", "2024-03-02", "--json"];
    let failed = run(shop.command(&failing, never).env("STOCKTIDE_REPORTS_URL", nowhere));
    assert_eq!(failed.code, 1, "{failed:?}");
    is("runs{job=\"daily_report\",state=\"failed\"}", "1");
    is(
        "last_run_seconds{job=\"daily_report\",state=\"failed\"}",
        &failed.documents()[0]["seconds"].to_string(),
    );
    is("last_success_rows{job=\"daily_report\"}", &by_hand["rows"].to_string());
    shop.run(&["jobs", "retry", "2"], never).done();
    is("runs{job=\"daily_report\",state=\"failed\"}", "0");
    is("runs{job=\"daily_report\",state=\"succeeded\"}", "2");
    assert_eq!(service.ask("/ready").0, 200);
    service.end();
}
