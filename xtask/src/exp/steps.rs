//! Steps of a run. A step is a function of hashed inputs: what has a result is not done again, what was cut short is done
//! again with the same inputs, its seeds among them, and what it had written until then is kept.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::gate::models;
use crate::{build, files, host, progress, sandbox, worker};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a step depends on, by name. Its hash is the name of the step's folder.
pub(crate) type Inputs = BTreeMap<&'static str, String>;

/// A result: files by the names that they have in a folder of an experiment's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// What the step depended on, for whoever looks into the folder.
    inputs: BTreeMap<String, String>,
    /// Path below the step's folder, and SHA-256, by name in the experiment.
    files: BTreeMap<String, (PathBuf, String)>,
}

impl Kept {
    /// SHA-256 of a file of the result.
    pub(crate) fn sha256(&self, name: &str) -> Result<&str> {
        let (_, sha256) = self.files.get(name).with_context(|| format!("{name} is part of the result"))?;
        Ok(sha256)
    }
}

/// The folder of one step in `work/steps`.
pub(crate) struct Step {
    folder: PathBuf,
    inputs: Inputs,
}

impl Step {
    pub(crate) fn new(context: &Context, name: &str, inputs: Inputs) -> Step {
        let mut parts: Vec<Vec<u8>> = vec![name.as_bytes().to_vec()];
        for (name, value) in &inputs {
            // Each with its length: no two sets of inputs are one text.
            parts.push(format!("\n{name} {}\n", value.len()).into_bytes());
            parts.push(value.as_bytes().to_vec());
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let folder = context.work.join("steps").join(format!("{name}-{}", &files::sha256_hex(&parts)[..16]));
        Step { folder, inputs }
    }

    /// Where it works: every try makes a folder of its own in here.
    #[cfg(test)]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same, from when a try begins: what is in it says what it is of, however the try ends.
    pub(crate) fn begin(&self) -> Result<&Path> {
        files::write_atomic(&self.folder.join(INPUTS), &serde_json::to_vec_pretty(&self.inputs)?)?;
        Ok(&self.folder)
    }

    /// The result, if there is one whose files are what they were.
    pub(crate) fn result(&self) -> Option<Kept> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.folder.join(RESULT)).ok()?).ok()?;
        let sound = |(path, sha256): &(PathBuf, String)| {
            files::sha256_file(&self.folder.join(path)).is_ok_and(|now| now == *sha256)
        };
        if kept.files.values().all(sound) {
            return Some(kept);
        }
        progress::note(&format!("{}: its files are not what they were; the step is done again", self.folder.display()));
        None
    }

    /// Keeps a result; `files` are paths by their names in the experiment. One that is no answer, because something did not
    /// run, is told and published all the same, but the next run does the step again.
    pub(crate) fn keep(&self, files: &BTreeMap<String, PathBuf>, is_answer: bool) -> Result<Kept> {
        let inputs = self.inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut kept = Kept { inputs, ..Kept::default() };
        for (name, path) in files {
            let below = path.strip_prefix(&self.folder).context("a step's files lie in its folder")?.to_owned();
            // On the disk before anything speaks of it.
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            file.sync_all().with_context(|| format!("cannot write {}", path.display()))?;
            kept.files.insert(name.clone(), (below, files::sha256_file(path)?));
        }
        if is_answer {
            files::write_atomic(&self.folder.join(RESULT), &serde_json::to_vec_pretty(&kept)?)?;
        }
        Ok(kept)
    }

    /// Folders of its tries, oldest first: one has the result, others were ended by the host, a kill or an interrupt.
    pub(crate) fn tries(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut tries: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        tries.sort();
        tries
    }

    /// A file of a result.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self, kept: &Kept, name: &str) -> Result<T> {
        let (path, _) = kept.files.get(name).with_context(|| format!("{name} is part of the result"))?;
        read_json(&self.folder.join(path))
    }

    /// Puts the files of a result below `prefix` into an experiment's folder, where they are written once. `recorded` are
    /// those that the ledger speaks of. Returns paths relative to the folder.
    pub(crate) fn publish(
        &self,
        kept: &Kept,
        experiment: &Path,
        prefix: &str,
        recorded: &BTreeMap<String, String>,
    ) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for (name, (path, sha256)) in &kept.files {
            let (name, from) = (format!("{prefix}/{name}"), self.folder.join(path));
            write_once(&experiment.join(&name), recorded.get(&name), sha256, || {
                std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))
            })?;
            paths.push(name);
        }
        Ok(paths)
    }
}

/// Everything by which a step's result may differ besides its variants, its options and the attempt: the harness, the worker,
/// the model tests, the host and its sandbox, the tools, and whether libevent is built with OpenSSL.
pub(crate) fn surroundings(context: &Context) -> Result<Inputs> {
    let cc = build::compiler();
    let tls = if build::has_openssl(&cc) { "on" } else { "off" };
    Ok(Inputs::from([
        ("harness", worker::harness_sha256(context)?),
        ("worker", worker::ingredients(context, &[])?),
        ("model-tests", worker::hash_of(context, models::INGREDIENTS, &[])?),
        ("host", host::fingerprint().id),
        ("compiler", build::compiler_version(&cc)?),
        ("rustc", worker::rustc_version(context)?),
        ("sandbox", sandbox::described()),
        ("tls", tls.to_owned()),
    ]))
}

/// File of a step that says what it depends on.
pub(crate) const INPUTS: &str = "inputs.json";
/// File of a step that says what came of it.
const RESULT: &str = "result.json";

/// Writes a file of an experiment. One that no entry speaks of yet may be left of a run that was killed; one that an entry
/// speaks of is never changed.
pub(crate) fn write_once(
    path: &Path,
    recorded: Option<&String>,
    sha256: &str,
    content: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<()> {
    if recorded.is_some_and(|recorded| recorded != sha256) {
        let message = format!("{} was recorded with other content; records are never overwritten", path.display());
        return Err(failure(Exit::Tampering, message));
    }
    if path.is_file() && files::sha256_file(path)? == sha256 {
        return Ok(());
    }
    files::write_atomic(path, &content()?)
}

/// Compresses a file; the same bytes for the same content, everywhere.
pub(crate) fn compress(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    encoder.write_all(&content)?;
    files::write_atomic(to, &encoder.finish()?)
}

/// A JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what this version writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn step(context: &Context, seed: &str) -> Step {
        Step::new(context, "compare", Inputs::from([("candidate", "abc".to_owned()), ("seed", seed.to_owned())]))
    }

    fn context(folder: &Path) -> Context {
        crate::exp::tests::context(folder)
    }

    #[test]
    fn a_result_is_found_by_its_inputs_and_only_while_its_files_are_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        let one = step(&context, "1");
        assert!(one.result().is_none());
        let file = one.folder().join("try/record.json");
        files::write_atomic(&file, b"{\"a\":1}").unwrap();
        let files = BTreeMap::from([("compare.json".to_owned(), file.clone())]);
        let told = one.keep(&files, false).unwrap();
        assert_eq!(one.read::<serde_json::Value>(&told, "compare.json").unwrap()["a"], 1, "it can be published");
        assert!(one.result().is_none(), "what is no answer is no result");
        one.keep(&files, true).unwrap();
        let kept = step(&context, "1").result().expect("the same inputs");
        assert_eq!(one.read::<serde_json::Value>(&kept, "compare.json").unwrap()["a"], 1);
        assert!(step(&context, "2").result().is_none(), "another seed is another step");
        std::fs::write(&file, b"{\"a\":2}").unwrap();
        assert!(one.result().is_none(), "an edited file is no result");
    }

    #[test]
    fn whatever_makes_other_programs_makes_other_steps() {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let context = context(folder.path());
        let sources = ["bench-harness", "config", "libevent-sys", "model", "model-tests", "xtask"];
        sources.iter().for_each(|name| files::copy_tree(&root.join(name), &folder.path().join(name)).unwrap());
        for name in ["Cargo.lock", "Cargo.toml"] {
            std::fs::copy(root.join(name), folder.path().join(name)).unwrap();
        }
        let mut before = surroundings(&context).unwrap();
        assert_eq!(surroundings(&context).unwrap(), before);
        for file in
            ["bench-harness/src/worker.rs", "libevent-sys/src/lib.rs", "model-tests/src/lib.rs", "xtask/src/main.rs"]
        {
            let path = folder.path().join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            std::fs::write(&path, text + "// changed\n").unwrap();
            let after = surroundings(&context).unwrap();
            assert_ne!(after, before, "{file}");
            before = after;
        }
        assert!(["on", "off"].contains(&before["tls"].as_str()));
    }

    #[test]
    fn a_file_that_is_recorded_is_never_changed_and_one_that_is_not_may_be_left_of_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("EXP/run-1/gate.json");
        let (one, two) = (files::sha256_hex(&[b"one"]), files::sha256_hex(&[b"two"]));
        write_once(&path, None, &one, || Ok(b"one".to_vec())).unwrap();
        write_once(&path, Some(&one), &one, || panic!("it is there")).unwrap();
        write_once(&path, None, &two, || Ok(b"two".to_vec())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let error = write_once(&path, Some(&two), &one, || Ok(b"one".to_vec())).unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Tampering);
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn compressed_samples_are_the_same_everywhere_and_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("samples"), "{\"block\":0}\n".repeat(1000)).unwrap();
        compress(&at("samples"), &at("1.gz")).unwrap();
        compress(&at("samples"), &at("2.gz")).unwrap();
        let bytes = std::fs::read(at("1.gz")).unwrap();
        assert_eq!(bytes, std::fs::read(at("2.gz")).unwrap());
        assert!(bytes.len() < 500);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"block\":0}\n".repeat(1000));
    }
}
