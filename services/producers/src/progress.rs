//! A progress bar on stderr, where that is a terminal; elsewhere nothing.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn, per second.
const DRAWS_PER_SECOND: u8 = 10;
/// So many records between two looks at the clock: it is cheap, but not free.
const STEP: u64 = 64;

/// Counts records for people to see.
pub struct Progress {
    bar: ProgressBar,
    pending: u64,
}

impl Progress {
    /// A bar, with an end where the number of records is known.
    pub fn new(label: &str, total: Option<u64>) -> Progress {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() {
            "{msg} {bar:30} {human_pos}/{human_len} {per_sec} {eta}"
        } else {
            "{msg} {spinner} {human_pos} {per_sec} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, pending: 0 }
    }

    /// One record more.
    pub fn tick(&mut self) {
        self.pending += 1;
        if self.pending >= STEP || self.bar.is_hidden() {
            self.bar.inc(self.pending);
            self.pending = 0;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.inc(self.pending);
        self.bar.finish_and_clear();
    }
}
