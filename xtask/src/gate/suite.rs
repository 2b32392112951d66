//! The tests of a build, as the build itself lists them.

use super::build::GateBuild;
use super::child::{self, Bounds, Finished};
use super::test_case::{Judge, Test};
use super::{identity, launch};
use crate::context::Context;
use crate::process;
use anyhow::Result;
use model::gate::config::GateConfig;
use model::gate::tinytest::{self, Ended};
use model::gate::{Configuration, Sanitizer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Listing takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// The tests of a configuration, or why they cannot be listed. `scripts` is the source whose scripts check outputs:
/// always pristine's.
pub(super) fn tests(
    context: &Context,
    config: &GateConfig,
    configuration: &Configuration,
    build: &GateBuild,
    scripts: &Path,
) -> Result<Result<Vec<Test>, String>> {
    let environment = config.environment(configuration);
    let asked = ask(context, build, &build.regress, &["--list-tests"], &environment)?;
    let listed = match asked.ended {
        Some(Ended::Exit(0)) => tinytest::parse_list(&asked.stdout),
        _ => None,
    };
    let Some(listed) = listed else { return Ok(Err(lists_nothing(&asked))) };
    let one = |name: String| Test {
        // libevent's own alarm would end a test before it can be seen where it hangs.
        arguments: vec!["--timeout".to_owned(), "0".to_owned(), name.clone()],
        name,
        program: build.regress.clone(),
        judge: Judge::Tinytest,
    };
    let mut tests: Vec<Test> = listed.into_iter().filter(|test| test.enabled).map(|test| one(test.name)).collect();
    for program in &config.programs {
        let file = program.program.as_ref().unwrap_or(&program.name);
        let Some((_, path)) = build.programs.iter().find(|(name, _)| name == file) else { continue };
        if program.timing && configuration.sanitizer != Sanitizer::None {
            continue;
        }
        let script = program.checked_by.as_ref().map(|name| scripts.join(name)).filter(|path| path.is_file());
        tests.push(Test {
            name: program.name.clone(),
            program: path.clone(),
            arguments: program.arguments.clone(),
            judge: Judge::Program(script),
        });
    }
    Ok(Ok(tests))
}

/// Why there is no list.
fn lists_nothing(asked: &Finished) -> String {
    let how = match asked.ended {
        Some(Ended::Hung) => format!("it hangs: {}", asked.hung_at.as_deref().unwrap_or_default()),
        Some(Ended::Signal(signal)) => format!("killed by signal {signal}"),
        Some(Ended::Exit(status)) if status != 0 => format!("exit status {status}"),
        _ => "it ends without a list that can be read".to_owned(),
    };
    format!("regress does not list its tests: {how} {}", process::excerpt(asked.stderr.trim()))
}

/// Asks every program of the tests which build it is of, before `main`: a wrong answer is tampering, none is why it
/// cannot be tested.
pub(super) fn identities(
    context: &Context,
    build: &GateBuild,
    tests: &[Test],
    environment: &BTreeMap<String, String>,
) -> Result<Option<String>> {
    let mut environment = environment.clone();
    environment.insert(identity::VARIABLE.to_owned(), "1".to_owned());
    let programs: BTreeSet<&Path> = tests.iter().map(|test| test.program.as_path()).collect();
    for program in programs {
        let asked = ask(context, build, program, &[], &environment)?;
        if asked.ended != Some(Ended::Exit(0)) {
            let how = process::excerpt(asked.stderr.trim());
            return Ok(Some(format!(
                "{} does not say which build it is of: {:?} {how}",
                program.display(),
                asked.ended
            )));
        }
        identity::verify_told(program, &asked.stdout, build)?;
    }
    Ok(None)
}

/// A test that does not exist, under a name as good as any: regress says that there is none. Code that prints the
/// report of a passed test for whatever it is asked says otherwise.
pub(super) fn believes_anything(
    context: &Context,
    config: &GateConfig,
    configuration: &Configuration,
    build: &GateBuild,
    names: &[String],
) -> Result<Option<String>> {
    let Some(real) = names.iter().find(|name| name.contains('/') && name.len() > 6) else { return Ok(None) };
    // The last two letters change places; equal ones give way to another letter.
    let (start, end) = real.split_at(real.len() - 2);
    let turned: String = end.chars().rev().collect();
    let name = if turned == end { format!("{start}x") } else { format!("{start}{turned}") };
    if names.contains(&name) {
        return Ok(None);
    }
    let environment = config.environment(configuration);
    let Finished { ended, stdout: text, .. } =
        ask(context, build, &build.regress, &["--timeout", "0", &name], &environment)?;
    let refused = matches!(ended, Some(Ended::Exit(status)) if status != 0) && !text.contains("tests ok");
    Ok((!refused).then(|| {
        format!(
            "asked for the test `{name}`, which does not exist, regress ended with {ended:?}: {}",
            process::excerpt(&text)
        )
    }))
}

fn ask(
    context: &Context,
    build: &GateBuild,
    program: &Path,
    arguments: &[&str],
    environment: &BTreeMap<String, String>,
) -> Result<Finished> {
    let abandoned = AtomicBool::new(false);
    let mut command = launch::command(context, build, program, environment)?;
    let bounds = Bounds { limit: LIMIT, output_bytes: 1 << 20, abandoned: &abandoned };
    child::run(command.args(arguments), None, bounds)
}

/// What is missing from a list, or is there and should not be; `None` if both name the same tests.
pub(super) fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let only = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|name| !others.contains(name)).cloned().collect()
    };
    let (missing, new) = (only(expected, found), only(found, expected));
    if missing.is_empty() && new.is_empty() {
        return None;
    }
    let shown = |names: &[String]| names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    Some(format!(
        "its list of tests is not pristine's: {} missing ({}), {} that pristine does not have ({})",
        missing.len(),
        shown(&missing),
        new.len(),
        shown(&new)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_shrinks_is_seen() {
        let names = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        assert_eq!(difference(&names("a b"), &names("b a")), None);
        let why = difference(&names("main/a main/b"), &names("main/a")).unwrap();
        assert!(why.contains("1 missing (main/b)"), "{why}");
        assert!(difference(&names("a"), &names("a b")).is_some());
    }
}
