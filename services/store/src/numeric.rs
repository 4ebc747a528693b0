//! Money in PostgreSQL's binary `numeric`.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use stocktide_domain::Money;

/// An amount in ten-thousandths, wide enough for sums. `numeric` counts in base 10,000, so four decimals are exactly its
/// last digit (layout: PostgreSQL's `numeric_send`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numeric(pub i128);

impl From<Money> for Numeric {
    fn from(money: Money) -> Numeric {
        Numeric(i128::from(money.ten_thousandths()))
    }
}

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let mut rest = self.0.unsigned_abs();
        // Base-10,000 digits, least significant first; the first of them is the fraction.
        let mut digits = [0i16; 10];
        let mut count = 0usize;
        while rest > 0 {
            // Nearly all amounts fit into 64 bits, where this is a multiplication and no division.
            let digit;
            (rest, digit) = match u64::try_from(rest) {
                Ok(short) => (u128::from(short / 10_000), (short % 10_000) as i16),
                Err(_) => (rest / 10_000, (rest % 10_000) as i16),
            };
            *digits.get_mut(count).ok_or("an amount beyond numeric(24, 4)")? = digit;
            count += 1;
        }
        let weight = count as i16 - 2;
        let first = digits[..count].iter().position(|&d| d != 0).unwrap_or(count);
        out.put_i16((count - first) as i16);
        out.put_i16(weight);
        out.put_u16(if self.0 < 0 { 0x4000 } else { 0 });
        out.put_u16(4);
        for digit in digits[first..count].iter().rev() {
            out.put_i16(*digit);
        }
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Numeric, Box<dyn Error + Sync + Send>> {
        let word = |at: usize| {
            raw.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or("a numeric cut short")
        };
        let (count, weight, sign) = (word(0)?, i32::from(word(2)?), word(4)?);
        let mut value: i128 = 0;
        for i in 0..i32::from(count) {
            let power =
                u32::try_from(weight + 1 - i).map_err(|_| "a numeric with more than four decimals")?;
            value += i128::from(word(8 + 2 * i as usize)?)
                * 10_000i128.checked_pow(power).ok_or("a numeric too large")?;
        }
        match sign {
            0 => Ok(Numeric(value)),
            0x4000 => Ok(Numeric(-value)),
            _ => Err("a numeric that is no number".into()),
        }
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_survive_the_way_there_and_back() {
        let long = i128::from(u64::MAX);
        for n in [
            0,
            1,
            -1,
            9_999,
            10_000,
            25_500,
            -123_456_789,
            10_000_000_000_000_000,
            99_990_000,
            long,
            long + 1,
            -long - 1,
        ] {
            let mut out = BytesMut::new();
            Numeric(n).to_sql(&Type::NUMERIC, &mut out).unwrap();
            assert_eq!(Numeric::from_sql(&Type::NUMERIC, &out).unwrap(), Numeric(n));
        }
    }
}
