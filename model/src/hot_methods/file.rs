//! The manifest as text.

use super::{Cold, HotMethod, HotMethods, ManifestError};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};

/// The command that writes measured shares.
const HEADER: &str = "\
# Functions of libevent that experiments are about: name, file, tier of playbook/program.md, share, note.
#
# Written by `cargo xtask profile --update-manifest`: it fills in `share`, `inclusive` and `absent` of each method, and the
# tables `profile` (where shares come from), `unlisted` and the figures of `cold`. Methods, their files, tiers and notes,
# and entries of `cold` are people's: edit them here. Comments stay if they stand in lines of their own above an entry.
#
# `share` is the self share by workload, in per cent of the profile named in `profile`; `inclusive` is with what the
# function calls. A method without `share` was never measured.
";

/// The tables that carry comments.
const COMMENTED: [&str; 2] = ["[[method]]", "[[cold]]"];

pub(super) fn parse(text: &str) -> Result<HotMethods, ManifestError> {
    let mut manifest: HotMethods = toml::from_str(text)?;
    let [methods, cold] = comments(text);
    for (method, comments) in manifest.methods.iter_mut().zip(methods) {
        method.comments = comments;
    }
    for (entry, comments) in manifest.cold.iter_mut().zip(cold) {
        entry.comments = comments;
    }
    check(&manifest)?;
    Ok(manifest)
}

/// Comment lines of each method and of each cold entry, in the order of the file. The tool's own header is left out.
fn comments(text: &str) -> [Vec<Vec<String>>; 2] {
    let header: HashSet<&str> = HEADER.lines().collect();
    let mut found = [Vec::new(), Vec::new()];
    let mut waiting = Vec::new();
    let mut current: Option<usize> = None;
    for line in text.lines().map(str::trim).filter(|line| !header.contains(line)) {
        if let Some(comment) = line.strip_prefix('#') {
            waiting.push(comment.strip_prefix(' ').unwrap_or(comment).to_owned());
        } else if line.starts_with('[') {
            current = COMMENTED.iter().position(|table| *table == line);
            if let Some(table) = current {
                found[table].push(std::mem::take(&mut waiting));
            }
        } else if let Some(of) = current.and_then(|table| found[table].last_mut()).filter(|_| !line.is_empty()) {
            // Between the fields of an entry: it moves above the entry.
            of.append(&mut waiting);
        }
    }
    // At the end of the file: to the last entry there is.
    if let Some(of) = current.and_then(|table| found[table].last_mut()) {
        of.append(&mut waiting);
    }
    found
}

fn check(manifest: &HotMethods) -> Result<(), ManifestError> {
    let mut seen = BTreeSet::new();
    let entries = manifest.methods.iter().map(|m| (&m.symbol, &m.file, &m.note));
    for (symbol, file, note) in entries.chain(manifest.cold.iter().map(|c| (&c.symbol, &c.file, &c.note))) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let wrong = |why| ManifestError::Entry { symbol: symbol.clone(), why };
        if symbol.is_empty() || !symbol.chars().all(is_name) || symbol.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong("is no name of a function in C"));
        }
        let plain = |c: char| is_name(c) || matches!(c, '-' | '.' | '/');
        if !(file.ends_with(".c") || file.ends_with(".h")) || file.starts_with('/') || !file.chars().all(plain) {
            return Err(wrong("needs a file of the source, such as `buffer.c`"));
        }
        if note.trim().is_empty() {
            return Err(wrong("needs a note"));
        }
        if !seen.insert(symbol) {
            return Err(ManifestError::Twice(symbol.clone()));
        }
    }
    let workloads: BTreeSet<&str> = manifest.profiles.iter().map(|profile| profile.workload.as_str()).collect();
    if let Some(twice) = (workloads.len() < manifest.profiles.len())
        .then(|| manifest.profiles.iter().map(|profile| &profile.workload).find(|w| is_twice(manifest, w)))
        .flatten()
    {
        return Err(ManifestError::Twice(format!("profile of {twice}")));
    }
    let of_methods = manifest.methods.iter().flat_map(|method| {
        [&method.share, &method.inclusive].into_iter().flatten().map(move |share| (&method.symbol, share))
    });
    let of_cold = manifest.cold.iter().filter_map(|cold| Some((&cold.symbol, cold.share.as_ref()?)));
    let of_unlisted = manifest.unlisted.iter().map(|unlisted| (&unlisted.symbol, &unlisted.share));
    for (symbol, shares) in of_methods.chain(of_cold).chain(of_unlisted) {
        for (workload, share) in shares {
            let wrong = |why| ManifestError::Share { symbol: symbol.clone(), workload: workload.clone(), why };
            if !(0.0..=100.0).contains(share) {
                return Err(wrong("must be from 0 to 100 per cent"));
            }
            if !workloads.contains(workload.as_str()) {
                return Err(wrong("has no `profile` that says where it was measured"));
            }
        }
    }
    Ok(())
}

fn is_twice(manifest: &HotMethods, workload: &str) -> bool {
    manifest.profiles.iter().filter(|profile| profile.workload == workload).count() > 1
}

pub(super) fn to_toml(manifest: &HotMethods) -> String {
    let mut text = HEADER.to_owned();
    for profile in &manifest.profiles {
        entry(&mut text, "profile", &[], profile);
    }
    for method in &manifest.methods {
        let HotMethod { comments, .. } = method;
        entry(&mut text, "method", comments, method);
    }
    for unlisted in &manifest.unlisted {
        entry(&mut text, "unlisted", &[], unlisted);
    }
    for cold in &manifest.cold {
        let Cold { comments, .. } = cold;
        entry(&mut text, "cold", comments, cold);
    }
    text
}

/// One table, its maps inline: a share stands beside its function.
fn entry(text: &mut String, table: &str, comments: &[String], value: &impl Serialize) {
    text.push('\n');
    for comment in comments {
        text.push_str(format!("# {comment}").trim_end());
        text.push('\n');
    }
    text.push_str(&format!("[[{table}]]\n"));
    // The types above are of strings, numbers and maps of numbers: all of them have a form in TOML.
    let fields = toml::Table::try_from(value).unwrap_or_default();
    let order = [
        "workload",
        "symbol",
        "file",
        "tier",
        "note",
        "host",
        "variant",
        "variant_name",
        "build",
        "event",
        "samples",
        "at",
    ];
    let known = order.iter().copied().filter(|name| fields.contains_key(*name));
    let others: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !order.contains(name)).collect();
    for name in known.chain(others) {
        text.push_str(&format!("{name} = {}\n", inline(&fields[name])));
    }
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(name, value)| format!("{} = {}", quoted(name), inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // Two digits are what two profiles agree on; more would only make differences between files.
        toml::Value::Float(float) => format!("{float:.2}"),
        other => other.to_string(),
    }
}

fn quoted(name: &str) -> String {
    toml::Value::String(name.to_owned()).to_string()
}
