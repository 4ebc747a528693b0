//! Scheduler, workers and foreground runs, on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stocktide_jobs::by_hand::{self, Came, Wish};
use stocktide_jobs::{Rails, serve};
use stocktide_store::jobs::{self, Cause, RunState, TaskState};
use support::{PATIENCE, SCHEDULE, database, day, execute, instant, number, rails, run, until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_mins(1);

/// Scheduler and worker in this process.
struct Serving {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    fn start(rails: &Arc<Rails>) -> Serving {
        let stop = CancellationToken::new();
        Serving { task: tokio::spawn(serve::serve(Arc::clone(rails), stop.clone())), stop }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap().unwrap();
    }
}

#[test]
fn three_missed_days_are_filled_in_once_each() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        // London's clocks go forward on the 31st.
        let first = serve::tick(&rails, instant("2024-03-29T01:00:00Z")).await.unwrap();
        assert_eq!(first.scheduled.len(), 1);
        let after_three_days = instant("2024-04-01T01:00:00Z");
        assert_eq!(serve::tick(&rails, after_three_days).await.unwrap().scheduled.len(), 3);
        assert_eq!(serve::tick(&rails, after_three_days).await.unwrap().scheduled.len(), 0);

        // The real clock's days are not asked for here: the worker alone has to do the four.
        let serving = Serving::start(&rails);
        until(
            &rails.pool,
            "SELECT count(*) = 4 FROM job_runs WHERE state = 'succeeded' AND data_date < '2024-04-02'",
        )
        .await;
        serving.end().await;
        let twice = "SELECT count(*) FROM (SELECT date, task FROM began WHERE date < '2024-04-02' GROUP BY 1, 2 HAVING count(*) > 1) t";
        assert_eq!(number(&rails.pool, twice).await, 0);
        assert_eq!(
            number(
                &rails.pool,
                "SELECT count(*) FROM results WHERE date BETWEEN '2024-03-28' AND '2024-03-31'"
            )
            .await,
            16
        );
    });
}

#[test]
fn two_schedulers_and_two_workers_side_by_side_make_each_of_200_runs_once() {
    run(async {
        let url = database().await;
        // 200 days up to yesterday.
        let first = stocktide_domain::interval::BusinessDay::last_before(
            stocktide_runtime::clock::now(),
            chrono_tz::Tz::Europe__London,
        )
        .date
            - chrono::Days::new(199);
        let schedule = format!("[[job]]\nname = \"chain\"\ncron = \"0 0 * * *\"\nstart = \"{first}\"\n");
        let (one, two) = (rails(&url, &schedule, LONG).await, rails(&url, &schedule, LONG).await);
        let serving = [Serving::start(&one), Serving::start(&two)];
        until(&one.pool, "SELECT count(*) >= 200 AND bool_and(state = 'succeeded') FROM job_runs").await;
        for serving in serving {
            serving.end().await;
        }
        // Midnight may pass while the test runs.
        let runs = number(&one.pool, "SELECT count(*) FROM job_runs").await;
        assert!((200..=201).contains(&runs), "{runs}");
        assert_eq!(number(&one.pool, "SELECT count(*) FROM began").await, runs * 4);
        assert_eq!(number(&one.pool, "SELECT count(*) FROM results").await, runs * 4);
        assert_eq!(number(&one.pool, "SELECT max(claim)::bigint FROM job_runs").await, 1);
        assert_eq!(number(&one.pool, "SELECT count(DISTINCT worker) FROM job_runs").await, 2);
    });
}

/// A worker in a process of its own: this test binary, which is told to be one.
fn worker(url: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_worker_of_its_own", "--nocapture"]).env("TEST_WORKER_OF", url);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test by itself: what [`worker`] starts.
#[test]
fn a_worker_of_its_own() {
    let Ok(url) = std::env::var("TEST_WORKER_OF") else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let rails = rails(&url, SCHEDULE, Duration::from_secs(2)).await;
        serve::serve(rails, CancellationToken::new()).await.unwrap();
    });
}

#[test]
fn a_run_whose_worker_is_killed_in_any_task_is_taken_over_in_time_and_has_one_result() {
    run(async {
        let url = database().await;
        let takeover = Duration::from_secs(2);
        let rails = rails(&url, SCHEDULE, takeover).await;
        for (task, date) in [
            ("collect", "2024-01-01"),
            ("left", "2024-01-02"),
            ("right", "2024-01-03"),
            ("upload", "2024-01-04"),
        ] {
            sqlx::query("INSERT INTO hold VALUES ($1)").bind(task).execute(&rails.pool).await.unwrap();
            execute(
                &rails.pool,
                "DELETE FROM job_schedules; INSERT INTO job_schedules VALUES ('chain', '9999-01-01')",
            )
            .await;
            let due = |_| jobs::Due { days: vec![day(date)], next: None };
            let run_id = jobs::schedule(&rails.pool, "chain", day(date).date, due).await.unwrap()[0];
            let mut doomed = worker(&url);
            // Nothing else is in hand: what can be done beside the one that is held is done.
            let alone = "SELECT EXISTS (SELECT FROM began JOIN hold USING (task)) AND
                (SELECT count(*) FROM job_tasks JOIN job_runs USING (run_id) WHERE job_runs.state = 'running'
                     AND job_tasks.state = 'succeeded')
                = (SELECT CASE task WHEN 'collect' THEN 0 WHEN 'upload' THEN 3 ELSE 2 END FROM hold)";
            until(&rails.pool, alone).await;
            doomed.kill().unwrap();
            doomed.wait().unwrap();
            let killed = Instant::now();
            execute(&rails.pool, "TRUNCATE hold").await;

            let serving = Serving::start(&rails);
            until(&rails.pool, "SELECT bool_and(state = 'succeeded') FROM job_runs").await;
            // The silence that is waited for, a look around, the queue's poll, and the work itself.
            let took = killed.elapsed();
            assert!(took < takeover + Duration::from_secs(5), "{task}: {took:?}");
            serving.end().await;
            let taken = jobs::run(&rails.pool, run_id).await.unwrap().unwrap();
            assert_eq!((taken.state, taken.claim, taken.losses), (RunState::Succeeded, 2, 1), "{task}");
            // Only what was in hand was done again.
            let attempts = jobs::tasks(&rails.pool, run_id).await.unwrap();
            let again: Vec<_> =
                attempts.iter().filter(|t| t.attempts == 2).map(|t| t.task.as_str()).collect();
            assert_eq!((attempts.len(), again), (4, vec![task]));
            execute(&rails.pool, "TRUNCATE began").await;
        }
        assert_eq!(number(&rails.pool, "SELECT count(*) FROM results").await, 16);
    });
}

#[test]
fn a_task_that_fails_is_retried_alone() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        execute(&rails.pool, "INSERT INTO broken VALUES ('right', 2, false)").await;
        let asked = (Cause::Trigger, Wish::Anew);
        let came =
            by_hand::run_day(&rails, "chain", day("2024-01-01"), asked, &CancellationToken::new()).await;
        let Came::Ran(run) = came.unwrap() else { panic!("it was not executed") };
        assert_eq!((run.state, run.rows, run.claim), (RunState::Succeeded, Some(4), 1));
        let tasks = jobs::tasks(&rails.pool, run.run_id).await.unwrap();
        let attempts: Vec<_> = tasks.iter().map(|t| (t.task.as_str(), t.attempts)).collect();
        assert!(attempts.contains(&("right", 3)), "{attempts:?}");
        assert_eq!(attempts.iter().filter(|(_, attempts)| *attempts == 1).count(), 3);
    });
}

#[test]
fn a_run_fails_when_a_task_does_so_too_often_and_a_retry_does_only_what_is_left() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        execute(&rails.pool, "INSERT INTO broken VALUES ('left', 3, false)").await;
        let stop = CancellationToken::new();
        let wish = async |wish| {
            by_hand::run_day(&rails, "chain", day("2024-01-01"), (Cause::Trigger, wish), &stop).await.unwrap()
        };
        let Came::Ran(failed) = wish(Wish::Anew).await else { panic!("it was not executed") };
        assert_eq!(failed.state, RunState::Failed);
        assert_eq!(failed.error.as_deref(), Some("task left: the network is gone"));
        let states = async || {
            let tasks = jobs::tasks(&rails.pool, failed.run_id).await.unwrap();
            let mut states: Vec<_> = tasks.into_iter().map(|t| (t.task, t.state, t.attempts)).collect();
            states.sort_by(|a, b| a.0.cmp(&b.0));
            states
        };
        let is = |task: &str, state, attempts| (task.to_owned(), state, attempts);
        let (ok, bad) = (TaskState::Succeeded, TaskState::Failed);
        assert_eq!(states().await, [is("collect", ok, 1), is("left", bad, 3), is("right", ok, 1)]);

        let Came::Ran(retried) = wish(Wish::Rest).await else { panic!("it was not executed") };
        assert_eq!((retried.state, retried.run_id), (RunState::Succeeded, failed.run_id));
        let all = [is("collect", ok, 1), is("left", ok, 4), is("right", ok, 1), is("upload", ok, 1)];
        assert_eq!(states().await, all);

        assert!(matches!(wish(Wish::Unless).await, Came::Already(_)));
        // Anew is everything.
        assert!(matches!(wish(Wish::Anew).await, Came::Ran(_)));
        assert_eq!(number(&rails.pool, "SELECT count(*) FROM began WHERE task = 'collect'").await, 2);
    });
}

#[test]
fn what_cannot_be_mended_by_trying_again_is_not_tried_again() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        execute(&rails.pool, "INSERT INTO broken VALUES ('upload', 1, true)").await;
        let asked = (Cause::Trigger, Wish::Anew);
        let came =
            by_hand::run_day(&rails, "chain", day("2024-01-01"), asked, &CancellationToken::new()).await;
        let Came::Ran(run) = came.unwrap() else { panic!("it was not executed") };
        assert_eq!(run.error.as_deref(), Some("task upload: no such bucket"));
    });
}

#[test]
fn a_worker_that_is_ended_in_order_gives_its_run_back_at_once() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        execute(&rails.pool, "INSERT INTO hold VALUES ('upload')").await;
        let due = |_| jobs::Due { days: vec![day("2024-01-01")], next: Some("9999-01-01".parse().unwrap()) };
        jobs::schedule(&rails.pool, "chain", day("2024-01-01").date, due).await.unwrap();
        let serving = Serving::start(&rails);
        until(&rails.pool, "SELECT EXISTS (SELECT FROM began WHERE task = 'upload')").await;
        serving.end().await;
        until(&rails.pool, "SELECT bool_and(state = 'queued') FROM job_runs").await;
        execute(&rails.pool, "TRUNCATE hold").await;
        // Well within the minute after which it would be taken over.
        let (other, began) = (support::rails(&url, SCHEDULE, LONG).await, Instant::now());
        let serving = Serving::start(&other);
        until(&rails.pool, "SELECT bool_and(state = 'succeeded') FROM job_runs").await;
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        serving.end().await;
    });
}

/// Begins a day's run by hand, anew, and interrupts it in a task.
async fn interrupt_in(rails: &Arc<Rails>, task: &'static str) -> Came {
    sqlx::query("TRUNCATE began").execute(&rails.pool).await.unwrap();
    sqlx::query("INSERT INTO hold VALUES ($1)").bind(task).execute(&rails.pool).await.unwrap();
    let stop = CancellationToken::new();
    let (token, railed) = (stop.clone(), Arc::clone(rails));
    let running = tokio::spawn(async move {
        let asked = (Cause::Backfill, Wish::Anew);
        by_hand::run_day(&railed, "chain", day("2024-01-01"), asked, &token).await.unwrap()
    });
    until(&rails.pool, "SELECT EXISTS (SELECT FROM began JOIN hold USING (task))").await;
    stop.cancel();
    let came = running.await.unwrap();
    execute(&rails.pool, "TRUNCATE hold").await;
    came
}

async fn of_day(rails: &Rails) -> (jobs::Run, Vec<jobs::Task>) {
    let run = jobs::run_of_day(&rails.pool, "chain", day("2024-01-01")).await.unwrap().unwrap();
    let tasks = jobs::tasks(&rails.pool, run.run_id).await.unwrap();
    (run, tasks)
}

#[test]
fn an_interrupted_foreground_run_is_what_it_was_before_or_waits() {
    run(async {
        let url = database().await;
        let rails = rails(&url, SCHEDULE, LONG).await;
        let by_hand = async |wish| {
            let (asked, stop) = ((Cause::Trigger, wish), CancellationToken::new());
            by_hand::run_day(&rails, "chain", day("2024-01-01"), asked, &stop).await.unwrap()
        };
        // There was none before.
        assert_eq!(interrupt_in(&rails, "collect").await, Came::Interrupted);
        assert_eq!(of_day(&rails).await.0.state, RunState::Queued);
        // It had failed.
        execute(&rails.pool, "INSERT INTO broken VALUES ('upload', 1, true)").await;
        assert!(!by_hand(Wish::Rest).await.succeeded());
        let failed = of_day(&rails).await.0;
        assert_eq!(interrupt_in(&rails, "left").await, Came::Interrupted);
        let (now, _) = of_day(&rails).await;
        assert_eq!(
            (now.state, now.error, now.finished_at),
            (RunState::Failed, failed.error, failed.finished_at)
        );
        // It had succeeded, and nothing but reading was begun.
        assert!(by_hand(Wish::Rest).await.succeeded());
        let (succeeded, tasks) = of_day(&rails).await;
        assert_eq!(interrupt_in(&rails, "collect").await, Came::Interrupted);
        let (now, tasks_now) = of_day(&rails).await;
        assert_eq!(
            (now.state, now.rows, now.finished_at),
            (RunState::Succeeded, Some(4), succeeded.finished_at)
        );
        assert_eq!((now.error, tasks_now), (None, tasks));
        // It had succeeded, and something was written again.
        assert_eq!(interrupt_in(&rails, "upload").await, Came::Interrupted);
        assert_eq!(of_day(&rails).await.0.state, RunState::Queued);
        assert!(by_hand(Wish::Rest).await.succeeded());
        assert_eq!(number(&rails.pool, "SELECT count(*) FROM job_runs").await, 1);
    });
}

/// The one job under another name.
const LATE: &str = "[[job]]\nname = \"late\"\nbuilds = \"chain\"\ncron = \"15 0 * * *\"\n";

#[test]
fn a_run_of_a_job_that_a_worker_does_not_know_is_left_to_one_that_does() {
    run(async {
        let url = database().await;
        let takeover = Duration::from_secs(1);
        let (ignorant, knowing) = (rails(&url, SCHEDULE, takeover).await, rails(&url, LATE, takeover).await);
        execute(
            &ignorant.pool,
            "INSERT INTO job_schedules VALUES ('chain', '9999-01-01'), ('late', '9999-01-01')",
        )
        .await;
        let due = |_| jobs::Due { days: vec![day("2024-01-01")], next: None };
        let run_id = jobs::schedule(&ignorant.pool, "late", day("2024-01-01").date, due).await.unwrap()[0];
        let serving = Serving::start(&ignorant);
        until(&ignorant.pool, "SELECT bool_and(status = 'Done') FROM apalis.jobs").await;
        until(&ignorant.pool, "SELECT bool_and(done_at < now() - interval '2 s') FROM apalis.jobs").await;
        let run = jobs::run(&ignorant.pool, run_id).await.unwrap().unwrap();
        assert_eq!((run.state, run.claim, run.error), (RunState::Queued, 0, None));
        let ticked = serve::tick(&ignorant, stocktide_runtime::clock::now()).await.unwrap();
        assert_eq!(ticked.left.into_iter().collect::<Vec<_>>(), [("late".to_owned(), 1)]);
        assert_eq!(ignorant.metrics.runs.with_label_values(&["late", "queued"]).get(), 1);
        let noted = ignorant.health.notes();
        assert_eq!(
            noted.get("jobs").map(String::as_str),
            Some("left to others, as the schedule followed here has no such job: late")
        );
        assert!(ignorant.health.failing().is_empty());
        // It announced nothing that it would only hand to itself.
        assert_eq!(number(&ignorant.pool, "SELECT count(*) FROM apalis.jobs").await, 1);

        let other = Serving::start(&knowing);
        until(&knowing.pool, "SELECT bool_and(state = 'succeeded') FROM job_runs").await;
        serving.end().await;
        other.end().await;
        serve::tick(&ignorant, stocktide_runtime::clock::now()).await.unwrap();
        assert_eq!(ignorant.metrics.runs.with_label_values(&["late", "queued"]).get(), 0);
    });
}

#[test]
fn a_start_that_is_set_or_lowered_later_gets_the_earlier_days_their_runs_in_pieces() {
    run(async {
        let url = database().await;
        let now = instant("2024-06-01T10:00:00Z");
        let from =
            |start: &str| format!("[[job]]\nname = \"chain\"\ncron = \"0 0 * * *\"\nstart = {start}\n");
        let all = async |rails: &Arc<Rails>| {
            let mut pieces = Vec::new();
            loop {
                let ticked = serve::tick(rails, now).await.unwrap();
                pieces.push(ticked.scheduled.len());
                if !ticked.more {
                    return pieces;
                }
            }
        };
        // A start to come makes none.
        let future = rails(&url, &from("2025-01-01"), LONG).await;
        assert_eq!(all(&future).await, [0]);
        let outlook = |rails: &Rails, position: &str| {
            let entry = rails.schedule.get("chain").unwrap().clone();
            let looked = serve::outlook(rails, &entry, position.parse().ok(), None, now);
            (looked.due, looked.next.unwrap().0.date.to_string())
        };
        assert_eq!(outlook(&future, "2024-06-01"), (0, "2025-01-01".to_owned()));
        let march = rails(&url, &from("2024-03-01"), LONG).await;
        assert_eq!(outlook(&march, "2024-03-01"), (92, "2024-03-01".to_owned()));
        assert_eq!(outlook(&march, "2024-06-01"), (0, "2024-06-01".to_owned()));
        assert_eq!(all(&march).await, [92]);
        assert_eq!(all(&rails(&url, &from("2024-03-01"), LONG).await).await, [0]);
        // Earlier than what there is: the 1,186 days before it, 1,000 days at a time.
        let earlier = rails(&url, &from("2020-12-01"), LONG).await;
        assert_eq!(all(&earlier).await, [1_000, 186]);
        assert_eq!(all(&earlier).await, [0]);
        let sql = "SELECT count(DISTINCT data_date) FROM job_runs WHERE data_date BETWEEN '2020-12-01' AND '2024-05-31'";
        assert_eq!(number(&earlier.pool, sql).await, 1_278);
    });
}
