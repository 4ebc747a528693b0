//! Bar charts in SVG, small enough to stand beside a table. Lengths are whole numbers, so that the same figures give the
//! same bytes on any machine.

use super::page::escape;

/// A bar.
pub(super) struct Bar {
    /// What it is, to its left.
    pub label: String,
    /// Its length; below 0 is drawn as nothing.
    pub value: i64,
    /// The value in words, to its right.
    pub shown: String,
}

const LABEL_WIDTH: i128 = 190;
const BAR_WIDTH: i128 = 300;
const VALUE_WIDTH: i128 = 130;
const LINE: usize = 22;
/// Longer labels are cut: SVG does not wrap lines.
const LABEL_LETTERS: usize = 28;

/// Horizontal bars under each other; nothing where there is none.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let longest = i128::from(bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1));
    let lines = bars.iter().enumerate().map(|(at, bar)| {
        let width = i128::from(bar.value.max(0)) * BAR_WIDTH / longest;
        let (top, base) = (at * LINE, at * LINE + 15);
        format!(
            "<text class=\"l\" x=\"{}\" y=\"{base}\">{}</text>\
             <rect x=\"{LABEL_WIDTH}\" y=\"{}\" width=\"{width}\" height=\"14\"/>\
             <text x=\"{}\" y=\"{base}\">{}</text>\n",
            LABEL_WIDTH - 8,
            escape(&shortened(&bar.label)),
            top + 4,
            LABEL_WIDTH + width + 6,
            escape(&bar.shown),
        )
    });
    format!(
        "<figure><figcaption>{title}</figcaption>\n<svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {} {}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n{}</svg></figure>\n",
        LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH,
        bars.len() * LINE,
        lines.collect::<String>(),
        title = escape(title),
    )
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_LETTERS {
        return label.to_owned();
    }
    label.chars().take(LABEL_LETTERS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width_and_labels_cannot_break_out() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, shown: value.to_string() };
        let chart = bars("a & b", &[bar("</text><script>", 10), bar("half", 5), bar("below", -3)]);
        for part in
            ["width=\"300\"", "width=\"150\"", "width=\"0\"", "&lt;/text&gt;&lt;script&gt;", "a &amp; b"]
        {
            assert!(chart.contains(part), "{part} is not in {chart}");
        }
        assert!(bars("none", &[]).is_empty());
    }
}
