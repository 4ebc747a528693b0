//! `stocktide jobs run` that is killed, doubled, and left without its database.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::command::run;
use crate::jobs_world::service::{Service, until};
use crate::jobs_world::{TAKEOVER, World, bytes, files};
use crate::s3::S3Server;
use chrono::{Days, NaiveDate};
use sqlx::PgConnection;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::RunState;

const SCHEDULE: &str = "[[job]]\nname = \"daily_report\"\ncron = \"0 0 * * *\"\nbackoff = \"200ms\"\n";

const TASKS: [&str; 9] = [
    "collect",
    "sales",
    "top_sellers",
    "low_stock",
    "data_quality",
    "files",
    "upload",
    "record",
    "narrative",
];

/// What keeps a task from going on until its process is killed.
enum Hold {
    /// A lock on what it reads or writes.
    Lock(&'static str),
    /// A store that takes three files and does not answer for the fourth.
    Store,
    /// A language model that does not answer.
    Model,
    /// All it had to do is done: only that it is done cannot be written down.
    Answer,
}

/// Lets the end of the task that `held` names wait for a lock.
const GATE: &str = "
    CREATE TABLE held (task text);
    CREATE FUNCTION wait_if_held() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM held WHERE task = NEW.task) THEN PERFORM pg_advisory_xact_lock(4711); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_if_held BEFORE UPDATE ON job_tasks FOR EACH ROW WHEN (NEW.state = 'succeeded')
        EXECUTE FUNCTION wait_if_held()";

/// Whether anybody waits for a lock.
const WAITS: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";

/// A world with reports in S3, in which processes are killed.
struct Arena {
    world: World,
    server: S3Server,
    lock: PgConnection,
    killed: Vec<String>,
}

impl Arena {
    fn new() -> Arena {
        let server = S3Server::start(&["shop"]);
        let world = World::in_store("s3://shop/nightly", server.settings());
        world.execute(GATE);
        let lock = world.connect();
        Arena { world, server, lock, killed: Vec::new() }
    }

    fn sql(&mut self, sql: &'static str) {
        self.world.block_on(sqlx::raw_sql(sql).execute(&mut self.lock)).unwrap();
    }

    /// Kills a process in the middle of a task of a day's report, and has another one come to its end.
    fn kill_in(&mut self, task: &str, hold: &Hold) {
        let date = format!("2024-03-{:02}", self.killed.len() + 1);
        let model = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", model.local_addr().unwrap());
        let with_model =
            [("STOCKTIDE_NARRATIVE_URL", url.as_str()), ("STOCKTIDE_NARRATIVE_MODEL", "small-1")];
        match hold {
            Hold::Lock(statement) => self.sql(statement),
            Hold::Store => self.server.hang_after(3),
            Hold::Model => {}
            Hold::Answer => {
                self.world.execute(&format!("INSERT INTO held VALUES ('{task}')"));
                self.sql("BEGIN; SELECT pg_advisory_xact_lock(4711)");
            }
        }
        let uploads = self.server.uploads();
        let run_id = self.world.enqueue(&date);
        let settings: &[(&str, &str)] = if matches!(hold, Hold::Model) { &with_model } else { &[] };
        let mut doomed = self.world.serve(SCHEDULE, settings);
        // All that can be done beside it is done: what is done again is this one alone.
        let done = match TASKS.iter().position(|name| *name == task).unwrap() {
            1..=4 => 4,
            before => before,
        };
        self.world.until(&format!(
            "SELECT count(*) FILTER (WHERE state = 'succeeded') = {done}
                 AND count(*) FILTER (WHERE state = 'running' AND task = '{task}') = 1
             FROM job_tasks WHERE run_id = {run_id}"
        ));
        match hold {
            Hold::Lock(_) | Hold::Answer => self.world.until(WAITS),
            Hold::Store => until(|| self.server.uploads() == uploads + 4, || "no fourth upload".to_owned()),
            Hold::Model => drop(model.accept().unwrap()),
        }
        doomed.kill();
        let killed = Instant::now();
        // What it waited for in the database ends with it.
        self.world.until(&format!("SELECT NOT ({})", &WAITS["SELECT ".len()..]));
        self.world.execute("TRUNCATE held");
        self.sql("ROLLBACK");
        self.server.recover();
        self.follow(task, run_id, killed);
        self.killed.push(date);
    }

    /// Another process completes the run of which one was killed in a task: in time, and with this task alone done again.
    fn follow(&self, task: &str, run_id: i64, killed: Instant) {
        let other = self.world.serve(SCHEDULE, &[]);
        self.world.until(&format!("SELECT state = 'succeeded' FROM job_runs WHERE run_id = {run_id}"));
        let took = killed.elapsed();
        println!("killed in {task}: complete {took:.1?} later");
        assert!(took < TAKEOVER + Duration::from_secs(8), "{task}: {took:?}");
        other.end();
        let (run, tasks) = self.world.run_of(run_id);
        assert_eq!((run.state, run.claim, run.losses), (RunState::Succeeded, 2, 1), "{task}");
        let again: Vec<_> =
            tasks.iter().filter(|t| t.attempts != 1).map(|t| (t.task.as_str(), t.attempts)).collect();
        assert_eq!((tasks.len(), again), (TASKS.len(), vec![(task, 2)]));
    }

    /// One row and one set of files of each day, the same as where nobody was killed.
    fn end(self) {
        let days = self.killed.len();
        assert_eq!(self.world.number("SELECT count(*) FROM reports WHERE revision = 1"), days as i64);
        assert_eq!(self.world.number("SELECT count(*) FROM reports"), days as i64);
        let kept = files(&self.server.object("shop", "nightly"));
        assert_eq!(kept.len(), 7 * days);
        let undisturbed = self.world.directory.path().join("undisturbed");
        let backfill = ["jobs", "backfill", "daily_report", "--force"];
        let range = ["--from", &self.killed[0], "--to", &self.killed[days - 1]];
        let mut command = self.world.command(&[&backfill[..], &range[..]].concat());
        run(command.env("STOCKTIDE_REPORTS_URL", format!("file://{}", undisturbed.display()))).done();
        assert_eq!(bytes(&files(&undisturbed)), bytes(&kept));
    }
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_a_task_is_followed_by_another_in_time() {
    let mut arena = Arena::new();
    arena.kill_in("collect", &Hold::Lock("BEGIN; LOCK TABLE products IN ACCESS EXCLUSIVE MODE"));
    arena.kill_in("files", &Hold::Lock("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE"));
    arena.kill_in("upload", &Hold::Store);
    // Others may read it.
    arena.kill_in("record", &Hold::Lock("BEGIN; LOCK TABLE reports IN SHARE MODE"));
    arena.kill_in("narrative", &Hold::Model);
    arena.end();
}

#[test]
fn a_process_that_is_killed_before_a_task_is_noted_as_done_is_followed_by_another_in_time() {
    let mut arena = Arena::new();
    for task in TASKS {
        arena.kill_in(task, &Hold::Answer);
    }
    arena.end();
}

/// The schedule with so many days up to yesterday.
fn schedule_of(days: u64) -> String {
    let last = BusinessDay::last_before(stocktide_runtime::clock::now(), chrono_tz::Europe::London).date;
    let first: NaiveDate = last - Days::new(days - 1);
    format!("{SCHEDULE}start = \"{first}\"\n")
}

/// The numbers of the runs that a process began.
fn begun(service: &Service) -> Vec<String> {
    let log = service.log();
    let begins = log.lines().filter(|line| line.contains("run begins"));
    begins
        .map(|line| line.split("run_id=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn two_processes_side_by_side_make_each_of_200_reports_once() {
    let world = World::new();
    let schedule = schedule_of(200);
    let began = Instant::now();
    let processes = [world.serve(&schedule, &[]), world.serve(&schedule, &[])];
    let all = "SELECT count(*) >= 200 AND bool_and(state = 'succeeded') FROM job_runs";
    world.until_within(Duration::from_mins(5), all);
    println!("200 reports after {:.1?}", began.elapsed());
    let begun = [begun(&processes[0]), begun(&processes[1])];
    processes.into_iter().for_each(Service::end);

    // Midnight may pass while the test runs.
    let runs = world.number("SELECT count(*) FROM job_runs");
    assert!((200..=201).contains(&runs), "{runs}");
    let [one, two] = begun.each_ref().map(Vec::len);
    println!("one process made {one}, the other {two}");
    assert!(one > 20 && two > 20 && one + two == runs as usize, "{one} and {two} of {runs}");
    assert_eq!(begun.concat().iter().collect::<BTreeSet<_>>().len(), runs as usize);
    assert!(world.holds("SELECT bool_and(claim = 1 AND losses = 0) FROM job_runs"));
    assert!(world.holds("SELECT bool_and(attempts = 1 AND state = 'succeeded') FROM job_tasks"));
    assert_eq!(world.number("SELECT count(*) FROM job_tasks"), runs * TASKS.len() as i64);
    assert_eq!(world.number("SELECT count(*) FROM reports WHERE revision = 1"), runs);
    assert_eq!(world.number("SELECT count(*) FROM reports"), runs);
    assert_eq!(files(&world.reports()).len(), 7 * runs as usize);
}

#[test]
fn a_process_goes_on_by_itself_when_postgresql_was_away() {
    let mut world = World::new();
    let mut service = world.serve(&schedule_of(60), &[]);
    world.until("SELECT count(*) >= 5 FROM job_runs WHERE state = 'succeeded'");
    world.kill_postgres();
    let killed = Instant::now();
    until(|| service.ask("/ready").0 == 503, || service.log());
    let (_, told) = service.ask("/ready");
    println!("not ready {:.1?} after PostgreSQL was killed: {told}", killed.elapsed());
    assert!(told.contains("\"jobs\":\"the schedule cannot be followed: "), "{told}");
    assert_eq!(service.ask("/live").0, 200);
    if std::env::var_os("STOCKTIDE_TEST_LONG").is_some() {
        // Longer than anything here tries without a pause.
        std::thread::sleep(Duration::from_secs(90));
    }
    world.start_postgres();
    let started = Instant::now();

    let done = "SELECT count(*) >= 60 AND bool_and(state = 'succeeded') FROM job_runs";
    world.until_within(Duration::from_mins(2), done);
    println!("all runs are made {:.1?} after it was there again", started.elapsed());
    until(|| service.ask("/ready").0 == 200, || service.log());
    assert!(service.lives());
    let runs = world.number("SELECT count(*) FROM job_runs");
    // At most the two that were in hand were taken a second time.
    assert!(world.holds("SELECT sum(claim) <= count(*) + 2 FROM job_runs"));
    assert_eq!(world.number("SELECT count(*) FROM reports WHERE revision = 1"), runs);
    assert_eq!(world.number("SELECT count(*) FROM reports"), runs);
    assert_eq!(files(&world.reports()).len(), 7 * runs as usize);
    service.end();
}
