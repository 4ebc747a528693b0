//! The rollups, made again from the ledger.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{DateTime, Datelike, NaiveDate};
use rustc_hash::FxHashMap;

use crate::amount;
use crate::facts::{Facts, Line, LineKind, Month, Slot, Source, TopUser, User};
use crate::names::Name;
use crate::report::Check;

/// All checks of this family.
pub fn check(facts: &Facts) -> Vec<Check> {
    let mut sums = Sums { facts, months: FxHashMap::default(), users: FxHashMap::default() };
    for lines in facts.lines.chunk_by(|a, b| (a.at, a.event) == (b.at, b.event)) {
        sums.event(lines);
    }
    vec![months(facts, &sums.months), users(facts, &sums.users), top_users(facts)]
}

struct Sums<'f> {
    facts: &'f Facts,
    months: FxHashMap<(NaiveDate, Slot), Month>,
    users: FxHashMap<Name, User>,
}

impl Sums<'_> {
    /// Adds an event, from its lines.
    fn event(&mut self, lines: &[Line]) {
        let Some((line, source)) =
            lines.first().and_then(|line| Some((line, self.facts.source(line.at.slot)?)))
        else {
            return;
        };
        let units: i64 = lines.iter().map(|line| line.quantity).sum();
        let value: i128 = lines.iter().map(Line::value).sum();
        let month = match line.kind {
            LineKind::Sale => Month { orders: 1, units, gross: value, ..Month::default() },
            LineKind::Cancellation => Month {
                cancelled_orders: 1,
                cancelled_units: -units,
                cancelled_value: -value,
                ..Month::default()
            },
            LineKind::Return => {
                Month { returns: 1, returned_units: -units, returned_value: -value, ..Month::default() }
            }
            LineKind::Received | LineKind::Adjustment => return,
        };
        self.add_month(line.at.slot, line.occurred_at, month);
        let (Source::OnlineOrders, Some(user)) = (source, line.party) else { return };
        let at = Some(line.occurred_at);
        let user = self.users.entry(user).or_default();
        match line.kind {
            LineKind::Sale => {
                user.orders += 1;
                user.units += units;
                user.gross += value;
                user.first_order_at = user.first_order_at.min(at).or(at);
                user.last_order_at = user.last_order_at.max(at);
            }
            LineKind::Cancellation => {
                user.cancelled_orders += 1;
                user.cancelled_value -= value;
            }
            _ => user.returned_value -= value,
        }
    }

    fn add_month(&mut self, slot: Slot, occurred_at: i64, add: Month) {
        let local = DateTime::from_timestamp_micros(occurred_at)
            .map(|at| at.with_timezone(&self.facts.timezone).date_naive());
        let first = local.and_then(|day| day.with_day(1)).unwrap_or_default();
        let sum = self.months.entry((first, slot)).or_default();
        sum.orders += add.orders;
        sum.units += add.units;
        sum.gross += add.gross;
        sum.cancelled_orders += add.cancelled_orders;
        sum.cancelled_units += add.cancelled_units;
        sum.cancelled_value += add.cancelled_value;
        sum.returns += add.returns;
        sum.returned_units += add.returned_units;
        sum.returned_value += add.returned_value;
    }
}

fn months(facts: &Facts, sums: &FxHashMap<(NaiveDate, Slot), Month>) -> Check {
    let mut check =
        Check::new("rollups_by_month", "each month's sums per input partition are those of the ledger");
    let keys: BTreeSet<_> = facts.months.keys().chain(sums.keys()).copied().collect();
    for key in keys {
        let row = facts.months.get(&key).copied().unwrap_or_default();
        let sum = sums.get(&key).copied().unwrap_or_default();
        check.expect(row == sum, || {
            let place = facts.partition(key.1).map_or_else(String::new, ToString::to_string);
            format!(
                "{} {place}: {}",
                key.0.format("%Y-%m"),
                differences(&month_fields(&sum), &month_fields(&row))
            )
        });
    }
    check
}

fn users(facts: &Facts, sums: &FxHashMap<Name, User>) -> Check {
    let mut check = Check::new("user_stats", "each user's sums are those of the ledger");
    let keys: BTreeSet<_> = facts.users.keys().chain(sums.keys()).copied().collect();
    for key in keys {
        let row = facts.users.get(&key).copied().unwrap_or_default();
        let sum = sums.get(&key).copied().unwrap_or_default();
        check.expect(row == sum, || {
            format!("user {}: {}", facts.names.text(key), differences(&user_fields(&sum), &user_fields(&row)))
        });
    }
    check
}

/// Against `user_stats`, which is held against the ledger on its own account.
fn top_users(facts: &Facts) -> Check {
    let mut check = Check::new(
        "top_users",
        "whoever reaches a floor stands in top_users, and who stands there at a floor is told as in user_stats",
    );
    let truly = facts.users.iter().map(|(&name, user)| {
        let spend = user.gross - user.cancelled_value - user.returned_value;
        (name, TopUser { spend, orders: user.orders })
    });
    let truly: FxHashMap<Name, TopUser> = truly.collect();
    let keys: BTreeSet<Name> = truly.keys().chain(facts.top_users.keys()).copied().collect();
    for key in keys {
        let (truth, told) = (truly.get(&key).copied(), facts.top_users.get(&key).copied());
        // What stands there below both floors is left over, and nobody reads it.
        let is_at_top = |user: Option<TopUser>| user.is_some_and(|user| facts.top_floor.is_reached(user));
        check.expect(truth == told || !(is_at_top(truth) || is_at_top(told)), || {
            let words = |user: Option<TopUser>| {
                user.map_or_else(
                    || "nothing".to_owned(),
                    |TopUser { spend, orders }| format!("{} in {orders} orders", amount::shown(spend)),
                )
            };
            let user = facts.names.text(key);
            format!("user {user}: user_stats says {}, top_users says {}", words(truth), words(told))
        });
    }
    check
}

type Fields = Vec<(&'static str, String)>;

fn month_fields(month: &Month) -> Fields {
    vec![
        ("orders", month.orders.to_string()),
        ("units", month.units.to_string()),
        ("gross", amount::shown(month.gross)),
        ("cancelled_orders", month.cancelled_orders.to_string()),
        ("cancelled_units", month.cancelled_units.to_string()),
        ("cancelled_value", amount::shown(month.cancelled_value)),
        ("returns", month.returns.to_string()),
        ("returned_units", month.returned_units.to_string()),
        ("returned_value", amount::shown(month.returned_value)),
    ]
}

fn user_fields(user: &User) -> Fields {
    let moment = |at: Option<i64>| {
        at.and_then(DateTime::from_timestamp_micros).map_or_else(|| "none".to_owned(), |at| at.to_rfc3339())
    };
    vec![
        ("orders", user.orders.to_string()),
        ("units", user.units.to_string()),
        ("gross", amount::shown(user.gross)),
        ("cancelled_orders", user.cancelled_orders.to_string()),
        ("cancelled_value", amount::shown(user.cancelled_value)),
        ("returned_value", amount::shown(user.returned_value)),
        ("first_order_at", moment(user.first_order_at)),
        ("last_order_at", moment(user.last_order_at)),
    ]
}

/// The fields that are not the same: `units: ledger says 6, rollup says 7`.
fn differences(ledger: &Fields, rollup: &Fields) -> String {
    let mut words = String::new();
    for ((name, ledger), (_, rollup)) in ledger.iter().zip(rollup).filter(|(a, b)| a != b) {
        let comma = if words.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(words, "{comma}{name}: ledger says {ledger}, rollup says {rollup}");
    }
    words
}
