//! When a cron expression fires, and which business days that makes due.

use std::str::FromStr as _;

use chrono::{DateTime, Days, NaiveDate, SubsecRound as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::Due;

use crate::schedule::CatchUp;

/// So many days at most are looked at at once, and so many runs made in one transaction.
pub const PIECE: usize = 1_000;

/// Whether there was such a day: where a clock was put forward by a whole one (Samoa, the end of 2011) its date is missing.
pub fn existed(day: BusinessDay) -> bool {
    day.start < day.end
}

/// A cron expression on the wall of a timezone.
///
/// Where clocks skip an hour, what was to fire within it fires right after it; where they repeat one, what fires at a fixed
/// time does so once.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    timezone: Tz,
}

/// Why a timetable is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimetableError {
    /// It is no cron expression.
    #[error(
        "cron {0:?} is not one: {1}; allowed: five fields, minute hour day-of-month month day-of-week, such as \"15 0 * * *\""
    )]
    Syntax(String, String),
    /// It is one that no day ever matches.
    #[error("cron {0:?} never fires: there is no such day")]
    Never(String),
    /// There is no such timezone.
    #[error("timezone {0:?} is not known; allowed: an IANA name such as Europe/London")]
    Timezone(String),
}

impl Timetable {
    /// Reads a cron expression of five fields.
    ///
    /// # Errors
    /// When it is none, or one that never fires.
    pub fn new(cron: &str, timezone: Tz) -> Result<Timetable, TimetableError> {
        let fields = cron.split_whitespace().count();
        if fields != 5 {
            let has =
                if fields == 1 { "it has 1 field".to_owned() } else { format!("it has {fields} fields") };
            return Err(TimetableError::Syntax(cron.to_owned(), has));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let syntax = |why: croner::errors::CronError| {
            TimetableError::Syntax(cron.to_owned(), why.to_string().trim_end_matches('.').to_owned())
        };
        let timetable = Timetable { cron: parser.parse(cron).map_err(syntax)?, timezone };
        // A leap day comes within eight years of any other.
        let some_instant = Utc.timestamp_opt(0, 0).single().unwrap_or_default();
        match timetable.next(some_instant) {
            Some(_) => Ok(timetable),
            None => Err(TimetableError::Never(cron.to_owned())),
        }
    }

    /// The timezone of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn timezone_of(name: &str) -> Result<Tz, TimetableError> {
        Tz::from_str(name).map_err(|_| TimetableError::Timezone(name.to_owned()))
    }

    /// The timezone on whose wall the expression is read.
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    /// The first time that it fires, at an instant or after it.
    pub fn next(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // From the second before: where clocks skip midnight, a search that begins after the gap would not see what was to
        // fire within it.
        let whole = instant.trunc_subsecs(0);
        let before = if whole == instant { whole - TimeDelta::seconds(1) } else { whole };
        let find = |instant: DateTime<Utc>, inclusive| {
            self.cron.find_next_occurrence(&instant.with_timezone(&self.timezone), inclusive).ok()
        };
        // Where a whole day is skipped that search passes over the midnight after it; one that begins there does not.
        let today = instant.with_timezone(&self.timezone).date_naive();
        let skipped =
            today.succ_opt().map(|date| BusinessDay::of(date, self.timezone)).filter(|day| !existed(*day));
        find(before, false)
            .into_iter()
            .chain(find(whole, true))
            .chain(skipped.and_then(|day| find(day.end, true)))
            .map(|fires| fires.to_utc())
            .filter(|at| *at >= instant)
            .min()
    }

    /// When a business day's run is due: the first time that it fires after the day, if that is not after the day after it.
    pub fn due_at(&self, day: BusinessDay) -> Option<DateTime<Utc>> {
        let mut following = BusinessDay::of(day.date.checked_add_days(Days::new(1))?, day.timezone);
        if !existed(following) {
            following = BusinessDay::of(following.date.checked_add_days(Days::new(1))?, day.timezone);
        }
        self.next(day.end).filter(|due| existed(day) && *due < following.end)
    }

    /// The business days that are due at `now`, of those from a date on; [`PIECE`] days at most are looked at.
    pub fn due(&self, from: NaiveDate, now: DateTime<Utc>, business: Tz, catch_up: CatchUp) -> Due {
        match catch_up {
            CatchUp::All => self.all_due(from, now, business),
            CatchUp::Latest => self.latest_due(from, now, business),
        }
    }

    fn all_due(&self, from: NaiveDate, now: DateTime<Utc>, business: Tz) -> Due {
        let mut due = Due::default();
        for date in from.iter_days().take(PIECE) {
            match self.standing(date, now, business) {
                Standing::Open => break,
                Standing::Due(day) => due.days.push(day),
                Standing::Never => {}
            }
            due.next = date.checked_add_days(Days::new(1));
        }
        due
    }

    /// Looks back from now, so that the days before the last one that is due need not be looked at.
    fn latest_due(&self, from: NaiveDate, now: DateTime<Utc>, business: Tz) -> Due {
        let mut due = Due::default();
        let today = BusinessDay::containing(now, business).date;
        let back = std::iter::successors(Some(today), NaiveDate::pred_opt);
        for date in back.take_while(|date| *date >= from) {
            let standing = self.standing(date, now, business);
            if due.next.is_none() && !matches!(standing, Standing::Open) {
                due.next = date.checked_add_days(Days::new(1));
            }
            if let Standing::Due(day) = standing {
                due.days.push(day);
                break;
            }
        }
        due
    }

    fn standing(&self, date: NaiveDate, now: DateTime<Utc>, business: Tz) -> Standing {
        let day = BusinessDay::of(date, business);
        match self.due_at(day) {
            _ if day.end > now => Standing::Open,
            Some(at) if at > now => Standing::Open,
            Some(_) => Standing::Due(day),
            None => Standing::Never,
        }
    }

    /// When it next makes a run due after `now`, of those from a date on: the business day and the time.
    pub fn next_run(
        &self,
        from: NaiveDate,
        now: DateTime<Utc>,
        business: Tz,
    ) -> Option<(BusinessDay, DateTime<Utc>)> {
        let mut last = now.max(BusinessDay::of(from, business).end - TimeDelta::seconds(1));
        // A fire that belongs to no day of its own is the second one of its day.
        for _ in 0..10_000 {
            let fires = self.next(last + TimeDelta::seconds(1))?;
            let mut day = BusinessDay::last_before(fires, business);
            if !existed(day) {
                day = BusinessDay::of(day.date.pred_opt()?, business);
            }
            if self.due_at(day) == Some(fires) {
                return Some((day, fires));
            }
            last = fires;
        }
        None
    }
}

/// What a timetable says of a day.
enum Standing {
    /// It is not over, or its time has not come.
    Open,
    /// Its time has come.
    Due(BusinessDay),
    /// It never fires for this day.
    Never,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ZONES: [Tz; 6] = [
        Tz::Europe__London,
        Tz::America__New_York,
        Tz::Asia__Kolkata,
        Tz::Asia__Kathmandu,
        Tz::Asia__Beirut,
        Tz::UTC,
    ];

    fn timetable(cron: &str, timezone: Tz) -> Timetable {
        Timetable::new(cron, timezone).unwrap()
    }

    fn instant(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn due_at(cron: &str, day: &str, timezone: Tz) -> String {
        let at = timetable(cron, timezone).due_at(BusinessDay::of(date(day), timezone)).unwrap();
        at.with_timezone(&timezone).format("%d %H:%M %z").to_string()
    }

    #[test]
    fn a_time_that_clocks_skip_comes_right_after_the_gap() {
        // 01:30 does not exist on the 31st in London, nor 02:30 on the 10th in New York.
        assert_eq!(due_at("30 1 * * *", "2024-03-30", Tz::Europe__London), "31 02:00 +0100");
        assert_eq!(due_at("30 2 * * *", "2024-03-09", Tz::America__New_York), "10 03:00 -0400");
    }

    #[test]
    fn a_time_that_clocks_repeat_comes_once() {
        assert_eq!(due_at("30 1 * * *", "2024-10-26", Tz::Europe__London), "27 01:30 +0100");
        assert_eq!(due_at("30 1 * * *", "2024-11-02", Tz::America__New_York), "03 01:30 -0400");
        let london = timetable("30 1 * * *", Tz::Europe__London);
        let next = london.next(instant("2024-10-27T00:30:01Z")).unwrap();
        assert_eq!(next, instant("2024-10-28T01:30:00Z"));
    }

    #[test]
    fn a_wall_a_quarter_of_an_hour_off_the_others_is_read_as_it_is() {
        let kathmandu = timetable("15 0 * * *", Tz::Asia__Kathmandu);
        let day = BusinessDay::of(date("2024-06-01"), Tz::Asia__Kathmandu);
        assert_eq!(kathmandu.due_at(day), Some(instant("2024-06-01T18:30:00Z")));
        let kolkata = timetable("15 0 * * *", Tz::Asia__Kolkata);
        let day = BusinessDay::of(date("2024-06-01"), Tz::Asia__Kolkata);
        assert_eq!(kolkata.due_at(day), Some(instant("2024-06-01T18:45:00Z")));
    }

    #[test]
    fn every_day_of_two_years_gets_its_run_once_at_any_hour_of_any_wall() {
        for zone in ZONES {
            for cron in [
                "0 0 * * *",
                "15 0 * * *",
                "30 1 * * *",
                "0 2 * * *",
                "30 2 * * *",
                "59 23 * * *",
                "*/10 * * * *",
            ] {
                let due = timetable(cron, zone).due(
                    date("2023-01-01"),
                    instant("2025-01-03T00:00:00Z"),
                    zone,
                    CatchUp::All,
                );
                let dates: Vec<_> = due.days.iter().map(|day| day.date).collect();
                let all: Vec<_> = date("2023-01-01").iter_days().take(dates.len()).collect();
                assert!(dates == all && dates.len() >= 731, "{cron} {zone}: {}", dates.len());
            }
        }
    }

    #[test]
    fn the_wall_of_the_cron_may_be_another_than_that_of_the_business_day() {
        let at_six_in_new_york = timetable("0 6 * * *", Tz::America__New_York);
        let due = at_six_in_new_york.due(
            date("2024-01-01"),
            instant("2025-01-01T12:00:00Z"),
            Tz::Asia__Kathmandu,
            CatchUp::All,
        );
        assert_eq!(due.days.len(), 366);
    }

    #[test]
    fn a_day_is_due_from_its_time_on_and_stays_so() {
        let london = timetable("15 0 * * *", Tz::Europe__London);
        let due = |now| london.due(date("2024-03-29"), instant(now), Tz::Europe__London, CatchUp::All);
        let dates = |now| due(now).days.iter().map(|day| day.date.to_string()).collect::<Vec<_>>();
        assert_eq!(dates("2024-03-30T00:14:59Z"), [""; 0]);
        assert_eq!(due("2024-03-30T00:14:59Z").next, None);
        assert_eq!(dates("2024-03-30T00:15:00Z"), ["2024-03-29"]);
        // The scheduler was away for three days.
        assert_eq!(dates("2024-04-01T09:00:00Z"), ["2024-03-29", "2024-03-30", "2024-03-31"]);
        assert_eq!(due("2024-04-01T09:00:00Z").next, Some(date("2024-04-01")));
        let latest = london.due(
            date("2024-03-29"),
            instant("2024-04-01T09:00:00Z"),
            Tz::Europe__London,
            CatchUp::Latest,
        );
        assert_eq!(latest.days.iter().map(|day| day.date).collect::<Vec<_>>(), [date("2024-03-31")]);
        assert_eq!(latest.next, Some(date("2024-04-01")));
    }

    #[test]
    fn what_fires_once_a_week_makes_one_day_of_the_week_due() {
        let mondays = timetable("0 6 * * 1", Tz::UTC);
        let due = mondays.due(date("2024-01-01"), instant("2024-02-01T00:00:00Z"), Tz::UTC, CatchUp::All);
        let dates: Vec<_> = due.days.iter().map(|day| day.date.to_string()).collect();
        assert_eq!(dates, ["2024-01-07", "2024-01-14", "2024-01-21", "2024-01-28"]);
        assert_eq!(due.next, Some(date("2024-02-01")));
    }

    #[test]
    fn the_next_run_is_the_first_fire_of_a_day_that_is_not_due_yet() {
        let often = timetable("*/10 * * * *", Tz::Europe__London);
        let (day, at) =
            often.next_run(date("2024-05-01"), instant("2024-06-01T10:00:00Z"), Tz::Europe__London).unwrap();
        assert_eq!((day.date, at), (date("2024-06-01"), instant("2024-06-01T23:00:00Z")));
        let (day, at) =
            often.next_run(date("2030-01-01"), instant("2024-06-01T10:00:00Z"), Tz::Europe__London).unwrap();
        assert_eq!((day.date, at), (date("2030-01-01"), instant("2030-01-02T00:00:00Z")));
    }

    #[test]
    fn many_days_are_made_due_in_pieces_and_the_latest_alone_at_once() {
        let daily = timetable("0 0 * * *", Tz::UTC);
        let now = instant("2024-06-01T10:00:00Z");
        let first = daily.due(date("2010-12-01"), now, Tz::UTC, CatchUp::All);
        assert_eq!((first.days.len(), first.next), (PIECE, Some(date("2013-08-27"))));
        let (mut from, mut days) = (date("2010-12-01"), 0);
        while let Some(next) = daily.due(from, now, Tz::UTC, CatchUp::All).next {
            days += daily.due(from, now, Tz::UTC, CatchUp::All).days.len();
            from = next;
        }
        assert_eq!((from, days), (date("2024-06-01"), 4_931));
        let latest = daily.due(date("2000-01-01"), now, Tz::UTC, CatchUp::Latest);
        assert_eq!((latest.days.len(), latest.days[0].date), (1, date("2024-05-31")));
        assert_eq!(latest.next, Some(date("2024-06-01")));
        let leap = timetable("0 0 29 2 *", Tz::UTC);
        let latest = leap.due(date("2020-01-01"), now, Tz::UTC, CatchUp::Latest);
        assert_eq!((latest.days[0].date, latest.next), (date("2024-02-28"), Some(date("2024-06-01"))));
    }

    #[test]
    fn a_day_that_a_clock_left_out_is_never_due_and_its_neighbours_are() {
        // Samoa went from the 29th to the 31st.
        // What fires late in the day after is, in the last hours of the 29th, still about the 28th.
        for (cron, next) in
            [("0 0 * * *", "2011-12-29"), ("15 0 * * *", "2011-12-29"), ("59 23 * * *", "2011-12-28")]
        {
            let samoa = timetable(cron, Tz::Pacific__Apia);
            let now = instant("2012-01-03T12:00:00Z");
            let due = samoa.due(date("2011-12-28"), now, Tz::Pacific__Apia, CatchUp::All);
            let dates: Vec<_> = due.days.iter().map(|day| day.date.to_string()).collect();
            assert_eq!(dates[..4], ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"], "{cron}");
            let during = instant("2011-12-30T08:00:00Z");
            let (day, at) = samoa.next_run(date("2011-12-01"), during, Tz::Pacific__Apia).unwrap();
            assert_eq!((day.date, Some(at)), (date(next), samoa.due_at(day)), "{cron}");
        }
    }

    #[test]
    fn what_is_no_cron_expression_or_never_fires_is_refused() {
        for cron in [
            "",
            "61 0 * * *",
            "15 0 * *",
            "0 15 0 * * *",
            "15 0 * * * 2024",
            "a b c d e",
            "15 0 * * 8",
            "@daily",
        ] {
            let refused = Timetable::new(cron, Tz::UTC).unwrap_err();
            assert!(matches!(&refused, TimetableError::Syntax(text, _) if text == cron), "{cron}: {refused}");
        }
        let never = Timetable::new("0 0 30 2 *", Tz::UTC).unwrap_err();
        assert_eq!(never.to_string(), "cron \"0 0 30 2 *\" never fires: there is no such day");
        assert!(Timetable::new("0 0 29 2 *", Tz::UTC).is_ok());
        assert_eq!(
            Timetable::timezone_of("Europe/Londn").unwrap_err().to_string(),
            "timezone \"Europe/Londn\" is not known; allowed: an IANA name such as Europe/London"
        );
    }
}
