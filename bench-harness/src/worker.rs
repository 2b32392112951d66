//! The worker program: lists, verifies, runs and profiles workloads (protocol: [`model::protocol`]).
//!
//! Its entry is the C function [`bench_worker_main`], because xtask links the static library made of
//! this crate with the C compiler, once per variant. The variant's id is the C symbol
//! `bench_variant_id`, which each link defines anew.

mod batch;
pub mod busy;
mod clock;
mod commands;
mod library;
mod options;
mod probe;

pub use batch::Checked;
pub use commands::run_session;

use crate::{client, cpus};
use options::{Command, Options};
use std::ffi::{CStr, c_char, c_int};
use std::io::{self, Write};

/// Everything went as asked.
const EXIT_OK: c_int = 0;
/// The command line makes no sense; nothing was done.
const EXIT_USAGE: c_int = 1;
/// A workload failed, or its figures could not be delivered.
const EXIT_FAILED: c_int = 2;

/// The worker's `main`. Prints to standard output and returns the exit code: 0, 1 (usage), 2 (a
/// workload failed). A panic prints its message and aborts the process, since it cannot unwind into C.
///
/// # Safety
/// `argv` must point to `argc` strings that end in NUL, as the C runtime hands them to `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bench_worker_main(argc: c_int, argv: *const *const c_char) -> c_int {
    ignore_sigpipe();
    let count = usize::try_from(argc).unwrap_or(0);
    let arguments: Vec<String> = (1..count)
        .map(|index| {
            // SAFETY: the caller promises `argc` strings; `index` is below `argc`.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            argument.to_string_lossy().into_owned()
        })
        .collect();
    client::this_program_is_the_worker();
    if let Some((command, arguments)) = arguments.split_first()
        && command == "client"
    {
        return run_client(arguments);
    }
    match options::parse(&arguments) {
        Ok(options) => execute(&options),
        Err(error) => {
            eprintln!("bench-worker: {error}\n{}", options::USAGE);
            EXIT_USAGE
        }
    }
}

fn execute(options: &Options) -> c_int {
    let mut output = io::stdout().lock();
    if let Some(cpu) = options.cpu
        && let Err(error) = cpus::pin_to(cpu)
    {
        return commands::report_failure(&mut output, None, &error);
    }
    match &options.command {
        Command::Help => print(&mut output, options::USAGE),
        Command::Version => print(&mut output, &library::version_line()),
        Command::List => commands::list(&mut output),
        Command::Verify { workloads, batches } => commands::verify(&mut output, workloads, *batches),
        Command::Run { workload } => commands::run(&mut output, workload),
        Command::Profile { workload, bound, busy } => commands::profile(&mut output, workload, *bound, *busy),
    }
}

/// The peer process of http workloads; its arguments are its own.
fn run_client(arguments: &[String]) -> c_int {
    match client::client_main(arguments) {
        Ok(()) => EXIT_OK,
        Err(error) => {
            eprintln!("bench-worker client: {error:#}");
            EXIT_FAILED
        }
    }
}

fn print(output: &mut impl Write, text: &str) -> c_int {
    match writeln!(output, "{text}") {
        Ok(()) => EXIT_OK,
        Err(_) => EXIT_FAILED,
    }
}

/// A harness that went away must not kill the worker in the middle of its tear-down (peers, sockets).
/// C programs start with the default action; libevent's own writes to closed sockets need this, too.
fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid action and no thread of ours depends on the old one.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
