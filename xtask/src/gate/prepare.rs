//! Everything of a configuration before its first test: proofs and lists of both sides, and what is known of pristine.

use super::build::GateBuild;
use super::flow::Request;
use super::known::{self, Unknown};
use super::test_case::{Lane, Test};
use super::trial::Trial;
use super::{probe, suite};
use crate::context::Context;
use crate::exit::{Exit, exit_of};
use anyhow::Result;
use model::gate::config::GateConfig;
use model::gate::judge::KnownConfiguration;
use model::gate::{Configuration, Sanitizer, StageRecord, Tier};
use std::path::{Path, PathBuf};

/// What a configuration is made of.
pub(super) struct Sides<'a> {
    pub(super) context: &'a Context,
    pub(super) config: &'a GateConfig,
    pub(super) configuration: &'a Configuration,
    pub(super) pristine: &'a GateBuild,
    pub(super) candidate: &'a GateBuild,
    pub(super) logs: &'a Path,
    /// Linked probes, by build.
    pub(super) probes: &'a Path,
}

/// A configuration whose pristine side was listed and proven.
pub(super) struct Ready<'a> {
    config: &'a GateConfig,
    candidate: Lane<'a>,
    pristine: Lane<'a>,
    tests: Vec<Test>,
    probes: &'a Path,
    cache: (PathBuf, String),
    /// What is known of pristine's tests: of all that are selected, once they were learned.
    pub(super) known: KnownConfiguration,
}

/// Pristine's side of a configuration, for tests that a test patch changes.
pub(super) struct Beside<'a> {
    pub(super) configuration: &'a Configuration,
    pub(super) pristine: &'a GateBuild,
    pub(super) tests: Vec<Test>,
    pub(super) known: KnownConfiguration,
}

/// Looks at pristine's side. A configuration that pristine itself cannot run is a record that says so.
pub(super) fn prepare<'a>(sides: &Sides<'a>) -> Result<Result<Ready<'a>, StageRecord>> {
    let Sides { context, config, configuration, .. } = *sides;
    let lane = |build| Lane {
        context,
        configuration,
        build,
        environment: config.environment(configuration),
        logs: sides.logs.join(&configuration.name),
    };
    let pristine = lane(sides.pristine);
    let cannot = |why: String| {
        let why = format!("pristine itself cannot run here in this configuration: {why}");
        Ok(Err(StageRecord::not_run(&configuration.name, why)))
    };
    if let Some(why) = unproven(&pristine, sides.probes)? {
        return cannot(why);
    }
    let tests = match suite::tests(context, config, configuration, sides.pristine, &sides.pristine.source)? {
        Ok(tests) => tests,
        Err(why) => return cannot(why),
    };
    if let Some(why) = suite::identities(context, sides.pristine, &tests, &pristine.environment)? {
        return cannot(why);
    }
    let cache = known::place(context, config, configuration, &tests)?;
    let known = known::load(&cache.0, &cache.1).unwrap_or_default();
    let candidate = lane(sides.candidate);
    Ok(Ok(Ready { config, candidate, pristine, tests, probes: sides.probes, cache, known }))
}

/// What differs between the configuration and what the library says of itself in it.
fn unproven(lane: &Lane<'_>, probes: &Path) -> Result<Option<String>> {
    let program = match probe::link(lane.build, probes) {
        Ok(program) => program,
        Err(error) if exit_of(&error) == Exit::Failed => return Ok(Some(format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    Ok(match probe::ask(lane.context, lane.build, &program, &lane.environment)? {
        Ok(found) => probe::difference(&lane.configuration.proof, &found),
        Err(why) => Some(why),
    })
}

impl<'a> Ready<'a> {
    /// What a test patch is judged beside; none in configurations that it is not run in.
    pub(super) fn beside(&self, tier: Tier) -> Option<Beside<'a>> {
        let Lane { configuration, build, .. } = self.pristine;
        let chosen = configuration.light || tier == Tier::Full && configuration.sanitizer == Sanitizer::Address;
        chosen.then(|| Beside { configuration, pristine: build, tests: self.tests.clone(), known: self.known.clone() })
    }

    pub(super) fn name(&self) -> &'a str {
        &self.pristine.configuration.name
    }

    /// What has to be learned before the trial; `None`, if nothing.
    pub(super) fn unknown(&self, request: &Request<'_>) -> Option<Unknown<'_>> {
        // All of them run in one crowd; only where some are named, these must do.
        let named = self.is_of_named(request);
        let wanted = |test: &&Test| !named || self.selects(request, test);
        let missing = |test: &&Test| !self.known.tests.contains_key(&test.name);
        let tests: Vec<&Test> = self.tests.iter().filter(wanted).filter(missing).collect();
        let cache = (!named).then(|| self.cache.clone());
        (!tests.is_empty()).then(|| Unknown { lane: &self.pristine, tests, known: self.known.clone(), cache })
    }

    /// Whether single tests were asked for.
    fn is_of_named(&self, request: &Request<'_>) -> bool {
        request.only.and_then(|only| only.get(self.name())).is_some_and(|only| !only.is_empty())
    }

    /// Whether a test is part of the gate.
    fn selects(&self, request: &Request<'_>, test: &Test) -> bool {
        let only = request.only.and_then(|only| only.get(self.name()));
        let light = request.tier == Tier::Light && only.is_none();
        only.is_none_or(|only| only.is_empty() || only.contains(&test.name))
            && (!light || self.config.reach.reaches(request.touched, &test.name))
    }

    /// The trial of the candidate, or the record of why there can be none.
    pub(super) fn trial(self, request: &Request<'_>) -> Result<Result<Trial<'a>, StageRecord>> {
        let name = self.name().to_owned();
        let (context, configuration, build) =
            (self.candidate.context, self.candidate.configuration, self.candidate.build);
        let selected: Vec<Test> = self.tests.iter().filter(|test| self.selects(request, test)).cloned().collect();
        let (expected, named) = (selected.len(), self.is_of_named(request));
        let refused = |why: String| {
            let expected = u32::try_from(expected).ok();
            Ok(Err(StageRecord { tests_run: Some(0), tests_expected: expected, ..StageRecord::failed(&name, why) }))
        };
        if let Some(why) = unproven(&self.candidate, self.probes)? {
            return refused(why);
        }
        // Scripts that check outputs are pristine's.
        let scripts = &self.pristine.build.source;
        let tests = match suite::tests(context, self.config, configuration, build, scripts)? {
            Ok(tests) => tests,
            Err(why) => return refused(why),
        };
        let names = |tests: &[Test]| tests.iter().map(|test| test.name.clone()).collect::<Vec<_>>();
        let (mut mine, theirs) = (names(&tests), names(&self.tests));
        if build.changed_tests {
            // What a test patch adds has a stage of its own.
            mine.retain(|name| theirs.contains(name));
        }
        if let Some(why) = suite::difference(&theirs, &mine) {
            return refused(why);
        }
        if let Some(why) = suite::identities(context, build, &tests, &self.candidate.environment)? {
            return refused(why);
        }
        if let Some(why) = suite::believes_anything(context, self.config, configuration, build, &theirs)? {
            return refused(format!("its test program cannot be believed: {why}"));
        }
        let with_candidates =
            |theirs: Test| Some((tests.iter().find(|test| test.name == theirs.name)?.clone(), theirs));
        let tests = selected.into_iter().filter_map(with_candidates).collect();
        Ok(Ok(Trial {
            name,
            proof: configuration.proof.clone(),
            candidate: self.candidate,
            pristine: self.pristine,
            tests,
            known: self.known,
            cache: (!named).then_some(self.cache),
        }))
    }
}
