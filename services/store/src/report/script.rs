//! A report's queries as a script for psql: what they cost without this program around them.

use chrono::{DateTime, TimeDelta, Utc};
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{LATE_GRACE_SECONDS, LISTED_ROWS};

use super::{BEGIN, ReportOptions, SETTINGS, Span, days_before, quality, sales, stock};

/// The statements of [`collect`](super::collect) for a day, in its order and under its settings. The largest usual quantity
/// follows from an answer among them, so it has to be given.
pub fn psql_script(day: BusinessDay, options: &ReportOptions, largest_usual: Option<i64>) -> String {
    let window = Span::last_days(day, options.cover_days.max(1));
    let (start, end, first) = (instant(day.start), instant(day.end), instant(window.start));
    let date = format!("'{}'::date", day.date);
    let listed = LISTED_ROWS.to_string();
    let mut statements: Vec<String> = [BEGIN].into_iter().chain(SETTINGS).map(str::to_owned).collect();
    let mut add = |sql: &str, values: &[&str]| statements.push(bound(sql, values));
    add("SELECT currency FROM installation", &[]);
    for of in [day, days_before(day, 1), days_before(day, 7)] {
        add(sales::SALES, &[&instant(of.start), &instant(of.end)]);
    }
    add(sales::TOP_SELLERS, &[&start, &end, &format!("{}::bigint", options.top_n)]);
    add(stock::STOCK, &[&end, &start, &first]);
    add(quality::FATES, &[&date]);
    add(quality::REJECTS, &[&start, &end]);
    add(quality::REJECTED, &[&date]);
    add(quality::QUANTITIES, &[&first, &end]);
    if let Some(largest) = largest_usual {
        add(quality::OUTLIERS, &[&start, &end, &format!("{largest}::bigint"), &listed]);
    }
    add(quality::MISMATCHES, &[&start, &end, &listed]);
    let late = instant(day.end + TimeDelta::seconds(i64::from(LATE_GRACE_SECONDS)));
    add(quality::LATE, &[&start, &end, &late]);
    add("COMMIT", &[]);
    statements.push(String::new());
    statements.join(";\n")
}

fn instant(at: DateTime<Utc>) -> String {
    format!("'{}'::timestamptz", at.to_rfc3339())
}

/// A statement with its values in the places of `$1`, `$2` ….
fn bound(sql: &str, values: &[&str]) -> String {
    // From the last on: `$1` is how `$10` begins.
    let places = values.iter().enumerate().rev();
    places.fold(sql.to_owned(), |sql, (at, value)| sql.replace(&format!("${}", at + 1), value))
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use chrono_tz::Tz;

    use super::*;

    #[test]
    fn every_value_is_in_its_place() {
        let day =
            BusinessDay::of(NaiveDate::from_ymd_opt(2011, 3, 27).unwrap_or_default(), Tz::Europe__London);
        let script = psql_script(day, &ReportOptions::default(), Some(150));
        assert!(!script.contains('$'), "{script}");
        assert_eq!(script.matches("count(*) FILTER (WHERE o.kind = 'sale') AS lines").count(), 3);
        assert!(
            script.contains("abs(o.quantity) > 150::bigint") && script.contains("LIMIT 100;"),
            "{script}"
        );
        assert!(script.contains("o.\"timestamp\" < '2011-03-27T23:00:00+00:00'::timestamptz"), "{script}");
    }
}
