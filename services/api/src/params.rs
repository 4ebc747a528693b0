//! What parameters take. Each says in words what is allowed, and is refused with those words.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{Datelike, NaiveDate};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use stocktide_domain::Reason;
use stocktide_store::api::{Page, Rank};
use stocktide_store::jobs::RunState;

/// The most rows of a list.
pub const MOST_ROWS: i64 = 500;
/// Rows of a list where nobody says how many.
const USUAL_ROWS: i64 = 100;
/// The most users of a ranking.
pub const MOST_RANKS: i64 = 1_000;
/// The longest id, in bytes, as in events.
const ID_BYTES: usize = 256;

/// A parameter, read from its text.
pub trait Parameter: Sized {
    /// What is allowed, in words.
    const ALLOWED: &'static str;

    /// Reads it, or says nothing more than that it is not allowed.
    fn read(text: &str) -> Option<Self>;
}

macro_rules! from_text {
    ($($name:ident),*) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $name::read(&text).ok_or_else(|| D::Error::custom($name::ALLOWED))
            }
        })*
    };
}
from_text!(
    Limit,
    N,
    Id,
    Text,
    Status,
    By,
    Month,
    Day,
    Topic,
    ReasonCode,
    State,
    OrderSource,
    MonthSource,
    Revision,
    Hours
);

/// Digits only, as a number within bounds.
fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = is_plain.then(|| text.parse().ok()).flatten()?;
    (least..=most).contains(&number).then_some(number)
}

/// Rows of a list.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub i64);

impl Parameter for Limit {
    const ALLOWED: &'static str = "a whole number from 1 to 500";

    fn read(text: &str) -> Option<Limit> {
        number(text, 1, MOST_ROWS).map(Limit)
    }
}

/// Users of a ranking.
#[derive(Debug, Clone, Copy)]
pub struct N(pub i64);

impl Parameter for N {
    const ALLOWED: &'static str = "a whole number from 1 to 1000";

    fn read(text: &str) -> Option<N> {
        number(text, 1, MOST_RANKS).map(N)
    }
}

/// A report's revision.
#[derive(Debug, Clone, Copy)]
pub struct Revision(pub u32);

impl Parameter for Revision {
    const ALLOWED: &'static str = "a whole number from 1 to 2147483647";

    fn read(text: &str) -> Option<Revision> {
        u32::try_from(number(text, 1, i64::from(i32::MAX))?).ok().map(Revision)
    }
}

/// Hours back from now.
#[derive(Debug, Clone, Copy)]
pub struct Hours(pub i64);

impl Parameter for Hours {
    const ALLOWED: &'static str = "a whole number from 1 to 8784";

    fn read(text: &str) -> Option<Hours> {
        number(text, 1, 8_784).map(Hours)
    }
}

/// An id.
#[derive(Debug, Clone)]
pub struct Id(pub String);

impl Parameter for Id {
    const ALLOWED: &'static str = "a text of 1 to 256 bytes";

    fn read(text: &str) -> Option<Id> {
        ((1..=ID_BYTES).contains(&text.len()) && !text.contains('\0')).then(|| Id(text.to_owned()))
    }
}

/// A part of a name.
#[derive(Debug, Clone)]
pub struct Text(pub String);

impl Parameter for Text {
    const ALLOWED: &'static str = "a text of 1 to 256 bytes";

    fn read(text: &str) -> Option<Text> {
        Id::read(text).map(|id| Text(id.0))
    }
}

macro_rules! one_of {
    ($($(#[doc = $doc:literal])* $name:ident($value:ty) = $allowed:literal: $words:expr;)*) => {
        $($(#[doc = $doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(pub $value);

        impl Parameter for $name {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Option<$name> {
                $words.into_iter().find(|(word, _)| *word == text).map(|(_, value)| $name(value))
            }
        })*
    };
}

one_of! {
    /// How stock stands.
    Status(&'static str) = "in_stock, low, out or oversold":
        ["in_stock", "low", "out", "oversold"].map(|word| (word, word));
    /// What users are ranked by.
    By(Rank) = "spend or orders": [("spend", Rank::Spend), ("orders", Rank::Orders)];
    /// An input topic.
    Topic(&'static str) = "online_orders, store_sales, supplier_restocks or payments":
        ["online_orders", "store_sales", "supplier_restocks", "payments"].map(|word| (word, word));
    /// A source of sales.
    OrderSource(&'static str) = "online_orders or store_sales":
        ["online_orders", "store_sales"].map(|word| (word, word));
    /// A source of sales, or all.
    MonthSource(Option<&'static str>) = "online_orders, store_sales or all":
        [("online_orders", Some("online_orders")), ("store_sales", Some("store_sales")), ("all", None)];
    /// What became of a run.
    State(RunState) = "queued, running, succeeded or failed": RunState::ALL.map(|state| (state.name(), state));
}

/// Why a record was rejected.
#[derive(Debug, Clone, Copy)]
pub struct ReasonCode(pub Reason);

impl Parameter for ReasonCode {
    const ALLOWED: &'static str = "a reason code, such as unknown_product";

    fn read(text: &str) -> Option<ReasonCode> {
        Reason::from_code(text).map(ReasonCode)
    }
}

/// A month, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(pub NaiveDate);

impl Month {
    /// Months since the year 0.
    pub fn number(self) -> i32 {
        self.0.year() * 12 + self.0.month0() as i32
    }
}

impl Parameter for Month {
    const ALLOWED: &'static str = "a month as YYYY-MM, from 1900-01 to 2999-12";

    fn read(text: &str) -> Option<Month> {
        (text.len() == 7).then(|| Day::read(&format!("{text}-01"))).flatten().map(|day| Month(day.0))
    }
}

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub NaiveDate);

impl Parameter for Day {
    const ALLOWED: &'static str = "a day as YYYY-MM-DD, from 1900-01-01 to 2999-12-31";

    fn read(text: &str) -> Option<Day> {
        let has_its_form = text.len() == 10
            && text
                .bytes()
                .enumerate()
                .all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
        let day: NaiveDate = has_its_form.then(|| text.parse().ok()).flatten()?;
        (1900..=2999).contains(&day.year()).then_some(Day(day))
    }
}

/// Where a list is to go on: what its `next` said. To whoever sends it back it has no meaning.
#[derive(Debug, Clone)]
pub struct Cursor<K>(pub K);

impl<K: DeserializeOwned> Parameter for Cursor<K> {
    const ALLOWED: &'static str = "what the field next of the page before said";

    fn read(text: &str) -> Option<Cursor<K>> {
        let json = URL_SAFE_NO_PAD.decode(text).ok()?;
        let has_null = json.windows(6).any(|part| part == b"\\u0000");
        if has_null { None } else { serde_json::from_slice(&json).ok().map(Cursor) }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Cursor<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cursor::read(&text).ok_or_else(|| D::Error::custom(Self::ALLOWED))
    }
}

/// The text that leads back to a key.
pub fn cursor<K: Serialize>(key: &K) -> String {
    // Keys are texts, numbers and times: they have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

/// The page that is asked for, with one row more, which tells whether there is another.
pub fn page<K>(limit: Option<Limit>, cursor: Option<Cursor<K>>) -> Page<K> {
    Page { after: cursor.map(|cursor| cursor.0), limit: limit.map_or(USUAL_ROWS, |limit| limit.0) + 1 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_month_or_day_is_refused() {
        for text in [
            "2024-13",
            "2024-00",
            "2024-1",
            "24-01",
            "2024-01-01",
            "+024-01",
            "2024/01",
            "",
            "1899-12",
            "٢٠٢٤-01",
        ] {
            assert!(Month::read(text).is_none(), "{text}");
        }
        for text in ["2023-02-29", "2024-2-01", "2024-02-30", "0000-01-01", "10000-01-01", "2024-02-01 "] {
            assert!(Day::read(text).is_none(), "{text}");
        }
        assert_eq!(Month::read("2024-02").unwrap().0, NaiveDate::from_ymd_opt(2024, 2, 1).unwrap());
    }

    #[test]
    fn numbers_are_plain_and_within_their_bounds() {
        for text in ["0", "-1", "1000000000", "99999999999999999999", "1.5", "+5", " 5", "", "5e1", "٥"] {
            assert!(N::read(text).is_none(), "{text}");
        }
        assert_eq!(
            (N::read("1").unwrap().0, N::read("1000").unwrap().0, N::read("007").unwrap().0),
            (1, 1000, 7)
        );
    }

    #[test]
    fn a_cursor_leads_back_to_its_key_and_nothing_else_is_one() {
        let key = ("a/b?é".to_owned(), 7_i64);
        assert_eq!(Cursor::<(String, i64)>::read(&cursor(&key)).unwrap().0, key);
        for text in ["", "x", "!!", "bnVsbA", &cursor(&("a", "b")), &cursor(&("a\0", 1))] {
            assert!(Cursor::<(String, i64)>::read(text).is_none(), "{text}");
        }
    }
}
