//! Full card numbers: found, so that they are never stored or shown, and masked.
//!
//! A card number is 13 to 19 digits that start with 2 to 6, satisfy the Luhn checksum (ISO/IEC 7812-1, annex B) and are not all
//! the same. Between them may stand single spaces or dashes; or, where every group has four digits or more, also two of them, and
//! dots, slashes, underscores and no-break spaces. Fullwidth digits are digits. Digits that touch a letter or a further digit are
//! none, and neither are a UUID's, a decimal fraction's, or up to 15 after a `+` (a telephone number). In a row of groups
//! (`4111 1111 1111 1111 12/27`) every part of groups of four digits or more is tried, so that what is written next to a
//! card number does not hide it.
//!
//! One in ten long numbers passes the checksum by chance, so in a value that is JSON ids, article codes and times are told by their
//! key, and only what also has an issuer's prefix and length is a card number there. JSON's escapes count as the characters
//! that they stand for.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;

/// Fewest digits of a card number.
const LEAST_DIGITS: usize = 13;
/// Most digits of a card number.
const MOST_DIGITS: usize = 19;
/// Last digits that may be shown.
const SHOWN_DIGITS: usize = 4;
/// Most digits of a telephone number (E.164).
const MOST_PHONE_DIGITS: usize = 15;
/// Fewest digits of a group, where not all groups of a row belong to the number.
const LEAST_GROUP_DIGITS: usize = 4;

/// The bytes with every full card number masked (all but its last four digits replaced by `*`), or `None` when there is
/// none. Of bytes that are no JSON in UTF-8, whatever looks like one is masked.
pub fn redact(value: &[u8]) -> Option<Vec<u8>> {
    let hidden = hidden_digits(value, true);
    (!hidden.is_empty()).then(|| mask(value, &hidden))
}

/// Whether [`redact`] would mask anything.
pub fn contains(value: &[u8]) -> bool {
    !hidden_digits(value, true).is_empty()
}

/// Plain text, such as a message for people, with every card number masked, whatever it stands next to.
pub fn masked(text: &str) -> Cow<'_, str> {
    let hidden = hidden_digits(text.as_bytes(), false);
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    // Only ASCII characters were replaced, by ASCII characters.
    Cow::Owned(String::from_utf8_lossy(&mask(text.as_bytes(), &hidden)).into_owned())
}

fn mask(value: &[u8], hidden: &[Hidden]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(value.len());
    let mut done = 0;
    for Hidden { at, .. } in hidden {
        masked.extend_from_slice(&value[done..at.start]);
        masked.push(b'*');
        done = at.end;
    }
    masked.extend_from_slice(&value[done..]);
    masked
}

/// A digit that must not be shown.
#[derive(Debug)]
struct Hidden {
    at: Range<usize>,
    /// Whether its number has an issuer's prefix and length.
    of_an_issuer: bool,
}

/// The digits that must not be shown, in order.
fn hidden_digits(value: &[u8], told_by_key: bool) -> Vec<Hidden> {
    if !suspicious(value) {
        return Vec::new();
    }
    let mut hidden = Vec::new();
    for run in runs(value) {
        run.hide_cards(value, &mut hidden);
    }
    if told_by_key && hidden.iter().any(|digit| !digit.of_an_issuer) {
        let spared = spared_values(value);
        hidden.retain(|digit| {
            let after = spared.partition_point(|range| range.start <= digit.at.start);
            digit.of_an_issuer || after.checked_sub(1).is_none_or(|at| spared[at].end <= digit.at.start)
        });
    }
    hidden
}

/// Whether a value may hold a card number at all: cheap, since nearly none does.
///
/// Each byte of a card number is a digit or a separator, and it has at least 13: so it is enough to look at two bytes in
/// every twelve, and closer only where they fit.
fn suspicious(value: &[u8]) -> bool {
    const STRIDE: usize = LEAST_DIGITS - 1;
    let fits = |byte: u8| FITS[usize::from(byte)];
    let mut at = 0;
    while let Some(&[first, second]) = value.get(at..at + 2) {
        if !fits(first) || !fits(second) {
            at += STRIDE;
            continue;
        }
        let (mut start, mut end) = (at, at + 2);
        while start > 0 && fits(value[start - 1]) {
            start -= 1;
        }
        while end < value.len() && fits(value[end]) {
            end += 1;
        }
        let enough = || value[start..end].iter().filter(|byte| byte.is_ascii_digit()).count() >= LEAST_DIGITS;
        if end - start >= LEAST_DIGITS && enough() {
            return true;
        }
        at = end;
    }
    // Fullwidth digits begin with this byte; a digit or separator may be written as an escape.
    value.contains(&FULLWIDTH[0])
        || (value.contains(&b'\\')
            && value
                .windows(4)
                .any(|w| matches!(w, [b'\\', b'/', ..] | [b'\\', b'u', b'0' | b'f' | b'F', _])))
}

/// How the fullwidth digits begin in UTF-8; a third byte from 0x90 tells which.
const FULLWIDTH: [u8; 2] = [0xEF, 0xBC];
/// The no-break space in UTF-8.
const NO_BREAK_SPACE: [u8; 2] = [0xC2, 0xA0];

/// Whether a byte may stand in a card number, fullwidth digits and escapes apart.
static FITS: [bool; 256] = {
    let mut fits = [false; 256];
    let others = [b' ', b'-', b'.', b'/', b'_', NO_BREAK_SPACE[0], NO_BREAK_SPACE[1]];
    let mut at = 0;
    while at < others.len() {
        fits[others[at] as usize] = true;
        at += 1;
    }
    let mut digit = b'0';
    while digit <= b'9' {
        fits[digit as usize] = true;
        digit += 1;
    }
    fits
};

/// What a character is to this search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digit(u8),
    /// A space or a dash.
    Separator,
    /// What separates long groups only.
    Loose,
    /// So does a dot, but in a number.
    Dot,
    Letter,
    Plus,
    Other,
}

/// Reads the character at `at`, which may be an escape; its kind and its length in bytes.
fn character(value: &[u8], at: usize) -> (Kind, usize) {
    let of = |byte: u8| match byte {
        b'0'..=b'9' => Kind::Digit(byte - b'0'),
        b' ' | b'-' => Kind::Separator,
        b'/' | b'_' => Kind::Loose,
        b'+' => Kind::Plus,
        b'.' => Kind::Dot,
        _ if byte.is_ascii_alphabetic() => Kind::Letter,
        _ => Kind::Other,
    };
    match value[at..] {
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => {
            let code =
                std::str::from_utf8(&[a, b, c, d]).ok().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            let kind = match code {
                Some(code @ 0xFF10..=0xFF19) => Kind::Digit((code - 0xFF10) as u8),
                Some(0xA0) => Kind::Loose,
                Some(code) => u8::try_from(code).map_or(Kind::Other, of),
                None => Kind::Other,
            };
            (kind, 6)
        }
        [b'\\', b'/', ..] => (Kind::Loose, 2),
        [b'\\', b'b' | b'f' | b'n' | b'r' | b't' | b'"' | b'\\', ..] => (Kind::Other, 2),
        [first, second, third @ 0x90..=0x99, ..] if [first, second] == FULLWIDTH => {
            (Kind::Digit(third - 0x90), 3)
        }
        [first, second, ..] if [first, second] == NO_BREAK_SPACE => (Kind::Loose, 2),
        [byte, ..] => (of(byte), 1),
        [] => (Kind::Other, 1),
    }
}

/// A digit and where it stands.
#[derive(Debug)]
struct Digit {
    digit: u8,
    at: Range<usize>,
}

/// Digits with at most two separators between neighbours, as many as there are.
#[derive(Debug)]
struct Run {
    digits: Vec<Digit>,
    /// Which of `digits` stand together without a separator.
    groups: Vec<Range<usize>>,
    /// Before which of `digits` more stands than a single space or dash, ascending.
    loose: Vec<usize>,
    /// Before which of `digits` a single dot stands, ascending.
    dotted: Vec<usize>,
    /// What stands before: the nearer character last.
    before: [Kind; 2],
    after: Kind,
}

/// All runs of enough digits, in order.
fn runs(value: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut at = 0;
    let mut before = [Kind::Other; 2];
    std::iter::from_fn(move || {
        while at < value.len() {
            let (kind, length) = character(value, at);
            if !matches!(kind, Kind::Digit(_)) {
                before = [before[1], kind];
                at += length;
                continue;
            }
            let (run, end) = run_from(value, at, before);
            // What follows is read again as what stands before the next run; the run's last character was a digit.
            before = [Kind::Other, Kind::Digit(0)];
            at = end;
            if run.digits.len() >= LEAST_DIGITS {
                return Some(run);
            }
        }
        None
    })
}

/// The run that starts at `start`, and where its last digit ends.
fn run_from(value: &[u8], start: usize, before: [Kind; 2]) -> (Run, usize) {
    let (digits, groups, loose, dotted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut run = Run { digits, groups, loose, dotted, before, after: Kind::Other };
    let (mut at, mut end) = (start, start);
    // What stands between the last digit and here.
    let mut between: [Option<Kind>; 2] = [None; 2];
    while at < value.len() {
        let (kind, length) = character(value, at);
        match kind {
            Kind::Digit(digit) => {
                run.push(Digit { digit, at: at..at + length }, std::mem::take(&mut between));
                end = at + length;
            }
            Kind::Separator | Kind::Loose | Kind::Dot if between[1].is_none() => {
                between = [between[0].or(Some(kind)), between[0].and(Some(kind))];
            }
            _ => {
                run.after = between[0].unwrap_or(kind);
                break;
            }
        }
        at += length;
    }
    (run, end)
}

impl Run {
    /// One more digit, with what stands between it and the one before.
    fn push(&mut self, digit: Digit, between: [Option<Kind>; 2]) {
        let place = self.digits.len();
        match (self.groups.last_mut(), between) {
            (Some(group), [None, _]) => group.end = place + 1,
            _ => self.groups.push(place..place + 1),
        }
        match between {
            [None | Some(Kind::Separator), None] => {}
            [Some(Kind::Dot), None] => self.dotted.push(place),
            _ => self.loose.push(place),
        }
        self.digits.push(digit);
    }

    /// Adds the digits of its card numbers that must not be shown.
    fn hide_cards(&self, value: &[u8], hidden: &mut Vec<Hidden>) {
        if self.before[1] == Kind::Letter || self.after == Kind::Letter || self.touches_uuid(value) {
            return;
        }
        let mut groups = self.groups.clone();
        let (mut row, mut first) = (0, 0);
        while first < groups.len() {
            let Some(last) = self.card_from(&groups[row..], first - row).map(|last| last + row) else {
                first += 1;
                continue;
            };
            // The stars part the row: what stood before the card is a row of its own, and so are the digits that stay
            // with what follows.
            let card = groups[first].start..groups[last].end;
            for part in [groups[row].start..card.start, card.clone()] {
                if self.is_card(part.clone()) {
                    let of_an_issuer = is_of_an_issuer(&self.digits[part.clone()]);
                    let hide = &self.digits[part.start..part.end - SHOWN_DIGITS];
                    hidden.extend(hide.iter().map(|digit| Hidden { at: digit.at.clone(), of_an_issuer }));
                }
            }
            groups[last].start = card.end - SHOWN_DIGITS;
            (row, first) = (last, last);
        }
    }

    /// The last group of the longest card number that starts with group `first` of a row.
    fn card_from(&self, row: &[Range<usize>], first: usize) -> Option<usize> {
        let start = row[first].start;
        let (mut all_long, mut found) = (true, None);
        for (last, group) in row.iter().enumerate().skip(first) {
            if group.end - start > MOST_DIGITS {
                break;
            }
            all_long &= group.len() >= LEAST_GROUP_DIGITS;
            let within = |places: &[usize]| {
                let next = places.partition_point(|place| *place <= start);
                places.get(next).is_some_and(|place| *place < group.end)
            };
            let (dotted, loose) = (within(&self.dotted), within(&self.loose));
            // One dot alone makes a decimal number of two groups.
            let stands_together = !dotted || last >= first + 2;
            let whole = first == 0 && last + 1 == row.len() && !loose && !dotted;
            if stands_together && (whole || all_long) && self.is_card(start..group.end) {
                found = Some(last);
            }
        }
        found
    }

    fn is_card(&self, range: Range<usize>) -> bool {
        if !(LEAST_DIGITS..=MOST_DIGITS).contains(&range.len()) {
            return false;
        }
        let leads = range.start == 0;
        let fraction = if leads {
            self.before[1] == Kind::Dot && matches!(self.before[0], Kind::Digit(_))
        } else {
            self.dotted.binary_search(&range.start).is_ok()
        };
        let digits = &self.digits[range];
        let phone = leads && self.before[1] == Kind::Plus && digits.len() <= MOST_PHONE_DIGITS;
        matches!(digits[0].digit, 2..=6)
            && !fraction
            && !phone
            && digits.iter().any(|other| other.digit != digits[0].digit)
            && luhn(digits)
    }

    /// Whether any of its digits belong to a UUID.
    fn touches_uuid(&self, value: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.digits.first(), self.digits.last()) else { return false };
        let (start, end) = (first.at.start.saturating_sub(UUID_LENGTH - 1), last.at.end);
        (start..end).any(|at| value.get(at..at + UUID_LENGTH).is_some_and(is_uuid))
    }
}

const UUID_LENGTH: usize = 36;

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

fn luhn(digits: &[Digit]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(digit.digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => 2 * digit - 9,
            (_, digit) => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the first digits and the length are those that the large schemes issue (ISO/IEC 7812; Visa, Mastercard, American
/// Express, Discover, JCB, UnionPay). Times in seconds to nanoseconds, which begin with 1, never are.
fn is_of_an_issuer(digits: &[Digit]) -> bool {
    let first = digits.iter().take(4).fold(0, |number, digit| number * 10 + u32::from(digit.digit));
    match digits.len() {
        15 => matches!(first / 100, 34 | 37),
        16 => {
            matches!(first, 2221..=2720 | 3528..=3589 | 4000..=4999 | 5100..=5599 | 6011 | 6200..=6299 | 6440..=6599)
        }
        _ => false,
    }
}

/// Where the values of ids, article codes and times stand, if `value` is JSON at all.
fn spared_values(value: &[u8]) -> Vec<Range<usize>> {
    let mut spared = Vec::new();
    let is_json =
        std::str::from_utf8(value).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        return spared;
    }
    let (mut at, mut spare_next) = (0, false);
    while at < value.len() {
        let end = match value[at] {
            b'"' => string_end(value, at),
            b'-' | b'0'..=b'9' => {
                let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
                value[at..].iter().position(|byte| !part(byte)).map_or(value.len(), |length| at + length)
            }
            byte => {
                // White space and the colon lie between a key and its value; anything else ends that.
                spare_next &= byte.is_ascii_whitespace() || byte == b':';
                at += 1;
                continue;
            }
        };
        let follows = value[end..].iter().find(|byte| !byte.is_ascii_whitespace());
        if value[at] == b'"' && follows == Some(&b':') {
            spare_next = is_spared_key(&value[at + 1..end - 1]);
        } else if std::mem::take(&mut spare_next) {
            spared.push(at..end);
        }
        at = end;
    }
    spared
}

/// Where the JSON string that starts at `start` ends.
fn string_end(value: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < value.len() && value[at] != b'"' {
        at += if value[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(value.len())
}

fn is_spared_key(key: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [b"id", b"ean", b"gtin", b"upc", b"sku", b"barcode", b"timestamp"];
    const ENDINGS: [&[u8]; 5] = [b"_id", b"_at", b"_time", b"_timestamp", b"_datetime"];
    NAMES.contains(&key) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}
