//! The schedule: which jobs there are, when they are due, and how failures are met.

use std::path::Path;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::timetable::{Timetable, TimetableError};

/// The built-in schedule.
const BUILT_IN: &str = include_str!("../../../jobs/schedule.toml");

/// What becomes of days that were missed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// Each gets its run.
    #[default]
    All,
    /// The last one does.
    Latest,
}

/// A job as it is scheduled.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The name of the built-in job that it is.
    pub builds: String,
    /// What it does, for people.
    pub description: String,
    /// The cron expression, as it was given.
    pub cron: String,
    /// When it fires.
    pub timetable: Timetable,
    /// What becomes of missed days.
    pub catch_up: CatchUp,
    /// The first business day; none: the one before the job is first seen.
    pub start: Option<NaiveDate>,
    /// How often a failed task is tried again.
    pub retries: u32,
    /// The pause before the first of these.
    pub backoff: Duration,
    /// How long one attempt of a task may take.
    pub timeout: Duration,
}

impl Entry {
    /// The pause before the `retry`th retry, counted from 1.
    pub fn pause(&self, retry: u32) -> Duration {
        const LONGEST: Duration = Duration::from_mins(10);
        self.backoff
            .saturating_mul(2_u32.saturating_pow(retry.saturating_sub(1)))
            .min(LONGEST.max(self.backoff))
    }
}

/// All jobs, in the file's order.
#[derive(Debug, Clone)]
pub struct Schedule {
    entries: Vec<Entry>,
}

/// Why a schedule is refused: one line that names the file, the job and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct ScheduleError {
    /// The file, or the built-in schedule's name.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// A job as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    builds: Option<String>,
    #[serde(default)]
    description: String,
    cron: String,
    timezone: Option<String>,
    #[serde(default)]
    catch_up: CatchUp,
    start: Option<toml::Value>,
    #[serde(default = "three")]
    retries: u32,
    backoff: Option<String>,
    timeout: Option<String>,
}

fn three() -> u32 {
    3
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    job: Vec<Raw>,
}

impl Schedule {
    /// The configured schedule: a file's, or the built-in one. `business` is the timezone of jobs that name none, and `known`
    /// are the built-in jobs.
    ///
    /// # Errors
    /// When the file cannot be read, or is no schedule.
    pub fn load(file: Option<&str>, business: Tz, known: &[&str]) -> Result<Schedule, ScheduleError> {
        let Some(file) = file else {
            return Schedule::parse("jobs/schedule.toml", BUILT_IN, business, known);
        };
        let text = std::fs::read_to_string(Path::new(file))
            .map_err(|error| ScheduleError { file: file.to_owned(), what: error.to_string() })?;
        Schedule::parse(file, &text, business, known)
    }

    /// Reads a schedule from its text; `file` is for the complaints.
    ///
    /// # Errors
    /// When it is no schedule.
    pub fn parse(file: &str, text: &str, business: Tz, known: &[&str]) -> Result<Schedule, ScheduleError> {
        let refuse = |what: String| ScheduleError { file: file.to_owned(), what };
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            refuse(format!("{at}{}", error.message().lines().collect::<Vec<_>>().join(" ")))
        })?;
        let mut entries: Vec<Entry> = Vec::new();
        for raw in raw.job {
            let name = raw.name.clone();
            let entry =
                entry(raw, business, known).map_err(|what| refuse(format!("job {name:?}: {what}")))?;
            if entries.iter().any(|other| other.name == entry.name) {
                return Err(refuse(format!("job {name:?} is there twice")));
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(refuse("no job in it; allowed: [[job]] tables with name and cron".to_owned()));
        }
        Ok(Schedule { entries })
    }

    /// All jobs, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The job of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The names of all jobs.
    pub fn known(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// The names of all jobs, with commas between.
    pub fn names(&self) -> String {
        self.known().join(", ")
    }
}

fn entry(raw: Raw, business: Tz, known: &[&str]) -> Result<Entry, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if raw.name.is_empty() || raw.name.len() > 63 || !raw.name.chars().all(fits) {
        return Err("name: allowed: up to 63 small letters, digits and underscores".to_owned());
    }
    let builds = raw.builds.unwrap_or_else(|| raw.name.clone());
    if !known.contains(&builds.as_str()) {
        return Err(format!("there is no such job to build as {builds:?}; allowed: {}", known.join(", ")));
    }
    let told = |error: TimetableError| error.to_string();
    let timezone = match &raw.timezone {
        Some(name) => Timetable::timezone_of(name).map_err(told)?,
        None => business,
    };
    Ok(Entry {
        builds,
        description: raw.description,
        timetable: Timetable::new(&raw.cron, timezone).map_err(told)?,
        cron: raw.cron,
        catch_up: raw.catch_up,
        start: raw.start.as_ref().map(start).transpose()?,
        retries: bounded("retries", raw.retries, 100)?,
        backoff: duration("backoff", raw.backoff.as_deref(), Duration::from_secs(10))?,
        timeout: duration("timeout", raw.timeout.as_deref(), Duration::from_hours(1))?,
        name: raw.name,
    })
}

/// The first day that anything can have happened on, as far as events are accepted.
pub fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default()
}

/// A date, with or without quotation marks.
fn start(value: &toml::Value) -> Result<NaiveDate, String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().filter(|date| *date >= first_day());
    date.ok_or_else(|| {
        format!("start is {text}; allowed: a date from {} on, such as 2010-12-01", first_day())
    })
}

fn bounded(name: &str, value: u32, most: u32) -> Result<u32, String> {
    if value <= most { Ok(value) } else { Err(format!("{name} is {value}; allowed: 0 to {most}")) }
}

fn duration(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(24);
    let Some(text) = text else { return Ok(default) };
    let allowed = || format!("{name} is {text:?}; allowed: a duration of up to a day, such as 10s or 1h");
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err(allowed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KNOWN: [&str; 4] = ["daily_report", "reconcile", "retention", "revise"];

    fn refusal(text: &str) -> String {
        Schedule::parse("s.toml", text, Tz::UTC, &KNOWN).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_schedule_has_all_built_in_jobs_on_the_wall_of_the_business() {
        let schedule = Schedule::load(None, Tz::Asia__Kathmandu, &KNOWN).unwrap();
        let names: Vec<_> = schedule.entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, KNOWN);
        assert!(schedule.entries().iter().all(|entry| entry.timetable.timezone() == Tz::Asia__Kathmandu));
        assert!(schedule.entries().iter().all(|entry| !entry.description.is_empty()));
    }

    #[test]
    fn a_job_may_have_another_name_and_wall_than_what_it_builds() {
        let text = "[[job]]\nname = \"early\"\nbuilds = \"daily_report\"\ncron = \"0 1 * * *\"\ntimezone = \"Asia/Kolkata\"\n\
                    start = \"2010-12-01\"\n";
        let schedule = Schedule::parse("s.toml", text, Tz::UTC, &KNOWN).unwrap();
        let entry = schedule.get("early").unwrap();
        assert_eq!((entry.builds.as_str(), entry.timetable.timezone()), ("daily_report", Tz::Asia__Kolkata));
        assert_eq!((entry.retries, entry.catch_up), (3, CatchUp::All));
        assert_eq!(entry.start, "2010-12-01".parse().ok());
    }

    #[test]
    fn a_start_is_a_date_with_or_without_quotation_marks_from_2000_on() {
        let job =
            |start: &str| format!("[[job]]\nname = \"reconcile\"\ncron = \"0 0 * * *\"\nstart = {start}\n");
        for start in ["2010-12-01", "\"2010-12-01\""] {
            let schedule = Schedule::parse("s.toml", &job(start), Tz::UTC, &KNOWN).unwrap();
            assert_eq!(schedule.entries()[0].start, "2010-12-01".parse().ok());
        }
        for (start, shown) in [
            ("\"0001-01-01\"", "0001-01-01"),
            ("1999-12-31", "1999-12-31"),
            ("\"soon\"", "soon"),
            ("7", "7"),
            ("2010-12-01T00:00:00", "2010-12-01T00:00:00"),
        ] {
            assert_eq!(
                refusal(&job(start)),
                format!(
                    "s.toml: job \"reconcile\": start is {shown}; allowed: a date from 2000-01-01 on, such as 2010-12-01"
                )
            );
        }
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let schedule = Schedule::load(None, Tz::UTC, &KNOWN).unwrap();
        let entry = schedule.get("daily_report").unwrap();
        assert_eq!([1, 2, 3, 50].map(|retry| entry.pause(retry).as_secs()), [10, 20, 40, 600]);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_with_file_and_job() {
        let job = |rest: &str| format!("[[job]]\nname = \"reconcile\"\n{rest}");
        assert_eq!(
            refusal(&job("cron = \"0 0 30 2 *\"")),
            "s.toml: job \"reconcile\": cron \"0 0 30 2 *\" never fires: there is no such day"
        );
        assert_eq!(
            refusal(&job("cron = \"0 0 * * *\"\ntimezone = \"Mars/Base\"")),
            "s.toml: job \"reconcile\": timezone \"Mars/Base\" is not known; allowed: an IANA name such as Europe/London"
        );
        assert_eq!(
            refusal("[[job]]\nname = \"nap\"\ncron = \"0 0 * * *\""),
            "s.toml: job \"nap\": there is no such job to build as \"nap\"; allowed: daily_report, reconcile, retention, revise"
        );
        assert!(
            refusal(&job("cron = \"0 0 * * *\"\nbackoff = \"soon\""))
                .contains("backoff is \"soon\"; allowed:")
        );
        assert!(
            refusal(&job("cron = \"0 0 * * *\"\nretries = 1000"))
                .contains("retries is 1000; allowed: 0 to 100")
        );
        assert!(
            refusal(&job("cron = \"0 0 * * *\"\ncorn = 1"))
                .starts_with("s.toml: line 4: unknown field `corn`")
        );
        assert!(refusal("").contains("no job in it"));
        let twice = job("cron = \"0 0 * * *\"\n").repeat(2);
        assert_eq!(refusal(&twice), "s.toml: job \"reconcile\" is there twice");
    }
}
