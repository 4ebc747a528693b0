//! What the model said: read, bounded, and made plain.

use serde::Deserialize;

/// Longest text that is kept, in characters.
pub const TEXT_CHARS: usize = 2_000;

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// The text of a chat completion, or in our own words why there is none.
pub fn text(body: &[u8]) -> Result<String, String> {
    // serde's own words may quote the answer.
    let completion: Completion =
        serde_json::from_slice(body).map_err(|_| "the answer is not a chat completion".to_owned())?;
    let content = completion.choices.into_iter().next().and_then(|choice| choice.message.content);
    let text = plain(&content.unwrap_or_default());
    if text.is_empty() { Err("the model said nothing".to_owned()) } else { Ok(text) }
}

/// Text that is no more than text wherever it is shown: without control characters (a terminal's commands), characters that
/// turn the direction of writing or are not seen, and angle brackets (markup); blank lines in a row are one.
pub fn plain(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    // Far more is not looked at: what is taken away is rarely much.
    let shown: String = text.chars().take(4 * TEXT_CHARS).filter_map(visible).collect();
    for line in shown.lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_none_or(String::is_empty)) {
            lines.push(line.to_owned());
        }
    }
    let mut plain = lines.join("\n").trim().to_owned();
    if let Some((at, _)) = plain.char_indices().nth(TEXT_CHARS) {
        plain.truncate(plain[..at].char_indices().next_back().map_or(0, |(last, _)| last));
        plain.push('…');
    }
    plain
}

fn visible(c: char) -> Option<char> {
    match c {
        '\n' => Some('\n'),
        '\t' | '\r' => Some(' '),
        '<' => Some('‹'),
        '>' => Some('›'),
        // Zero-width and directional marks, line and paragraph separators, byte order mark, tags.
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_a_terminals_commands_become_text() {
        assert_eq!(plain("<script>alert(1)</script>\x1b[2J\u{202e}ok\0"), "‹script›alert(1)‹/script›[2Jok");
        assert_eq!(plain("  one\r\n\n\n\ntwo \n\n"), "one\n\ntwo");
    }

    #[test]
    fn a_long_text_is_cut_to_the_character() {
        let long = "ü".repeat(TEXT_CHARS + 1);
        let cut = plain(&long);
        assert_eq!(cut.chars().count(), TEXT_CHARS);
        assert!(cut.ends_with("ü…"));
        assert_eq!(plain(&"ü".repeat(TEXT_CHARS)).chars().count(), TEXT_CHARS);
        assert!(!plain(&"ü".repeat(TEXT_CHARS)).contains('…'));
    }

    #[test]
    fn what_is_no_chat_completion_has_no_text() {
        for body in ["", "nonsense", "[]", "{}", r#"{"choices": 1}"#, r#"{"choices": [{"text": "old"}]}"#] {
            assert_eq!(
                text(body.as_bytes()),
                Err("the answer is not a chat completion".to_owned()),
                "{body}"
            );
        }
        let empty = [r#"{"choices": []}"#, r#"{"choices": [{"message": {"content": null}}]}"#];
        for body in empty.into_iter().chain([r#"{"choices": [{"message": {"content": " \u001b "}}]}"#]) {
            assert_eq!(text(body.as_bytes()), Err("the model said nothing".to_owned()), "{body}");
        }
    }
}
