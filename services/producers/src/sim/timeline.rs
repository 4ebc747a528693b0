//! When the simulated events happen.

use chrono::{DateTime, Duration, NaiveTime, Utc};

/// How events are spread over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// Evenly: so many a second.
    Steady(f64),
    /// So many a day, by the rhythm of a shop's day.
    Daily(f64),
}

/// How busy each hour of the day (in UTC) is: quiet at night, a peak at noon, a higher one in the evening.
const HOURS: [u32; 24] =
    [12, 7, 5, 4, 4, 6, 12, 24, 40, 55, 64, 70, 76, 70, 64, 60, 62, 70, 82, 92, 94, 80, 52, 27];

/// Maps an event's ordinal to its moment.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    start: DateTime<Utc>,
    spread: Spread,
}

impl Timeline {
    /// Begins with event 0 at `start`.
    pub const fn new(start: DateTime<Utc>, spread: Spread) -> Timeline {
        Timeline { start, spread }
    }

    /// The moment of an event, to the microsecond; never earlier than that of the event before.
    pub fn at(&self, ordinal: u64) -> DateTime<Utc> {
        moved(self.start, self.spread, ordinal as f64)
    }
}

/// The start from which so many events last until `end`.
pub fn start_for(end: DateTime<Utc>, count: u64, spread: Spread) -> DateTime<Utc> {
    moved(end, spread, -(count as f64))
}

/// The moment so many events after (or before) another.
fn moved(from: DateTime<Utc>, spread: Spread, events: f64) -> DateTime<Utc> {
    match spread {
        Spread::Steady(per_second) => from + micros(events / per_second * 1e6),
        Spread::Daily(per_day) => {
            let midnight = from.date_naive().and_time(NaiveTime::MIN).and_utc();
            let passed = (from - midnight).num_microseconds().unwrap_or(0) as f64 / DAY_MICROS;
            let days = share_until(passed) + events / per_day;
            midnight + micros((days.floor() + time_of_share(days - days.floor())) * DAY_MICROS)
        }
    }
}

const DAY_MICROS: f64 = 86_400e6;

fn micros(value: f64) -> Duration {
    Duration::microseconds(value as i64)
}

/// The share of a day's events that have happened by a time of day (as a fraction of the day).
fn share_until(time: f64) -> f64 {
    let total = f64::from(HOURS.iter().sum::<u32>());
    let hours = time * 24.0;
    let whole = (hours as usize).min(23);
    let before: u32 = HOURS.iter().take(whole).sum();
    (f64::from(before) + f64::from(HOURS[whole]) * (hours - whole as f64)) / total
}

/// The inverse of [`share_until`].
fn time_of_share(share: f64) -> f64 {
    let mut left = share * f64::from(HOURS.iter().sum::<u32>());
    for (hour, &weight) in HOURS.iter().enumerate() {
        let weight = f64::from(weight);
        if left < weight {
            return (hour as f64 + left / weight) / 24.0;
        }
        left -= weight;
    }
    1.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrono::Timelike;

    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-03-01T13:37:00Z".parse().unwrap()
    }

    #[test]
    fn a_steady_spread_is_exact() {
        let line = Timeline::new(start(), Spread::Steady(2_000.0));
        assert_eq!(line.at(0), start());
        assert_eq!(line.at(3) - start(), Duration::microseconds(1_500));
        assert_eq!(line.at(2_000 * 3_600) - start(), Duration::hours(1));
    }

    #[test]
    fn a_day_has_its_number_of_events_and_its_rhythm() {
        let line = Timeline::new(start(), Spread::Daily(86_400.0));
        assert!((line.at(0) - start()).num_milliseconds().abs() < 2);
        assert!((line.at(86_400) - line.at(0) - Duration::days(1)).num_milliseconds().abs() < 2);
        let times: Vec<DateTime<Utc>> = (0..86_400).map(|i| line.at(i)).collect();
        assert!(times.is_sorted());
        let in_hour = |hour| times.iter().filter(|t| t.hour() == hour).count();
        assert!(in_hour(20) > 15 * in_hour(3), "{} {}", in_hour(20), in_hour(3));
    }

    #[test]
    fn a_start_can_be_found_for_an_end() {
        for (count, spread) in
            [(1_000_000, Spread::Daily(100_000.0)), (500, Spread::Daily(7.0)), (100, Spread::Steady(3.0))]
        {
            let end = Timeline::new(start_for(start(), count, spread), spread).at(count);
            assert!((end - start()).num_milliseconds().abs() < 2, "{count} {end}");
        }
    }
}
