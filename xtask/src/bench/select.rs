//! Which workloads a run measures: `--workload GLOB`.

use crate::exit::{Exit, failure};
use anyhow::Result;
use globset::{Glob, GlobSetBuilder};
use model::workload::WorkloadSpec;

/// The workloads whose names match any of the globs, in the order of the manifest; all of them
/// without globs. A glob that matches nothing is an error that names what is near it.
pub(crate) fn select(all: &[WorkloadSpec], globs: &[String]) -> Result<Vec<WorkloadSpec>> {
    if globs.is_empty() {
        return Ok(all.to_vec());
    }
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let glob = Glob::new(text).map_err(|error| failure(Exit::Usage, format!("--workload {text}: {error}")))?;
        let matcher = glob.compile_matcher();
        if !all.iter().any(|spec| matcher.is_match(&spec.name)) {
            return Err(failure(Exit::Usage, unknown(all, text)));
        }
        set.add(glob);
    }
    let set = set.build()?;
    Ok(all.iter().filter(|spec| set.is_match(&spec.name)).cloned().collect())
}

fn unknown(all: &[WorkloadSpec], glob: &str) -> String {
    let family = glob.split(['.', '*', '?']).next().unwrap_or_default();
    let near: Vec<&str> = all
        .iter()
        .map(|spec| spec.name.as_str())
        .filter(|name| !family.is_empty() && name.starts_with(family))
        .collect();
    let hint = match near.len() {
        0 => "see `cargo xtask bench --list`".to_owned(),
        n => format!("near it: {}{}", near[..n.min(6)].join(", "), if n > 6 { ", ..." } else { "" }),
    };
    format!("no workload matches `{glob}`; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::workload::Manifest;

    fn all() -> Vec<WorkloadSpec> {
        let one = |name: &str| {
            format!(
                "[[workload]]\nname = \"{name}\"\nkind = \"k\"\nevent = \"e\"\nbatch_events = 1\n\
                 checksum = \"0x0000000000000000\"\nmetric = \"cpu_time\"\n"
            )
        };
        let text: String = ["http.a", "evbuffer.add.64", "evbuffer.drain.64"].map(one).concat();
        Manifest::parse(&text).unwrap().workloads
    }

    #[test]
    fn keeps_the_manifests_order_and_names_each_once() {
        let names = |globs: &[&str]| -> Vec<String> {
            let globs: Vec<String> = globs.iter().map(|g| (*g).to_owned()).collect();
            select(&all(), &globs).unwrap().into_iter().map(|spec| spec.name).collect()
        };
        assert_eq!(names(&[]).len(), 3);
        assert_eq!(names(&["evbuffer.*"]), ["evbuffer.add.64", "evbuffer.drain.64"]);
        assert_eq!(names(&["*.64", "http.a", "http*"]), ["http.a", "evbuffer.add.64", "evbuffer.drain.64"]);
    }

    #[test]
    fn an_unknown_name_is_a_usage_error_with_what_is_near() {
        let error = select(&all(), &["evbuffer.nope".to_owned()]).unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Usage);
        assert!(error.to_string().contains("evbuffer.add.64"), "{error}");
    }
}
