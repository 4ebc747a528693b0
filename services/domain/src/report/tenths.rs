//! A number with one decimal, kept without binary fractions so that it is equal where its digits are.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of tenths; stands in JSON as a number with at most one decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenths(pub i64);

impl Tenths {
    /// `numerator ÷ denominator`, rounded half away from zero; `None` where the denominator is 0.
    pub fn ratio(numerator: i128, denominator: i128) -> Option<Tenths> {
        divided(numerator.checked_mul(10)?, denominator)
            .and_then(|tenths| i64::try_from(tenths).ok())
            .map(Tenths)
    }
}

/// `numerator ÷ denominator`, rounded half away from zero; `None` where the denominator is 0.
pub(super) fn divided(numerator: i128, denominator: i128) -> Option<i128> {
    let quotient = numerator.unsigned_abs().checked_add(denominator.unsigned_abs() / 2)?;
    let quotient = i128::try_from(quotient.checked_div(denominator.unsigned_abs())?).ok()?;
    Some(if numerator.is_negative() == denominator.is_negative() { quotient } else { -quotient })
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", self.0.unsigned_abs() / 10, self.0.unsigned_abs() % 10)
    }
}

impl Serialize for Tenths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 10 == 0 {
            return serializer.serialize_i64(self.0 / 10);
        }
        // The nearest binary fraction prints as the same digits again.
        serializer.serialize_f64(self.0 as f64 / 10.0)
    }
}

impl<'de> Deserialize<'de> for Tenths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tenths, D::Error> {
        f64::deserialize(deserializer).map(|number| Tenths((number * 10.0).round() as i64))
    }
}

impl JsonSchema for Tenths {
    fn schema_name() -> Cow<'static, str> {
        "Tenths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "description": "A number with at most one decimal." })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        let ratios = [(1, 4), (-1, 4), (1, -4), (1, 3), (2, 3), (7, 1), (0, 5)];
        let shown = ratios.map(|(n, d)| Tenths::ratio(n, d).unwrap().to_string());
        assert_eq!(shown, ["0.3", "-0.3", "-0.3", "0.3", "0.7", "7.0", "0.0"]);
        assert_eq!(Tenths::ratio(1, 0), None);
    }

    #[test]
    fn json_holds_the_same_digits() {
        for (tenths, json) in [(0, "0"), (30, "3"), (35, "3.5"), (-1, "-0.1"), (123_456_789, "12345678.9")] {
            assert_eq!(serde_json::to_string(&Tenths(tenths)).unwrap(), json);
            assert_eq!(serde_json::from_str::<Tenths>(json).unwrap(), Tenths(tenths));
        }
    }
}
