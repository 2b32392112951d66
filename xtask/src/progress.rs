//! Progress of long work on standard error: what, how far, how long yet. A bar on a terminal, plain
//! lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::plain::plain;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two plain lines of one step.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

/// Says once that something is about to be done, or was done, without what a terminal would obey: patches and what they print may
/// be in it.
pub(crate) fn note(message: &str) {
    // Nobody reads it any more (`2>&1 | head`): no reason to end a run.
    drop(writeln!(std::io::stderr(), "{}", plain(message)));
}

/// A step of known length.
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts a step of `total` parts.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len}  {msg:40!}  {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what.to_owned());
            bar
        });
        let now = Instant::now();
        Progress { what: what.to_owned(), total, done: 0, started: now, last_line: now, bar }
    }

    /// A step within another one, which tells how far it is; only notes are shown.
    pub(crate) fn hidden(total: u64) -> Self {
        let now = Instant::now();
        let never = now + Duration::from_secs(365 * 24 * 3600);
        Progress { what: String::new(), total, done: 0, started: now, last_line: never, bar: None }
    }

    /// One more part is done; `next` is what comes now.
    pub(crate) fn step(&mut self, next: &str) {
        self.steps(1, next);
    }

    /// Several parts are done, or turned out not to be needed; none, where another piece of one begins.
    pub(crate) fn steps(&mut self, parts: u64, next: &str) {
        self.done = (self.done + parts).min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_message(next.to_owned());
            bar.set_position(self.done);
        } else if self.last_line.elapsed() >= PLAIN_LINE_EVERY {
            self.last_line = Instant::now();
            let left_s = self.started.elapsed().as_secs_f64() / self.done as f64 * (self.total - self.done) as f64;
            // Before the first part is done, nobody knows.
            let left = if self.done > 0 { format!(", about {left_s:.0} s left") } else { String::new() };
            note(&format!("{}: {}/{}{left}", self.what, self.done, self.total));
        }
    }

    /// A line that stays, above the bar.
    pub(crate) fn note(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.println(plain(message)),
            None => note(message),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
