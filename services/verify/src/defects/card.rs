//! Full card numbers, by cruder rules than the product's: what is one for certain, and what may be one.

/// A text of sixteen digits that Visa could have issued, and nothing else.
pub fn is_plain(raw: &str) -> bool {
    let digits = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(10)).collect();
    raw.len() == 18 && digits.len() == 16 && digits[0] == 4 && luhn(&digits) && digits.iter().any(|d| *d != 4)
}

/// Whether thirteen to nineteen digits in a row satisfy the checksum, whatever separators stand between them.
pub fn is_like_one(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut run: Vec<u32> = Vec::new();
    let mut rest = text.chars();
    loop {
        let next = rest.next().map(|c| match c {
            '\\' => escape(&mut rest),
            _ => c,
        });
        match next {
            Some(c @ ('0'..='9' | '０'..='９')) => {
                let zero = if c.is_ascii() { '0' } else { '０' };
                run.push(u32::from(c) - u32::from(zero));
                let has =
                    |length: usize| run.len().checked_sub(length).is_some_and(|from| luhn(&run[from..]));
                if (13..=19).any(has) {
                    return true;
                }
            }
            Some(' ' | '-' | '.' | '/' | '_' | '\u{a0}') => {}
            Some(_) => run.clear(),
            None => return false,
        }
    }
}

/// The character that an escape stands for; the backslash is read.
fn escape(rest: &mut std::str::Chars<'_>) -> char {
    if let Some(after) = rest.as_str().strip_prefix('u') {
        let hex = after.get(..4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if let Some(code) = code {
            rest.nth(4);
            return char::from_u32(code).unwrap_or('\u{fffd}');
        }
    }
    if rest.as_str().starts_with('/') { rest.next().unwrap_or('/') } else { '\\' }
}

fn luhn(digits: &[u32]) -> bool {
    const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let weighed = digits.iter().rev().enumerate().map(|(place, digit)| match place % 2 {
        0 => *digit,
        _ => DOUBLED[*digit as usize % 10],
    });
    weighed.sum::<u32>().is_multiple_of(10)
}
