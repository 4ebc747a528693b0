//! Makes another input of one: bytes and pieces that are changed, doubled, dropped, joined with another input's, swollen.

use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;

/// What is worth putting in anywhere.
const ODD: [&str; 34] = [
    "",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{fffd}",
    "\r\n",
    "\n",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "1e400",
    "0.00001",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "NaN",
    "4111111111111111",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:60+23:59",
    "=1+1",
    "%00",
    "💥",
];

/// The longest input, in bytes.
pub const LONGEST: usize = 128 * 1024;

/// Another input, of one and of parts of a second; `tokens` are words of the target's language.
pub fn mutated(input: &[u8], other: &[u8], tokens: &[&str], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.random_range(0..4_u32) * random.random_range(0..2_u32) {
        change(&mut bytes, other, tokens, random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], tokens: &[&str], random: &mut ChaCha8Rng) {
    let (from, to) = span(bytes, random);
    match random.random_range(0..13_u32) {
        0 if !bytes.is_empty() => {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8_u32);
        }
        1 if !bytes.is_empty() => {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.next_u32() as u8;
        }
        2 => drop(bytes.drain(from..to)),
        3 => {
            let piece = bytes[from..to].to_vec();
            insert(bytes, &piece, random);
        }
        4 | 5 => {
            let word = word(tokens, random);
            bytes.splice(from..to, word.bytes());
        }
        6 => insert(bytes, word(tokens, random).as_bytes(), random),
        7 => {
            let (from, to) = span(other, random);
            insert(bytes, &other[from..to], random);
        }
        8 => {
            let (start, end) = span(other, random);
            bytes.splice(from..to, other[start..end].iter().copied());
        }
        9 => number(bytes, random),
        10 => bytes.truncate(from),
        11 => {
            // Two pieces change their places.
            let piece: Vec<u8> = bytes.drain(from..to).collect();
            insert(bytes, &piece, random);
        }
        _ => swell(bytes, from, to, random),
    }
}

/// A piece: any, or one between two marks of the language, which is a field, a cell or a line.
fn span(bytes: &[u8], random: &mut ChaCha8Rng) -> (usize, usize) {
    if bytes.is_empty() {
        return (0, 0);
    }
    let at = random.random_range(0..bytes.len());
    if random.random_bool(0.4) {
        let length = random.random_range(0..=16.min(bytes.len() - at));
        return (at, at + length);
    }
    let marks: &[u8] = if random.random_bool(0.3) { b"\n" } else { b",:{}[]\"&=\n. /" };
    let from = bytes[..at].iter().rposition(|b| marks.contains(b)).map_or(0, |mark| mark + 1);
    let to = bytes[at..].iter().position(|b| marks.contains(b)).map_or(bytes.len(), |mark| at + mark);
    (from, to.max(from))
}

fn word<'t>(tokens: &[&'t str], random: &mut ChaCha8Rng) -> &'t str {
    let own = !tokens.is_empty() && random.random_bool(0.6);
    let words: &[&'t str] = if own { tokens } else { &ODD };
    words[random.random_range(0..words.len())]
}

fn insert(bytes: &mut Vec<u8>, piece: &[u8], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..=bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}

/// A run of digits becomes another number.
fn number(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let from = starts[random.random_range(0..starts.len())];
    let to = bytes[from..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |end| from + end);
    let shift = random.random_range(0..64_u32);
    let new = match random.random_range(0..3_u32) {
        0 => (random.next_u64() >> shift).to_string(),
        1 => (1_u64 << shift).to_string(),
        _ => "9".repeat(1 + random.random_range(0..40_usize)),
    };
    bytes.splice(from..to, new.into_bytes());
}

/// A piece many times over: what takes more than linear time or memory shows with long inputs.
fn swell(bytes: &mut Vec<u8>, from: usize, to: usize, random: &mut ChaCha8Rng) {
    let piece = if to > from { bytes[from..to].to_vec() } else { b"[".to_vec() };
    let room = LONGEST.saturating_sub(bytes.len()) / piece.len();
    // Seldom to the full: long inputs cost the time of many short ones.
    let most = if random.random_bool(0.1) { room } else { room.min(64) };
    let times = random.random_range(0..=most);
    bytes.splice(to..to, piece.repeat(times));
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_none_is_too_long() {
        let made = |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            (0..500).map(|_| mutated(b"{\"a\":[1,2]}", b"x=1", &["token"], &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(3).iter().all(|input| input.len() <= LONGEST));
        assert!(made(3).iter().any(|input| input.len() > 10_000));
    }
}
