//! Options that verbs share which measure builds and keep a record.

use crate::bench::run;
use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

/// Most time for one answer of a worker, unless it is said.
const TIMEOUT_S: u64 = 20;

/// From where, with what, within which time, and where to.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Measuring {
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    pub(crate) source: Option<String>,
    /// Count instructions per event with callgrind, too
    #[arg(long)]
    pub(crate) instructions: bool,
    /// A file with workloads of your own, C or Rust; repeatable (docs/WORKLOADS.md)
    #[arg(long = "workload-file", value_name = "PATH")]
    pub(crate) workload_files: Vec<PathBuf>,
    /// Most time for one answer of a worker, in seconds; longer is a hang
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_S, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Draws layouts, environment sizes and orders [default: at random, printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder in which the record's folder is made [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print Markdown for a pull request
    #[arg(long)]
    pub(crate) markdown: bool,
}

impl Measuring {
    /// For a verb that decides these things by itself.
    pub(crate) fn with_seed(seed: u64, instructions: bool) -> Measuring {
        Measuring {
            source: None,
            instructions,
            workload_files: vec![],
            timeout: TIMEOUT_S,
            seed: Some(seed),
            out: None,
            markdown: false,
        }
    }

    /// Most time for one answer of a worker.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The seed that was given, or a new one.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(run::random_seed)
    }

    /// Where records go.
    pub(crate) fn parent(&self, context: &Context) -> PathBuf {
        self.out.clone().unwrap_or_else(|| context.runs.clone())
    }

    /// The users' files, which exist and are of a kind that can be compiled.
    ///
    /// # Errors
    /// A file that is neither, or whose path cannot be handed on.
    pub(crate) fn user_files(&self) -> Result<Vec<PathBuf>> {
        user_files(&self.workload_files)
    }
}

/// See [`Measuring::user_files`].
pub(crate) fn user_files(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let usage = |file: &PathBuf, why: &str| failure(Exit::Usage, format!("--workload-file {}: {why}", file.display()));
    files
        .iter()
        .map(|file| {
            let known = file.extension().is_some_and(|ending| ending == "c" || ending == "rs");
            match file.canonicalize() {
                Ok(path) if path.to_string_lossy().contains(':') => {
                    Err(usage(file, "the path has a `:`, which separates paths; put the file elsewhere"))
                }
                Ok(path) if path.is_file() && known => Ok(path),
                Ok(_) => Err(usage(file, "give a C or Rust file, ending in .c or .rs (docs/WORKLOADS.md)")),
                Err(error) => Err(usage(file, &error.to_string())),
            }
        })
        .collect()
}
