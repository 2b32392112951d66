//! What `variant` prints.

use super::table::{Style, draw};
use super::{format::UNKNOWN, print, print_patch};
use crate::context::Context;
use crate::git::Store;
use crate::host;
use crate::variants::disk::{self, Holding};
use crate::variants::edit;
use crate::variants::names::{self, Named};
use crate::variants::prune::{self, Doomed, Limits, days, mib};
use anyhow::Result;
use model::host::HostFingerprint;
use model::screen::Finding;
use model::variant::{Build, Variant};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of one variant.
pub(crate) struct Shown<'a> {
    pub(crate) variant: &'a Variant,
    pub(crate) named: Option<Named>,
    pub(crate) holding: Option<Holding>,
    pub(crate) screened: Vec<Finding>,
    pub(crate) needed: Option<String>,
    pub(crate) unsaved: bool,
}

/// What went.
#[derive(Serialize)]
pub(crate) struct Pruned {
    pub(crate) doomed: Vec<Doomed>,
    pub(crate) forgotten: Vec<String>,
    pub(crate) kept: Vec<String>,
    pub(crate) dry_run: bool,
    /// What all variants took before.
    pub(crate) total: u64,
}

/// One document with what every document has.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostFingerprint,
    partial: bool,
    action: &'a str,
    #[serde(flatten)]
    content: Value,
}

fn document(action: &str, content: Value) -> Result<String> {
    let document = Document { schema: "variant/1", host: host::fingerprint(), partial: false, action, content };
    Ok(serde_json::to_string(&document)? + "\n")
}

/// A name that was made or saved.
pub(crate) fn made(context: &Context, named: &Named) -> Result<()> {
    let variant = &named.variant;
    let worktree = edit::worktree(context, &named.name);
    let editing = worktree.is_dir().then(|| worktree.display().to_string());
    let patch = names::patch_file(context, &named.name);
    let patch = patch.is_file().then(|| patch.display().to_string());
    if context.json {
        return print(&document(
            "new",
            json!({ "name": named.name, "id": variant.id, "variant": variant, "edit": editing, "patch": patch }),
        )?);
    }
    let mut text = format!("{}: variant {}, {}\n", named.name, variant.id, described(variant));
    patch.iter().for_each(|patch| text.push_str(&format!("patch {patch}\n")));
    if let Some(editing) = editing {
        text.push_str(&format!("edit {editing}, then `cargo xtask variant save {}`\n", named.name));
    }
    print(&text)
}

fn described(variant: &Variant) -> String {
    let patches: Vec<&str> = variant.patches.iter().map(|patch| patch.name.as_str()).collect();
    let patches = if patches.is_empty() { String::new() } else { format!(" + {}", patches.join(" + ")) };
    format!("libevent {}{patches}, tree {:.12}", variant.source.label, variant.tree)
}

/// Every variant.
pub(crate) fn list(
    context: &Context,
    holdings: &[Holding],
    needed: &BTreeMap<String, String>,
    limits: Limits,
) -> Result<()> {
    let total: u64 = holdings.iter().map(Holding::bytes).sum();
    if context.json {
        let variants: Vec<Value> = holdings
            .iter()
            .map(|holding| {
                let state = prune::state(holding, needed);
                json!({
                    "id": holding.id, "names": holding.names, "state": state, "needed_for": needed.get(&holding.id),
                    "unused_s": holding.unused_s, "bytes": holding.bytes(), "places": holding.places,
                    "variant": holding.variant,
                })
            })
            .collect();
        let content = json!({ "variants": variants, "bytes": total, "most_bytes": limits.most_mib << 20 });
        return print(&document("list", content)?);
    }
    let rows = holdings.iter().map(|holding| {
        let count = |kind: &str| holding.places.iter().filter(|place| place.kind == kind).count();
        let state = match (needed.get(&holding.id), prune::state(holding, needed)) {
            (Some(why), _) => why.clone(),
            (None, prune::State::Named) if count("edit") > 0 => "edited".to_owned(),
            (None, prune::State::Named) => "named".to_owned(),
            (None, _) => "unnamed".to_owned(),
        };
        vec![
            if holding.names.is_empty() { UNKNOWN.to_owned() } else { holding.names.join(" ") },
            holding.id.clone(),
            state,
            holding.variant.as_ref().map_or(UNKNOWN.to_owned(), described),
            format!("{}+{}", count("build"), count("gate")),
            days(holding.unused_s),
            mib(holding.bytes()),
        ]
    });
    let header = ["name", "id", "state", "code", "builds", "unused", "disk"];
    let mut text = draw(&header, rows.collect(), Style::Terminal);
    text.push_str(&format!(
        "\n{} variants take {} of at most {} (config/variants.toml); builds: to be measured + of the gate\n",
        holdings.len(),
        mib(total),
        mib(limits.most_mib << 20)
    ));
    print(&text)
}

/// One variant.
pub(crate) fn show(context: &Context, shown: &Shown<'_>) -> Result<()> {
    let Shown { variant, named, holding, screened, needed, unsaved } = shown;
    if context.json {
        let content = json!({
            "id": variant.id, "variant": variant, "name": named, "holding": holding, "screened": screened,
            "needed_for": needed, "unsaved_edits": unsaved,
        });
        return print(&document("show", content)?);
    }
    let mut text = format!("variant {} ({})\n", variant.id, variant.name);
    let source = &variant.source;
    text.push_str(&format!("source   {} tree {}\n", source.label, source.tree));
    for patch in &variant.patches {
        text.push_str(&format!("patch    {} sha256 {}\n", patch.name, patch.sha256));
    }
    text.push_str(&format!("tree     {}\ncommit   {}\n", variant.tree, variant.commit));
    if let Some(named) = named {
        text.push_str(&format!("name     {}, made {} from {}\n", named.name, named.created_at, named.made_from));
    }
    needed.iter().for_each(|why| text.push_str(&format!("needed   {why}\n")));
    if *unsaved {
        text.push_str("edits    not saved; the variant is what was saved last\n");
    }
    match holding {
        Some(holding) => {
            for place in &holding.places {
                let how = place.how.as_ref().map_or(String::new(), |how| format!(" ({how})"));
                text.push_str(&format!("{:8} {} {}{how}\n", place.kind, place.path.display(), mib(place.bytes)));
            }
            text.push_str(&format!("disk     {}, unused for {}\n", mib(holding.bytes()), days(holding.unused_s)));
        }
        None => text.push_str("disk     nothing of it is checked out or built here\n"),
    }
    for finding in screened {
        text.push_str(&format!("review   {}:{} {}: `{}`\n", finding.file, finding.line, finding.reason, finding.text));
    }
    print(&text)
}

/// How two variants differ.
pub(crate) fn diff(context: &Context, store: &Store, from: &Variant, to: &Variant, stat: bool) -> Result<()> {
    let numbers = store.numbers(&from.tree, &to.tree)?;
    if context.json {
        let files: Vec<Value> = numbers
            .iter()
            .map(|(file, added, removed)| json!({ "file": file, "added": added, "removed": removed }))
            .collect();
        let text = if stat { None } else { Some(store.diff(&from.tree, &to.tree)?) };
        return print(&document("diff", json!({ "from": from.id, "to": to.id, "files": files, "diff": text }))?);
    }
    if stat || numbers.is_empty() {
        let lines = numbers.iter().map(|(file, added, removed)| format!("{file}: +{added} -{removed}\n"));
        let lines: String = lines.collect();
        return print(&if lines.is_empty() { format!("{} and {} are the same code\n", from.id, to.id) } else { lines });
    }
    print_patch(&(store.diff(&from.tree, &to.tree)? + "\n"))
}

/// A build.
pub(crate) fn built(context: &Context, build: &Build) -> Result<()> {
    if context.json {
        return print(&document("build", json!({ "build": build, "folder": build.folder }))?);
    }
    let mut text = format!("variant {} ({}): {}\n", build.variant.id, build.variant.name, disk::described(build));
    for library in &build.libraries {
        let path = build.folder.join("cmake/lib").join(&library.name);
        text.push_str(&format!("{} sha256 {:.12}\n", path.display(), library.sha256));
    }
    print(&text)
}

/// What went, or would go.
pub(crate) fn pruned(context: &Context, pruned: &Pruned) -> Result<()> {
    if context.json {
        return print(&document("prune", serde_json::to_value(pruned)?)?);
    }
    let would = if pruned.dry_run { "would go" } else { "went" };
    let mut text = String::new();
    for doomed in &pruned.doomed {
        let names = if doomed.names.is_empty() { String::new() } else { format!(" ({})", doomed.names.join(" ")) };
        text.push_str(&format!("{would}: {}{names}, {}: {}\n", doomed.id, mib(doomed.bytes), doomed.why));
    }
    pruned.forgotten.iter().for_each(|name| text.push_str(&format!("{would}: the name {name} and its patch\n")));
    pruned.kept.iter().for_each(|kept| text.push_str(&format!("stays: {kept}\n")));
    let bytes: u64 = pruned.doomed.iter().map(|doomed| doomed.bytes).sum();
    text.push_str(&format!("{} of {} {would}\n", mib(bytes), mib(pruned.total)));
    print(&text)
}
