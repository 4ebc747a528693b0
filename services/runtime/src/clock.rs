//! The only place that reads the time of day.

use chrono::{DateTime, SubsecRound, Utc};

/// The time of day, in whole microseconds: what PostgreSQL keeps, so that a value reads back as it was written.
#[allow(clippy::disallowed_methods)] // this is the clock
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_time_has_whole_microseconds() {
        assert_eq!(super::now().timestamp_subsec_nanos() % 1_000, 0);
    }
}
