//! `cargo xtask <verb>`: makes libevent faster, and proves it. One verb, one file in `cmd/`.

mod bench;
mod build;
mod calibrate;
mod cmd;
mod compare;
mod context;
mod exit;
mod exp;
mod failpoint;
mod files;
mod gate;
mod git;
mod host;
mod interrupt;
mod journal;
mod layout;
mod ledger;
mod lock;
mod process;
mod profile;
mod progress;
mod records;
mod report;
mod rust_object;
mod sandbox;
mod session;
mod setup;
mod side;
mod source;
mod tip;
mod variant;
mod variants;
mod worker;

use clap::{Parser, Subcommand};
use context::Context;
use exit::Exit;

/// Makes libevent faster, and proves it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110, after_help = exit::HELP)]
struct Cli {
    /// Print exactly one JSON document on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Never install a missing tool: name it, with the command that installs it, and exit 4.
    #[arg(long, global = true)]
    no_install: bool,
    /// Run code that nobody vouches for although this host lacks these parts of the sandbox (see doctor).
    #[arg(long, global = true, value_name = "PART,...", value_delimiter = ',', env = "LIBEVENT_PERF_SANDBOX_WITHOUT")]
    sandbox_without: Vec<model::sandbox::Part>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(cmd::setup::Args),
    Bench(cmd::bench::Args),
    Compare(cmd::compare::Args),
    Calibrate(cmd::calibrate::Args),
    Verify(cmd::verify::Args),
    Models(cmd::models::Args),
    Variant(cmd::variant::Args),
    Exp(Box<cmd::exp::Args>),
    Ledger(cmd::ledger::Args),
    Tip(cmd::tip::Args),
    Profile(cmd::profile::Args),
    Test(cmd::test::Args),
    Doctor(cmd::doctor::Args),
}

impl Verb {
    /// As typed, and as the schema of its documents begins.
    fn name(&self) -> &'static str {
        match self {
            Verb::Setup(_) => "setup",
            Verb::Bench(_) => "bench",
            Verb::Compare(_) => "compare",
            Verb::Calibrate(_) => "calibrate",
            Verb::Verify(_) => "verify",
            Verb::Models(_) => "models",
            Verb::Variant(_) => "variant",
            Verb::Exp(_) => "exp",
            Verb::Ledger(_) => "ledger",
            Verb::Tip(_) => "tip",
            Verb::Profile(_) => "profile",
            Verb::Test(_) => "test",
            Verb::Doctor(_) => "doctor",
        }
    }
}

fn main() -> std::process::ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == sandbox::VERB => return sandbox::enter(&words.collect::<Vec<_>>()),
        Some(word) if word == process::live::VERB => {
            process::live::reaper();
            return Exit::Ok.into();
        }
        _ => {}
    }
    // What root makes can be read by the user that confined code is.
    // SAFETY: umask cannot fail and has no preconditions.
    unsafe { libc::umask(0o022) };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing help can only fail when nobody reads it any more.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let result = Context::new(cli.json, !cli.no_install, &cli.sandbox_without).and_then(|context| match &cli.verb {
        Verb::Setup(args) => cmd::setup::run(args, &context),
        Verb::Bench(args) => cmd::bench::run(args, &context),
        Verb::Compare(args) => cmd::compare::run(args, &context),
        Verb::Calibrate(args) => cmd::calibrate::run(args, &context),
        Verb::Verify(args) => cmd::verify::run(args, &context),
        Verb::Models(args) => cmd::models::run(args, &context),
        Verb::Variant(args) => cmd::variant::run(args, &context),
        Verb::Exp(args) => cmd::exp::run(args, &context),
        Verb::Ledger(args) => cmd::ledger::run(args, &context),
        Verb::Tip(args) => cmd::tip::run(args, &context),
        Verb::Profile(args) => cmd::profile::run(args, &context),
        Verb::Test(args) => cmd::test::run(args, &context),
        Verb::Doctor(args) => cmd::doctor::run(args, &context),
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::report(&error);
            if cli.json {
                report::print_failure(cli.verb.name(), exit, &error);
            }
            exit.into()
        }
    }
}
