//! The business day that a report or a job's run is about.

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// A business day: from its first instant (inclusive) to the next day's (exclusive), 23 to 25 hours where clocks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusinessDay {
    /// The day, as the calendar on the wall says.
    pub date: NaiveDate,
    /// Whose wall.
    pub timezone: Tz,
    /// Its first instant.
    pub start: DateTime<Utc>,
    /// The first instant that no longer belongs to it.
    pub end: DateTime<Utc>,
}

impl BusinessDay {
    /// The day of that date.
    pub fn of(date: NaiveDate, timezone: Tz) -> BusinessDay {
        let next = date.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX);
        BusinessDay {
            date,
            timezone,
            start: first_instant(date, timezone),
            end: first_instant(next, timezone),
        }
    }

    /// The day that an instant falls into.
    pub fn containing(instant: DateTime<Utc>, timezone: Tz) -> BusinessDay {
        BusinessDay::of(instant.with_timezone(&timezone).date_naive(), timezone)
    }

    /// The last day that was over at an instant.
    pub fn last_before(instant: DateTime<Utc>, timezone: Tz) -> BusinessDay {
        let today = instant.with_timezone(&timezone).date_naive();
        BusinessDay::of(today.checked_sub_days(Days::new(1)).unwrap_or(NaiveDate::MIN), timezone)
    }
}

/// Midnight; where clocks skip it, the first instant after it, and where they repeat it, the first of the two.
fn first_instant(date: NaiveDate, timezone: Tz) -> DateTime<Utc> {
    let mut local: NaiveDateTime = date.and_time(chrono::NaiveTime::MIN);
    // No clock has ever been put forward by more than a day.
    for _ in 0..=96 {
        match timezone.from_local_datetime(&local) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => return instant.to_utc(),
            LocalResult::None => local += TimeDelta::minutes(15),
        }
    }
    local.and_utc()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn day(date: &str, timezone: Tz) -> BusinessDay {
        BusinessDay::of(date.parse().unwrap(), timezone)
    }

    fn hours(day: BusinessDay) -> i64 {
        (day.end - day.start).num_hours()
    }

    #[test]
    fn days_on_which_clocks_change_are_shorter_and_longer() {
        for (date, timezone, expected) in [
            ("2011-03-27", Tz::Europe__London, 23),
            ("2011-10-30", Tz::Europe__London, 25),
            ("2024-03-10", Tz::America__New_York, 23),
            ("2024-11-03", Tz::America__New_York, 25),
            ("2024-03-10", Tz::Asia__Kolkata, 24),
            ("2024-03-10", Tz::Asia__Kathmandu, 24),
        ] {
            assert_eq!(hours(day(date, timezone)), expected, "{date} {timezone}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_on_the_wall_whatever_the_offset() {
        assert_eq!(day("2024-06-01", Tz::Asia__Kathmandu).start.to_rfc3339(), "2024-05-31T18:15:00+00:00");
        assert_eq!(day("2024-06-01", Tz::UTC).start.to_rfc3339(), "2024-06-01T00:00:00+00:00");
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_after_it() {
        // Beirut's clocks went from 24:00 to 01:00.
        let day = day("2022-03-27", Tz::Asia__Beirut);
        assert_eq!((day.start.to_rfc3339().as_str(), hours(day)), ("2022-03-26T22:00:00+00:00", 23));
    }

    #[test]
    fn days_follow_each_other_without_gap_or_overlap() {
        for timezone in
            [Tz::Europe__London, Tz::America__New_York, Tz::Asia__Beirut, Tz::Asia__Kathmandu, Tz::UTC]
        {
            let mut date: NaiveDate = "2022-01-01".parse().unwrap();
            for _ in 0..800 {
                let this = BusinessDay::of(date, timezone);
                date = date.succ_opt().unwrap();
                assert_eq!(this.end, BusinessDay::of(date, timezone).start);
                assert_eq!(BusinessDay::containing(this.start, timezone), this);
                assert_eq!(BusinessDay::last_before(this.end, timezone), this);
            }
        }
    }
}
