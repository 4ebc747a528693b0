//! Money as an exact decimal with four places.

use std::fmt;

/// An amount of the installation's one currency, in ten-thousandths of it. No binary floating point is ever involved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

/// Ten-thousandths in one unit of currency.
pub const SCALE: i64 = 10_000;
/// The largest amount, in whole units, that an event may state or add up to: a million million.
pub const MAX_UNITS: i64 = 1_000_000_000_000;

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number at all.
    #[error("not a decimal number")]
    NotANumber,
    /// More than four decimals (trailing zeros do not count).
    #[error("more than 4 decimals")]
    TooPrecise,
    /// Beyond [`MAX_UNITS`].
    #[error("larger than {MAX_UNITS}")]
    TooLarge,
}

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// From ten-thousandths.
    pub const fn from_ten_thousandths(n: i64) -> Money {
        Money(n)
    }

    /// In ten-thousandths.
    pub const fn ten_thousandths(self) -> i64 {
        self.0
    }

    /// Reads a JSON-style decimal: optional minus, digits, optional fraction, optional exponent.
    ///
    /// # Errors
    /// [`MoneyError`], when it is no number, has more than four significant decimals, or is too large.
    pub fn parse(text: &str) -> Result<Money, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => (&digits[..at], parse_exponent(&digits[at + 1..])?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let malformed = whole.is_empty()
            || (mantissa.contains('.') && fraction.is_empty())
            || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if malformed {
            return Err(MoneyError::NotANumber);
        }
        let magnitude = scaled(whole, fraction, exponent)?;
        Ok(Money(if negative { -magnitude } else { magnitude }))
    }

    /// `self × quantity`, or `None` beyond [`MAX_UNITS`].
    pub fn times(self, quantity: i64) -> Option<Money> {
        bounded(i128::from(self.0) * i128::from(quantity))
    }

    /// `self + other`, or `None` beyond [`MAX_UNITS`].
    pub fn plus(self, other: Money) -> Option<Money> {
        bounded(i128::from(self.0) + i128::from(other.0))
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// The value in ten-thousandths; digits beyond the fourth decimal must be zeros.
fn scaled(whole: &str, fraction: &str, exponent: i32) -> Result<i64, MoneyError> {
    let mut value: i128 = 0;
    // The place of a digit: 0 for the units, -1 for the tenths; it is kept down to -4.
    let mut place = i32::try_from(whole.len()).map_err(|_| MoneyError::TooLarge)?.saturating_add(exponent);
    for digit in whole.bytes().chain(fraction.bytes()) {
        place -= 1;
        if place >= -4 {
            value = value * 10 + i128::from(digit - b'0');
            if value > i128::from(MAX_UNITS) * i128::from(SCALE) {
                return Err(MoneyError::TooLarge);
            }
        } else if digit != b'0' {
            return Err(MoneyError::TooPrecise);
        }
    }
    while place > -4 && value != 0 {
        value *= 10;
        place -= 1;
        if value > i128::from(MAX_UNITS) * i128::from(SCALE) {
            return Err(MoneyError::TooLarge);
        }
    }
    i64::try_from(value).map_err(|_| MoneyError::TooLarge)
}

fn parse_exponent(text: &str) -> Result<i32, MoneyError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    // An exponent too long for an integer moves every digit out of range; the clamp keeps the sign of the answer.
    let magnitude = digits.parse::<i32>().unwrap_or(i32::MAX).min(1_000_000);
    Ok(if text.starts_with('-') { -magnitude } else { magnitude })
}

fn bounded(ten_thousandths: i128) -> Option<Money> {
    let limit = i128::from(MAX_UNITS) * i128::from(SCALE);
    (ten_thousandths.abs() <= limit).then(|| i64::try_from(ten_thousandths).ok().map(Money)).flatten()
}

impl fmt::Display for Money {
    /// At least two decimals, at most four: `2.55`, `0.0001`, `-3.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (units, rest) = (magnitude / SCALE as u64, magnitude % SCALE as u64);
        match rest {
            r if r % 100 == 0 => write!(f, "{sign}{units}.{:02}", r / 100),
            r if r % 10 == 0 => write!(f, "{sign}{units}.{:03}", r / 10),
            r => write!(f, "{sign}{units}.{r:04}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, ten_thousandths) in [
            ("2.55", 25_500),
            ("0", 0),
            ("-0.0001", -1),
            ("1e2", 1_000_000),
            ("1.5E-3", 15),
            ("0.50000000", 5_000),
            ("1000000000000", 10_000_000_000_000_000),
            ("0e999999999999", 0),
        ] {
            assert_eq!(Money::parse(text), Ok(Money(ten_thousandths)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", ".5", "5.", "NaN", "Infinity", "1e", "0x10", "1,5", " 1", "1 ", "--1", "+1"] {
            assert_eq!(Money::parse(text), Err(MoneyError::NotANumber), "{text:?}");
        }
        assert_eq!(Money::parse("0.00001"), Err(MoneyError::TooPrecise));
        assert_eq!(Money::parse("1e-5"), Err(MoneyError::TooPrecise));
        assert_eq!(Money::parse("1000000000000.0001"), Err(MoneyError::TooLarge));
        assert_eq!(Money::parse("1e99999999999999"), Err(MoneyError::TooLarge));
    }

    #[test]
    fn products_and_sums_are_bounded() {
        assert_eq!(Money(25_500).times(3), Some(Money(76_500)));
        assert_eq!(Money(MAX_UNITS * SCALE).times(2), None);
        assert_eq!(Money(MAX_UNITS * SCALE).plus(Money(1)), None);
    }

    #[test]
    fn it_is_shown_with_two_to_four_decimals() {
        let shown: Vec<String> = [25_500, 5, -30_000, 12_345, 10].map(|n| Money(n).to_string()).into();
        assert_eq!(shown, ["2.55", "0.0005", "-3.00", "1.2345", "0.001"]);
    }
}
