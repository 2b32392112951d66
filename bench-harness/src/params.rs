//! Typed access to a workload's parameters; a missing, mistyped or unknown name is an error.

use anyhow::{Context, Result, bail};
use model::workload::WorkloadSpec;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The parameters of one workload.
pub struct Params<'a> {
    spec: &'a WorkloadSpec,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Params<'a> {
    /// Parameters as the manifest gives them.
    pub fn new(spec: &'a WorkloadSpec) -> Self {
        Params { spec, used: RefCell::default() }
    }

    /// Events that one batch does.
    pub fn batch_events(&self) -> u64 {
        self.spec.batch_events
    }

    /// Name of the workload.
    pub fn workload(&self) -> &str {
        &self.spec.name
    }

    /// A whole number that is not negative.
    pub fn u64(&self, name: &str) -> Result<u64> {
        let value = self.value(name)?.as_integer();
        value
            .and_then(|value| u64::try_from(value).ok())
            .with_context(|| self.wrong(name, "a whole number, not negative"))
    }

    /// The same as [`Params::u64`], for sizes and counts of things in memory.
    pub fn usize(&self, name: &str) -> Result<usize> {
        Ok(usize::try_from(self.u64(name)?)?)
    }

    /// A truth value; absent means false.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.used.borrow_mut().insert(name.to_owned());
        match self.spec.params.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().with_context(|| self.wrong(name, "true or false")),
        }
    }

    /// A word.
    pub fn str(&self, name: &str) -> Result<&'a str> {
        let value = self.value(name)?.as_str();
        value.with_context(|| self.wrong(name, "a string"))
    }

    /// Fails if the manifest gives a parameter that nobody asked for.
    pub fn finish(&self) -> Result<()> {
        let used = self.used.borrow();
        match self.spec.params.keys().find(|name| !used.contains(*name)) {
            Some(name) => bail!("workload `{}`: kind `{}` has no parameter `{name}`", self.spec.name, self.spec.kind),
            None => Ok(()),
        }
    }

    fn value(&self, name: &str) -> Result<&'a toml::Value> {
        self.used.borrow_mut().insert(name.to_owned());
        self.spec
            .params
            .get(name)
            .with_context(|| format!("workload `{}`: parameter `{name}` is missing", self.spec.name))
    }

    fn wrong(&self, name: &str, wanted: &str) -> String {
        format!("workload `{}`: parameter `{name}` must be {wanted}", self.spec.name)
    }
}
