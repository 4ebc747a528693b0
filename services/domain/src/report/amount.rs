//! How money stands in JSON: a decimal string with two to four decimals.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Money;
use crate::money::SCALE;

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        read(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no amount; it must be a decimal with two to four decimals"))
        })
    }
}

/// What [`Money`]'s `Display` writes. A day's sum may be larger than any amount that an event may state.
fn read(text: &str) -> Option<Money> {
    let (sign, magnitude) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (units, decimals) = magnitude.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(units) || !digits(decimals) || !(2..=4).contains(&decimals.len()) {
        return None;
    }
    let fraction: i128 = format!("{decimals:0<4}").parse().ok()?;
    let whole: i128 = units.parse().ok()?;
    let total = sign * whole.checked_mul(i128::from(SCALE))?.checked_add(fraction)?;
    i64::try_from(total).ok().map(Money::from_ten_thousandths)
}

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An amount of the report's currency, exact.",
            "pattern": "^-?[0-9]+\\.[0-9]{2,4}$",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_survive_json_whatever_their_size() {
        for ten_thousandths in [0, 5, -5, 25_500, -30_000, 12_345, 10, i64::MAX, i64::MIN] {
            let amount = Money::from_ten_thousandths(ten_thousandths);
            let json = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), amount, "{json}");
        }
        assert_eq!(serde_json::to_string(&Money::from_ten_thousandths(-12_345_600)).unwrap(), "\"-1234.56\"");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for json in ["2.55", "\"2.5\"", "\"2\"", "\".50\"", "\"2.55000\"", "\"1e2\"", "\"--2.55\"", "\"\""] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }
}
