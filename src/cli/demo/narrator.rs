//! What is going on, told to stderr: a spinner where that is a terminal, and a line for everything that is done.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stocktide_verify::OnStep;

/// Where nobody sees the spinner, a line of progress comes so often at most.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the tour's way.
pub struct Narrator {
    started: Instant,
    spinner: ProgressBar,
    last_line: Instant,
}

impl Narrator {
    /// One that counts the time from `started`.
    pub fn new(started: Instant) -> Narrator {
        let spinner =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>5} {spinner} {wide_msg}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        Narrator { started, spinner, last_line: started }
    }

    /// What is begun.
    pub fn step(&self, what: impl Into<String>) {
        self.spinner.set_message(what.into());
    }

    /// How far it is.
    pub fn progress(&mut self, how_far: impl FnOnce() -> String) {
        if !self.spinner.is_hidden() {
            self.spinner.set_message(how_far());
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            self.done(how_far());
        }
    }

    /// What is done.
    pub fn done(&self, what: impl Display) {
        let seconds = self.started.elapsed().as_secs_f64();
        // Whoever does not read the progress may still want the answer.
        self.spinner.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{seconds:>5.1} s  {what}");
        });
    }

    /// For who tells the steps by himself.
    pub fn listener(&self) -> OnStep {
        let spinner = self.spinner.clone();
        std::sync::Arc::new(move |step: &str| spinner.set_message(step.to_owned()))
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}
