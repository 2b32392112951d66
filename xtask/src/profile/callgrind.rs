//! Instructions by function and by line under callgrind, of exactly the timed part of warm batches, the same in every run.
//!
//! Counted by what counts instructions per event (bench/instructions.rs): what pins the figure there pins the attribution
//! here, and both are of the same batches, so the sum over functions is that figure.

use super::sections;
use crate::bench::instructions::{BATCHES, CLOCK_STEP_NS, Counter, REPEATS, TUNABLES, both_repeated};
use crate::context::Context;
use crate::session::Surroundings;
use crate::variant;
use crate::worker::WorkerCode;
use anyhow::{Context as _, Result};
use model::callgrind::{self, Attribution, LineShare, Profile};
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// Hottest lines that source is shown around, and how much of it.
const ANNOTATED: usize = 12;
const AROUND: u32 = 3;
/// Functions and lines below this share, in per cent, are left out of the record: together they are next to nothing.
const LEAST_PCT: f64 = 0.01;
/// A file of a variant's source that is larger is not shown.
const MOST_SOURCE_BYTES: u64 = 4 << 20;

/// Where the instructions of one workload are, on a build made for counting (`Purpose::Instructions`).
///
/// Refused, with the reason, where two runs differ by an instruction in any function or line. Wrong work is an error with
/// [`crate::exit::Exit::Failed`].
pub(crate) fn attribute(
    context: &Context,
    build: &Build,
    code: &WorkerCode,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<Attribution> {
    let counter = Counter::prepare(context, build, code)?;
    sections::join(&counter.program())?;
    let limit = Counter::limit(surroundings);
    let run = |batches: u64, number: u32| -> Result<Profile> {
        let (collected, text) = counter.attributed(spec, batches, number, limit)?;
        let profile = callgrind::parse(&text).context("callgrind's output cannot be used")?;
        // callgrind's own word of the same run.
        if profile.total != collected.instructions {
            let (total, said) = (profile.total, collected.instructions);
            anyhow::bail!("callgrind wrote {total} instructions down and said {said}; no attribution");
        }
        Ok(profile)
    };
    let pairs = both_repeated(&run)?;
    let [short, long] = agreed(&pairs)?;
    let warm = callgrind::further(short, long)?;
    let events = BATCHES * spec.batch_events;
    let (mut functions, mut lines) = callgrind::shares(&warm, events, |file| named(file, &build.folder));
    functions.retain(|function| function.inclusive_pct >= LEAST_PCT);
    lines.retain(|line| line.self_pct >= LEAST_PCT);
    let sources = sources(context, build, &lines)?;
    for line in &mut lines {
        let source = sources.get(&line.file);
        line.text = source.and_then(|text| text.lines().nth(line.line as usize - 1)).map(|text| text.trim().to_owned());
    }
    Ok(Attribution {
        per_event: warm.total as f64 / events as f64,
        batches: BATCHES,
        events,
        repeats: REPEATS,
        annotated: callgrind::excerpts(&lines, &sources, ANNOTATED, AROUND),
        functions,
        lines,
        clock_step_ns: CLOCK_STEP_NS,
        fixed_addresses: counter.fixed_addresses,
        tunables: TUNABLES.to_owned(),
        valgrind: counter.version,
        build: build.id.clone(),
    })
}

/// The short and the long run, which every repeat gave.
fn agreed(pairs: &[[Profile; 2]]) -> Result<&[Profile; 2]> {
    let (first, repeats) = pairs.split_first().context("nothing was run")?;
    for other in repeats {
        for (one, other) in first.iter().zip(other) {
            callgrind::agreed(one, other)?;
        }
    }
    Ok(first)
}

/// The file of libevent below its source's folder. Sources are compiled in the build's folder, and their own folder is mapped to
/// `.` (build/cmake.rs): `FOLDER/cmake/./buffer.c`. Files that the build made are named below its folder; any other is as it is.
fn named(file: &str, build: &Path) -> String {
    let below = Path::new(file).strip_prefix(build.join("cmake")).ok();
    // `Path` leaves a `.` in the middle out: the text tells a source from a file that was made.
    let source = file.contains("/./");
    match below.and_then(Path::to_str) {
        Some(below) if source => below.to_owned(),
        Some(below) => format!("(made by the build) {below}"),
        None => file.to_owned(),
    }
}

/// Texts of the variant's source that lines are of. The worktree is verified when it is checked out.
fn sources(context: &Context, build: &Build, lines: &[LineShare]) -> Result<BTreeMap<String, String>> {
    let worktree = variant::checkout(context, &build.variant, build.place.as_deref())?;
    let files: BTreeSet<&String> = lines.iter().map(|line| &line.file).filter(|file| is_of_source(file)).collect();
    let mut texts = BTreeMap::new();
    for file in files {
        let path = worktree.join(file);
        // A name from debug information may be of any file, or none.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_file() && metadata.len() <= MOST_SOURCE_BYTES {
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.insert(file.clone(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(texts)
}

/// Below the source's folder, and nowhere else.
fn is_of_source(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_in_the_source() {
        let build = Path::new("/work/builds/baf5eb64bebc");
        assert_eq!(named("/work/builds/baf5eb64bebc/cmake/./buffer.c", build), "buffer.c");
        assert_eq!(named("/work/builds/baf5eb64bebc/cmake/./include/event2/util.h", build), "include/event2/util.h");
        let made = named("/work/builds/baf5eb64bebc/cmake/include/evconfig-private.h", build);
        assert_eq!(made, "(made by the build) include/evconfig-private.h");
        for other in ["./malloc/./malloc/malloc.c", "/usr/include/x86_64-linux-gnu/bits/string_fortified.h"] {
            assert_eq!(named(other, build), other);
        }
    }

    #[test]
    fn only_files_below_the_source_are_read() {
        assert!(is_of_source("buffer.c") && is_of_source("include/event2/util.h"));
        for other in ["../secret", "/etc/passwd", "./malloc/./malloc/malloc.c", "", "a/../../b"] {
            assert!(!is_of_source(other), "{other}");
        }
    }

    #[test]
    fn repeats_must_agree() {
        let one = Profile { total: 5, ..Profile::default() };
        let other = Profile { total: 6, ..Profile::default() };
        let pair = || [one.clone(), other.clone()];
        assert_eq!(agreed(&[pair(), pair()]).unwrap(), &pair());
        let error = agreed(&[pair(), [one.clone(), one.clone()]]).unwrap_err().to_string();
        assert!(error.contains("6 and 5 instructions") && error.contains("no attribution"), "{error}");
        assert!(agreed(&[]).is_err());
    }
}
