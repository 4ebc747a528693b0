//! Decimal arithmetic, in ten-thousandths and 128 bits. Written apart from the domain's own: a slip in one of them shows
//! as a difference.

/// Reads a decimal: optional sign, digits, optional fraction, optional exponent. `None` where it is no decimal, or not a
/// whole number of ten-thousandths that fits.
pub fn parse(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, "0"), |(mantissa, e)| (mantissa, e));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    let (sign, digits) = digits.strip_prefix('-').map_or((1, digits.as_str()), |digits| (-1, digits));
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(digits) || !are_digits(exponent_digits) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    // However it is shifted.
    if significant.is_empty() {
        return Some(0);
    }
    let exponent = exponent.parse::<i64>().ok()?;
    // value = significant × 10^shift ten-thousandths
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let shift =
        exponent.checked_add(zeros)?.checked_add(4)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(u32::try_from(shift).ok()?)?;
    significant.parse::<i128>().ok()?.checked_mul(power)?.checked_mul(sign)
}

/// An amount for people: two to four decimals.
pub fn shown(ten_thousandths: i128) -> String {
    let sign = if ten_thousandths < 0 { "-" } else { "" };
    let (units, rest) = (ten_thousandths.unsigned_abs() / 10_000, ten_thousandths.unsigned_abs() % 10_000);
    let decimals = format!("{rest:04}");
    let kept = decimals.trim_end_matches('0').len().max(2);
    format!("{sign}{units}.{}", &decimals[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_shown_again() {
        for (text, ten_thousandths, again) in [
            ("2.55", 25_500, "2.55"),
            ("0", 0, "0.00"),
            ("0e-99999999999999999999", 0, "0.00"),
            ("-0.0001", -1, "-0.0001"),
            ("1e2", 1_000_000, "100.00"),
            ("1.5E-3", 15, "0.0015"),
            ("0.50000000", 5_000, "0.50"),
            ("123456789012.3456", 1_234_567_890_123_456, "123456789012.3456"),
            ("10655622.48", 106_556_224_800, "10655622.48"),
            ("2.550", 25_500, "2.55"),
            ("1.125", 11_250, "1.125"),
        ] {
            assert_eq!(parse(text), Some(ten_thousandths), "{text}");
            assert_eq!(shown(ten_thousandths), again);
        }
    }

    #[test]
    fn what_is_no_amount_is_nothing() {
        for text in ["", "-", "NaN", "1,5", "0x1", "1e", "0.00001", "1e99", "--1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
