//! Text that others wrote, made harmless for terminals and for logs that are read line by line.

use std::fmt::Write as _;
use std::io;

/// Control characters (C0, DEL and C1), and those that turn the direction of the text around them.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of it: what a terminal may act upon, line breaks too, and bytes that are no text, written out.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whole lines of text or of JSON: line breaks and tabs stay, all else that a terminal may act upon is written as JSON writes it,
/// so that JSON stays the same JSON.
pub fn defuse(text: &str) -> String {
    defuse_but(text, |c| matches!(c, '\n' | '\t'))
}

fn defuse_but(text: &str, may_stay: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !may_stay(c) {
            // All of them lie in the first plane.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Stderr for logs: an event stays one line, whatever its fields say.
#[derive(Debug, Clone, Copy)]
pub struct LogLines {
    /// Whether the writer colours its lines: what a field says is escaped by it before.
    pub coloured: bool,
}

impl LogLines {
    fn line(self, event: &[u8]) -> String {
        let text = String::from_utf8_lossy(event);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        defuse_but(line, |c| c == '\u{1b}' && self.coloured) + end
    }
}

impl io::Write for LogLines {
    // An event comes in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(self.line(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\r\n\u{9b}2J\u{202e}\u{61c}é\u{7f}";

    #[test]
    fn nothing_that_a_terminal_acts_upon_gets_through() {
        assert_eq!(escape(HOSTILE.as_bytes()), "a\\u{1b}[31m\\r\\n\\u{9b}2J\\u{202e}\\u{61c}é\\u{7f}");
        assert_eq!(escape(b"\xff\x00"), "\\xff\\u{0}");
        assert_eq!(defuse(HOSTILE), "a\\u001b[31m\\u000d\n\\u009b2J\\u202e\\u061cé\\u007f");
    }

    #[test]
    fn an_event_of_the_log_is_one_line_and_keeps_the_writer_s_own_colours_only() {
        let event = "WARN \u{1b}[0m a\nINFO forged \u{202e}\n".as_bytes();
        let line = |coloured| LogLines { coloured }.line(event);
        assert_eq!(line(false), "WARN \\u001b[0m a\\u000aINFO forged \\u202e\n");
        assert_eq!(line(true), "WARN \u{1b}[0m a\\u000aINFO forged \\u202e\n");
    }
}
