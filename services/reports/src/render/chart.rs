//! Bar charts: words and figures in HTML, so that they stay legible on any width, and each bar in SVG. Lengths are whole
//! numbers, so that the same figures give the same bytes on any machine.

use super::page::escape;

/// A bar.
pub(super) struct Bar {
    /// What it is.
    pub label: String,
    /// Its length; below 0 is drawn as nothing.
    pub value: i64,
    /// The value in words.
    pub shown: String,
}

/// The longest bar, in the units of its own drawing.
const LONGEST: i128 = 1_000;

/// Horizontal bars under each other; nothing where there is none.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let most = i128::from(bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1));
    let lines = bars.iter().map(|bar| {
        let width = i128::from(bar.value.max(0)) * LONGEST / most;
        format!(
            "<div class=\"bar\"><span>{}</span><svg aria-hidden=\"true\" viewBox=\"0 0 {LONGEST} 10\" \
             preserveAspectRatio=\"none\" xmlns=\"http://www.w3.org/2000/svg\"><rect width=\"{width}\" height=\"10\"/></svg>\
             <span class=\"n\">{}</span></div>\n",
            escape(&bar.label),
            escape(&bar.shown),
        )
    });
    format!("<figure><figcaption>{}</figcaption>\n{}</figure>\n", escape(title), lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width_and_labels_cannot_break_out() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, shown: value.to_string() };
        let chart = bars("a & b", &[bar("</span><script>", 10), bar("half", 5), bar("below", -3)]);
        let parts =
            ["width=\"1000\"", "width=\"500\"", "width=\"0\"", "&lt;/span&gt;&lt;script&gt;", "a &amp; b"];
        for part in parts {
            assert!(chart.contains(part), "{part} is not in {chart}");
        }
        assert!(bars("none", &[]).is_empty());
    }
}
