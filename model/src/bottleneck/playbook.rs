//! playbook/program.md, as far as programs read it: tiers, the table of bottlenecks, non-starters.
//!
//! The document is written by people. The table is held equal to the code by a test; non-starters are kept by
//! `exp reject --non-starter`.

use super::{Class, Tier, experiment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How a tier's heading begins.
const TIER: &str = "## Tier: ";
/// Around the table.
const TABLE: [&str; 2] =
    ["<!-- bottlenecks: held equal to model/src/bottleneck by its tests -->", "<!-- bottlenecks end -->"];
/// Around the list of non-starters.
const NON_STARTERS: [&str; 2] =
    ["<!-- non-starters: kept by cargo xtask exp reject --non-starter -->", "<!-- non-starters end -->"];

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playbook {
    /// Tiers, in the document's order.
    pub tiers: Vec<Section>,
    /// The table of bottlenecks, as text.
    pub table: String,
    /// What is known not to work.
    pub non_starters: Vec<NonStarter>,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which.
    pub tier: Tier,
    /// Names of its experiments: list items that begin with a bold name.
    pub experiments: Vec<String>,
    /// The text below the heading.
    pub text: String,
}

/// A technique that failed, for a reason that will not go away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonStarter {
    /// Its name.
    pub name: String,
    /// Why, and where that is known from.
    pub why: String,
}

/// Why a playbook is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaybookError {
    /// A heading names a tier that the code does not have.
    #[error("`## Tier: {0}` is no tier; known are those of model/src/bottleneck/tier.rs")]
    Tier(String),
    /// A tier twice, or an experiment in two places.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// A marker is missing, or there twice.
    #[error("one line must be `{0}`, before the one that ends it")]
    Marker(&'static str),
    /// A line between the markers of non-starters that is no item of the list.
    #[error("`{0}` is no non-starter: a line is `- **NAME**: why (source)`")]
    NonStarter(String),
}

/// Reads the document.
///
/// # Errors
/// What [`PlaybookError`] lists.
pub fn parse(text: &str) -> Result<Playbook, PlaybookError> {
    let mut tiers: Vec<Section> = Vec::new();
    let mut current: Option<Section> = None;
    for line in text.lines() {
        if line.starts_with("## ") {
            tiers.extend(current.take());
        }
        if let Some(name) = line.strip_prefix(TIER) {
            let tier = Tier::from_name(name.trim()).ok_or_else(|| PlaybookError::Tier(name.to_owned()))?;
            current = Some(Section { tier, experiments: vec![], text: String::new() });
        } else if let Some(section) = &mut current {
            section.experiments.extend(bold_item(line).map(|(name, _)| name.to_owned()));
            section.text.push_str(line);
            section.text.push('\n');
        }
    }
    tiers.extend(current);
    let mut seen = BTreeSet::new();
    let names =
        tiers.iter().flat_map(|section| section.experiments.iter().map(String::as_str).chain([section.tier.name()]));
    if let Some(twice) = names.into_iter().find(|name| !seen.insert(*name)) {
        return Err(PlaybookError::Twice(twice.to_owned()));
    }
    let non_starters = between(text, NON_STARTERS)?
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (name, why) = bold_item(line).ok_or_else(|| PlaybookError::NonStarter(line.to_owned()))?;
            Ok(NonStarter { name: name.to_owned(), why: why.to_owned() })
        })
        .collect::<Result<_, _>>()?;
    let table = between(text, TABLE)?.trim().to_owned();
    Ok(Playbook { tiers, table, non_starters })
}

/// Name and text of `- **name**: text`.
fn bold_item(line: &str) -> Option<(&str, &str)> {
    let (name, why) = line.strip_prefix("- **")?.split_once("**: ")?;
    Some((name, why)).filter(|(name, why)| !name.is_empty() && !why.trim().is_empty())
}

fn between<'a>(text: &'a str, [begin, end]: [&'static str; 2]) -> Result<&'a str, PlaybookError> {
    let missing = || PlaybookError::Marker(begin);
    let (_, rest) = text.split_once(begin).ok_or_else(missing)?;
    let (block, after) = rest.split_once(end).ok_or_else(missing)?;
    if block.contains(begin) || after.contains(begin) || after.contains(end) { Err(missing()) } else { Ok(block) }
}

/// The table of bottlenecks as the document has it: made of the code.
pub fn table() -> String {
    let mut text = String::from("| class | decided by | tiers | next experiments |\n|---|---|---|---|");
    for class in Class::ALL {
        let tiers: Vec<&str> = class.tiers().iter().map(|tier| tier.name()).collect();
        let next: Vec<String> = experiment::ordered(class).map(|suggestion| format!("`{}`", suggestion.name)).collect();
        let tiers = if tiers.is_empty() { "none".to_owned() } else { tiers.join(", ") };
        text.push_str(&format!("\n| `{class}` | {} | {tiers} | {} |", class.decided_by(), next.join(", ")));
    }
    text
}
