//! Exit codes, and errors that know theirs.

use model::plain::plain;

/// Shown under every `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 ok; 1 usage; 2 rejected, gate failed or an error in a workload; \
3 inconclusive; 4 host, tool or infrastructure; 5 tampering found; 6 another run holds the lock; 130 interrupted.";

/// What the process ends with; documented in `--help`, and what scripts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done as asked.
    Ok = 0,
    /// The command line or a name in it is wrong.
    Usage = 1,
    /// A workload, a build of libevent or a gate failed.
    Failed = 2,
    /// No answer within the budget.
    Inconclusive = 3,
    /// The host, a tool or the disk failed; nothing is said about libevent.
    Infrastructure = 4,
    /// Something that is verified by hash is not what it should be.
    Tampering = 5,
    /// Another run holds the lock.
    Locked = 6,
    /// Ctrl-C or SIGTERM; what was measured is kept.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// An error that ends the process with a given exit code. Put it anywhere in an `anyhow` chain.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

/// An error with an exit code: what happened, to which file or variant, what to do.
pub(crate) fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failure { exit, message: message.into() })
}

/// The exit code that an error asks for; an error that asks for none is one of the infrastructure.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Failure>().map_or(Exit::Infrastructure, |failure| failure.exit)
}

/// Prints an error with its causes on standard error, without what a terminal would obey.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    eprintln!("error: {}", plain(&error.to_string()));
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {}", plain(&cause.to_string()));
    }
    exit_of(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn context_keeps_the_exit_code() {
        let error = failure(Exit::Locked, "held").context("opening the state");
        assert_eq!(exit_of(&error), Exit::Locked);
        let plain: anyhow::Result<()> = Err(anyhow::anyhow!("disk")).context("writing");
        assert_eq!(exit_of(&plain.unwrap_err()), Exit::Infrastructure);
    }
}
