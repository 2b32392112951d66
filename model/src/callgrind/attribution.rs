//! Instructions of one event by function and by line: what is reported.

use super::Profile;
use crate::bottleneck::Part;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the instructions of one workload's events are, on one build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Instructions of one event, the figure of `bench --instructions`: of warm batches alone.
    pub per_event: f64,
    /// Batches that it is taken from, and their events.
    pub batches: u64,
    /// See `batches`.
    pub events: u64,
    /// Times that everything was run, each with equal results: totals, functions and lines.
    pub repeats: u32,
    /// Functions by their own instructions, the largest first.
    pub functions: Vec<FunctionShare>,
    /// Lines by their own instructions, the largest first.
    pub lines: Vec<LineShare>,
    /// The source around the hottest lines.
    pub annotated: Vec<Excerpt>,
    /// What a look at the clock takes.
    pub clock_step_ns: u64,
    /// Whether the kernel was told not to draw addresses.
    pub fixed_addresses: bool,
    /// `GLIBC_TUNABLES`.
    pub tunables: String,
    /// `valgrind --version`.
    pub valgrind: String,
    /// Id of the build that was counted: one for an instruction set that callgrind knows.
    pub build: String,
}

/// One function's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionShare {
    /// Its symbol.
    pub symbol: String,
    /// Its file, below the source's folder where it is libevent's.
    pub file: Option<String>,
    /// The part of the process that it belongs to.
    pub part: Part,
    /// Instructions of one event in itself, inlined code included.
    pub self_per_event: f64,
    /// Of all instructions, in per cent.
    pub self_pct: f64,
    /// With what it calls.
    pub inclusive_per_event: f64,
    /// Of all instructions, in per cent.
    pub inclusive_pct: f64,
    /// See [`super::Function::cycle`].
    pub cycle: Option<u32>,
}

/// One line's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineShare {
    /// Its file.
    pub file: String,
    /// Its number, from 1.
    pub line: u32,
    /// The function that it is compiled into.
    pub symbol: String,
    /// Instructions of one event.
    pub self_per_event: f64,
    /// Of all instructions, in per cent.
    pub self_pct: f64,
    /// The line; `None` where its file is not of the variant's source.
    pub text: Option<String>,
}

/// Lines of source that follow each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The file, below the source's folder.
    pub file: String,
    /// The lines, from the first one on.
    pub lines: Vec<ExcerptLine>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExcerptLine {
    /// Its number, from 1.
    pub line: u32,
    /// Its text.
    pub text: String,
    /// Instructions of one event, over all functions that it is compiled into; `None`: no code of it was run.
    pub self_per_event: Option<f64>,
}

/// Functions and lines of a profile of so many events, without functions that only call others (what starts the program
/// among them). Files are named as `named` says.
pub fn shares(profile: &Profile, events: u64, named: impl Fn(&str) -> String) -> (Vec<FunctionShare>, Vec<LineShare>) {
    let (events, total) = (events as f64, profile.total as f64);
    let per_cent = |instructions: u64| instructions as f64 * 100.0 / total;
    let with_code = profile.functions.iter().filter(|function| function.self_instructions > 0);
    let functions = with_code.map(|function| {
        let file = function.file.as_deref().map(&named);
        FunctionShare {
            part: Part::of(&function.name, file.as_deref()),
            symbol: function.name.clone(),
            file,
            self_per_event: function.self_instructions as f64 / events,
            self_pct: per_cent(function.self_instructions),
            inclusive_per_event: function.inclusive_instructions as f64 / events,
            inclusive_pct: per_cent(function.inclusive_instructions),
            cycle: function.cycle,
        }
    });
    let lines = profile.lines.iter().map(|line| LineShare {
        file: named(&line.file),
        line: line.line,
        symbol: line.function.clone(),
        self_per_event: line.self_instructions as f64 / events,
        self_pct: per_cent(line.self_instructions),
        text: None,
    });
    (functions.collect(), lines.collect())
}

/// The source around the `most` hottest lines, `around` lines before and after each; what overlaps is one excerpt.
/// `sources` are the texts of files by their name in [`LineShare::file`]; lines of other files are left out. Excerpts come
/// in the order of their hottest line.
pub fn excerpts(lines: &[LineShare], sources: &BTreeMap<String, String>, most: usize, around: u32) -> Vec<Excerpt> {
    let mut of_line: BTreeMap<(&str, u32), f64> = BTreeMap::new();
    for line in lines {
        *of_line.entry((&line.file, line.line)).or_default() += line.self_per_event;
    }
    let mut hottest: Vec<(&str, u32, f64)> = of_line
        .iter()
        .filter(|((file, _), _)| sources.contains_key(*file))
        .map(|((file, line), cost)| (*file, *line, *cost))
        .collect();
    hottest.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
    hottest.truncate(most);

    // Ranges that touch are joined; a range keeps the rank of its hottest line.
    let mut ranges: Vec<(usize, &str, u32, u32)> = Vec::new();
    for (rank, (file, line, _)) in hottest.iter().enumerate() {
        let (mut first, mut last, mut best) = (line.saturating_sub(around).max(1), line.saturating_add(around), rank);
        ranges.retain(|(rank, other, from, to)| {
            let apart = other != file || *from > last.saturating_add(1) || to.saturating_add(1) < first;
            if !apart {
                (first, last, best) = (first.min(*from), last.max(*to), best.min(*rank));
            }
            apart
        });
        ranges.push((best, file, first, last));
    }
    ranges.sort_unstable();
    let excerpt = |(_, file, first, last): (usize, &str, u32, u32)| Excerpt {
        file: file.to_owned(),
        lines: (1..)
            .zip(sources[file].lines())
            .skip_while(|(number, _)| *number < first)
            .take_while(|(number, _)| *number <= last)
            .map(|(line, text)| ExcerptLine {
                line,
                text: text.to_owned(),
                self_per_event: of_line.get(&(file, line)).copied(),
            })
            .collect(),
    };
    ranges.into_iter().map(excerpt).filter(|excerpt| !excerpt.lines.is_empty()).collect()
}
