//! The live matrix: one line a configuration on a terminal, plain lines elsewhere.

use crate::progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

/// How far each configuration is.
pub(super) struct Matrix {
    what: String,
    rows: Vec<Row>,
    lines: Option<MultiProgress>,
    last: Mutex<Instant>,
}

struct Row {
    name: String,
    total: u64,
    done: AtomicU64,
    failed: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Matrix {
    /// Rows with their numbers of tests; nothing is shown if `quiet`.
    pub(super) fn new(what: &str, rows: Vec<(String, usize)>, quiet: bool) -> Matrix {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let lines = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let style = ProgressStyle::with_template("{prefix:18} [{bar:24}] {pos:>4}/{len}  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let row = |(name, total): (String, usize)| {
            let bar = lines.as_ref().map(|lines| {
                let bar = lines.add(ProgressBar::new(total as u64));
                bar.set_style(style.clone());
                bar.set_prefix(name.clone());
                bar
            });
            Row { name, total: total as u64, done: AtomicU64::new(0), failed: AtomicU64::new(0), bar }
        };
        let rows = rows.into_iter().map(row).collect();
        let far = Duration::from_secs(if quiet { 365 * 24 * 3600 } else { 0 });
        Matrix { what: what.to_owned(), rows, lines, last: Mutex::new(Instant::now() + far) }
    }

    /// One more test of a row has run.
    pub(super) fn tick(&self, row: usize, failed: bool) {
        let Some(row) = self.rows.get(row) else { return };
        row.done.fetch_add(1, Ordering::Relaxed);
        let failures = row.failed.fetch_add(u64::from(failed), Ordering::Relaxed) + u64::from(failed);
        if let Some(bar) = &row.bar {
            bar.inc(1);
            if failures > 0 {
                bar.set_message(format!("{failures} failed at first"));
            }
            return;
        }
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() >= PLAIN_LINE_EVERY {
            *last = Instant::now();
            progress::note(&self.line());
        }
    }

    /// All rows in one line.
    fn line(&self) -> String {
        let row = |row: &Row| {
            let (done, failed) = (row.done.load(Ordering::Relaxed), row.failed.load(Ordering::Relaxed));
            let failed = if failed > 0 { format!(" ({failed} failed at first)") } else { String::new() };
            format!("{} {done}/{}{failed}", row.name, row.total)
        };
        format!("{}: {}", self.what, self.rows.iter().map(row).collect::<Vec<_>>().join(", "))
    }

    /// A line that stays.
    pub(super) fn note(&self, message: &str) {
        match &self.lines {
            // A closed standard error is no reason to end a run.
            Some(lines) => drop(lines.println(model::plain::plain(message))),
            None => progress::note(message),
        }
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.rows.iter().filter_map(|row| row.bar.as_ref()).for_each(ProgressBar::finish_and_clear);
    }
}
