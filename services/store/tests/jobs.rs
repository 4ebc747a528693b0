//! Runs and tasks of scheduled jobs, on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;

use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde_json::json;
use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::{self, Cause, Claim, Due, Filter, Force, Run, RunState, TaskState};
use stocktide_store::migrate;

const LONG: Duration = Duration::from_hours(1);
const NONE: Duration = Duration::ZERO;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn days(first: &str, count: usize) -> Vec<BusinessDay> {
    date(first).iter_days().take(count).map(|date| BusinessDay::of(date, Tz::Europe__London)).collect()
}

async fn pool() -> PgPool {
    let url = database::empty().await;
    migrate::run(&url, "GBP", "Europe/London").await.unwrap();
    PgPool::connect(&url).await.unwrap()
}

/// Schedules `count` days from a date on, as a scheduler would that finds them due.
async fn schedule(pool: &PgPool, first: &str, count: usize) -> Vec<i64> {
    let due = |from: NaiveDate| {
        let days: Vec<_> = days(first, count).into_iter().filter(|day| day.date >= from).collect();
        Due { next: days.last().map(|day| day.date.succ_opt().unwrap()), days }
    };
    jobs::schedule(pool, "report", date(first), due).await.unwrap()
}

async fn announcements(pool: &PgPool) -> i64 {
    let sql = "SELECT count(*) FROM apalis.jobs WHERE status = 'Pending'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn held(pool: &PgPool, day: BusinessDay, worker: &str, force: Force) -> Run {
    match jobs::claim_day(pool, "report", day, worker, (Cause::Trigger, force), LONG).await.unwrap() {
        Claim::Held(run) => run,
        Claim::Refused(run) => panic!("refused: {run:?}"),
    }
}

#[test]
fn each_missing_day_is_inserted_and_announced_once() {
    database::run(async {
        let pool = pool().await;
        // A person was faster with the second day.
        let by_hand = held(&pool, days("2024-03-30", 2)[1], "hand", Force::Failed).await;
        assert_eq!(schedule(&pool, "2024-03-30", 3).await.len(), 2);
        assert_eq!(schedule(&pool, "2024-03-30", 3).await, [0_i64; 0]);
        assert_eq!(schedule(&pool, "2024-03-30", 5).await.len(), 2);
        assert_eq!(announcements(&pool).await, 4);

        let mut runs = jobs::runs(&pool, &Filter { limit: 10, ..Filter::default() }).await.unwrap();
        runs.sort_by_key(|run| run.data_date);
        assert_eq!(runs.iter().map(|run| run.day().unwrap()).collect::<Vec<_>>(), days("2024-03-30", 5));
        assert_eq!(runs[1], by_hand);
        // The day on which London's clocks go forward.
        assert_eq!((runs[1].interval_end - runs[1].interval_start).num_hours(), 23);
    });
}

#[test]
fn schedulers_side_by_side_insert_each_day_once() {
    database::run(async {
        let pool = pool().await;
        let schedulers = (0..4).map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { schedule(&pool, "2024-01-01", 50).await.len() })
        });
        let mut inserted = 0;
        for scheduler in schedulers.collect::<Vec<_>>() {
            inserted += scheduler.await.unwrap();
        }
        assert_eq!((inserted, announcements(&pool).await), (50, 50));
    });
}

#[test]
fn what_a_scheduler_did_not_commit_is_not_announced_either() {
    database::run(async {
        let pool = pool().await;
        // The queue refuses: the runs must not be there without their announcements.
        sqlx::raw_sql("ALTER TABLE apalis.jobs ADD CHECK (job_type <> 'stocktide-jobs')")
            .execute(&pool)
            .await
            .unwrap();
        let due = |_| Due { days: days("2024-01-01", 3), next: Some(date("2024-01-04")) };
        jobs::schedule(&pool, "report", date("2024-01-01"), due).await.unwrap_err();
        assert_eq!(jobs::counts(&pool).await.unwrap(), []);
    });
}

#[test]
fn a_run_is_claimed_by_one_worker_only() {
    database::run(async {
        let pool = pool().await;
        let run_id = schedule(&pool, "2024-01-01", 1).await[0];
        let claims = (0..8).map(|i| {
            let pool = pool.clone();
            tokio::spawn(async move { jobs::claim(&pool, run_id, &format!("w{i}"), LONG).await.unwrap() })
        });
        let mut held = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            held.extend(claim.await.unwrap());
        }
        assert_eq!((held.len(), held[0].claim, held[0].state), (1, 1, RunState::Running));
    });
}

#[test]
fn whoever_lost_a_run_can_write_nothing_more() {
    database::run(async {
        let pool = pool().await;
        let run_id = schedule(&pool, "2024-01-01", 1).await[0];
        let first = jobs::claim(&pool, run_id, "frozen", LONG).await.unwrap().unwrap();
        assert_eq!(jobs::begin_task(&pool, run_id, first.claim, "collect").await.unwrap(), Some(1));
        assert_eq!(jobs::claim(&pool, run_id, "other", LONG).await.unwrap(), None);

        let second = jobs::claim(&pool, run_id, "other", NONE).await.unwrap().unwrap();
        assert_eq!((second.claim, second.started_at), (2, first.started_at));
        assert!(!jobs::heartbeat(&pool, run_id, first.claim).await.unwrap());
        assert_eq!(jobs::begin_task(&pool, run_id, first.claim, "files").await.unwrap(), None);
        assert!(!jobs::succeed_task(&pool, run_id, first.claim, "collect", None, &json!(1)).await.unwrap());
        assert!(!jobs::fail_task(&pool, run_id, first.claim, "collect", "late", None).await.unwrap());
        assert!(!jobs::forget_tasks(&pool, run_id, first.claim).await.unwrap());
        assert!(!jobs::release(&pool, run_id, first.claim).await.unwrap());
        assert_eq!(jobs::finish(&pool, run_id, first.claim, None).await.unwrap(), None);

        assert!(jobs::heartbeat(&pool, run_id, second.claim).await.unwrap());
        assert_eq!(jobs::begin_task(&pool, run_id, second.claim, "collect").await.unwrap(), Some(2));
        let output = json!({"n": 1});
        assert!(jobs::succeed_task(&pool, run_id, second.claim, "collect", Some(7), &output).await.unwrap());
        let run = jobs::finish(&pool, run_id, second.claim, None).await.unwrap().unwrap();
        assert_eq!((run.state, run.rows, run.error.as_deref()), (RunState::Succeeded, Some(7), None));
        let tasks = jobs::tasks(&pool, run_id).await.unwrap();
        assert_eq!((tasks[0].state, tasks[0].attempts), (TaskState::Succeeded, 2));
        assert_eq!(tasks[0].output, Some(output));
    });
}

#[test]
fn a_lost_run_waits_again_and_is_given_up_when_it_loses_too_many_workers() {
    database::run(async {
        let pool = pool().await;
        let run_id = schedule(&pool, "2024-01-01", 1).await[0];
        for losses in 1..=5 {
            jobs::claim(&pool, run_id, &format!("doomed-{losses}"), LONG).await.unwrap().unwrap();
            assert_eq!(jobs::recover(&pool, LONG).await.unwrap(), jobs::Recovered::default());
            let recovered = jobs::recover(&pool, NONE).await.unwrap();
            let given_up: &[i64] = if losses < 5 { &[] } else { &[run_id] };
            assert_eq!(recovered.given_up, given_up, "{losses}");
        }
        let run = jobs::run(&pool, run_id).await.unwrap().unwrap();
        assert_eq!(run.state, RunState::Failed);
        assert_eq!(run.error.as_deref(), Some("its worker was lost 5 times"));
        // Asked for again, it begins afresh.
        let again = held(&pool, run.day().unwrap(), "hand", Force::Failed).await;
        assert_eq!((again.losses, again.error, again.finished_at), (0, None, None));
    });
}

#[test]
fn a_run_that_waits_unannounced_is_announced_again() {
    database::run(async {
        let pool = pool().await;
        let run_id = schedule(&pool, "2024-01-01", 1).await[0];
        assert_eq!(jobs::recover(&pool, NONE).await.unwrap(), jobs::Recovered::default());
        sqlx::raw_sql("DELETE FROM apalis.jobs").execute(&pool).await.unwrap();
        assert_eq!(jobs::recover(&pool, NONE).await.unwrap().announced, [run_id]);
        assert_eq!(announcements(&pool).await, 1);
    });
}

#[test]
fn a_person_gets_a_run_unless_it_is_in_other_hands_or_done() {
    database::run(async {
        let pool = pool().await;
        let day = days("2024-01-01", 1)[0];
        let run = held(&pool, day, "first", Force::Failed).await;
        let wish = |force, takeover| {
            jobs::claim_day(&pool, "report", day, "second", (Cause::Backfill, force), takeover)
        };
        assert_eq!(wish(Force::Succeeded, LONG).await.unwrap(), Claim::Refused(run.clone()));
        let taken = wish(Force::Failed, NONE).await.unwrap();
        assert!(matches!(&taken, Claim::Held(taken) if taken.run_id == run.run_id && taken.claim == 2));

        let failed = jobs::finish(&pool, run.run_id, 2, Some("no space")).await.unwrap().unwrap();
        assert_eq!((failed.state, failed.error.as_deref()), (RunState::Failed, Some("no space")));
        assert!(matches!(wish(Force::Failed, LONG).await.unwrap(), Claim::Held(_)));
        let done = jobs::finish(&pool, run.run_id, 3, None).await.unwrap().unwrap();
        assert_eq!(wish(Force::Failed, LONG).await.unwrap(), Claim::Refused(done));
        assert!(matches!(wish(Force::Succeeded, LONG).await.unwrap(), Claim::Held(_)));
    });
}
