//! Sanitizers: their flags, and whether they start on this host and find a planted defect.

use crate::build::without_compiler_settings;
use crate::context::Context;
use crate::process;
use crate::sandbox::{self, Policy};
use anyhow::{Context as _, Result};
use model::gate::Sanitizer;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Where Linux says how many bits of an address are random.
const RANDOM_BITS: &str = "/proc/sys/vm/mmap_rnd_bits";

/// A program that is sound, and with an argument is not, in three ways: a byte behind an allocation is read, an
/// addition overflows, and two threads write to one variable.
const PROBE: &str = "#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static int shared;
static void *writer(void *unused) { for (int i = 0; i < 1000; ++i) ++shared; return unused; }
int main(int argc, char **argv)
{
\tvolatile int sum = argc > 1 ? INT_MAX : 1;
\tchar *volatile bytes = malloc(8);
\tpthread_t thread;
\tif (argc <= 1) { free(bytes); return 0; }
\tif (!strcmp(argv[1], \"address\")) sum = bytes[8];
\tif (!strcmp(argv[1], \"undefined\")) sum = sum + argc;
\tif (!strcmp(argv[1], \"thread\")) {
\t\tif (pthread_create(&thread, NULL, writer, NULL)) return 0;
\t\twriter(NULL);
\t\tpthread_join(thread, NULL);
\t}
\tif (!strcmp(argv[1], \"leak\")) { memset(bytes, sum & 1, 8); bytes = NULL; return 0; }
\tfree(bytes);
\treturn 0;
}
";

/// What is added to the flags of the library and of the tests, and to links.
pub(crate) fn flags(sanitizer: Sanitizer) -> Vec<String> {
    let flags: &[&str] = match sanitizer {
        Sanitizer::None => &[],
        Sanitizer::Address => &["-fsanitize=address"],
        // A finding must fail the test in which it is, not be a line in its output.
        Sanitizer::Undefined => &["-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
        Sanitizer::Thread => &["-fsanitize=thread"],
    };
    let deaf: &[&str] = if sanitizer == Sanitizer::None { &[] } else { DEAF };
    flags.iter().chain(deaf).map(|flag| (*flag).to_owned()).collect()
}

/// Code cannot ask not to be watched, nor tell that it is: neither by these names nor by pieces that the preprocessor
/// joins to them, which no reader of lines would see. The attributes become one that says nothing.
const DEAF: &[&str] = &[
    "-Dno_sanitize(...)=unused",
    "-D__no_sanitize__(...)=unused",
    "-Dno_sanitize_address=unused",
    "-D__no_sanitize_address__=unused",
    "-Dno_sanitize_thread=unused",
    "-D__no_sanitize_thread__=unused",
    "-Dno_sanitize_undefined=unused",
    "-D__no_sanitize_undefined__=unused",
    "-Dno_address_safety_analysis=unused",
    "-D__no_address_safety_analysis__=unused",
    "-Ddisable_sanitizer_instrumentation=unused",
    "-D__disable_sanitizer_instrumentation__=unused",
    "-U__SANITIZE_ADDRESS__",
    "-U__SANITIZE_THREAD__",
];

/// Whether a sanitizer works here: a tiny program is compiled, runs, and has its defect found. The reason, if not.
pub(crate) fn starts(context: &Context, cc: &str, sanitizer: Sanitizer) -> Result<Result<(), String>> {
    let name = sanitizer.name();
    if sanitizer == Sanitizer::None {
        return Ok(Ok(()));
    }
    let scratch = context.scratch("sanitizer-")?;
    let (code, program) = (scratch.path().join("probe.c"), scratch.path().join("probe"));
    std::fs::write(&code, PROBE).with_context(|| format!("cannot write {}", code.display()))?;
    let mut compile = Command::new(cc);
    without_compiler_settings(&mut compile);
    compile.args(["-O1", "-g", "-pthread"]).args(flags(sanitizer)).arg("-o").arg(&program).arg(&code);
    let got = process::capture(&mut compile, LIMIT)?;
    if !got.status.success() {
        return Ok(Err(format!(
            "{cc} cannot link the {name} sanitizer: {}{}",
            last_line(&got.stderr),
            packages(sanitizer)
        )));
    }
    let run = |argument: Option<&str>| {
        // Confined as tests are: what the sandbox forbids, a sanitizer may need.
        let mut command = sandbox::command(&Policy::test(true), &program)?;
        process::capture(command.args(argument), LIMIT)
    };
    let got = run(None)?;
    if !got.status.success() {
        let bits = std::fs::read_to_string(RANDOM_BITS).ok().and_then(|text| text.trim().parse().ok());
        let how = ended(got.status);
        return Ok(Err(format!(
            "the {name} sanitizer does not start ({how}): {}{}",
            last_line(&got.stderr),
            cause(sanitizer, bits)
        )));
    }
    let defects: &[&str] = if sanitizer == Sanitizer::Address { &[name, "leak"] } else { &[name] };
    for defect in defects {
        let got = run(Some(defect))?;
        if got.status.success() {
            return Ok(Err(format!(
                "the {name} sanitizer starts, and does not find a planted defect ({defect}): it would find nothing in libevent"
            )));
        }
    }
    Ok(Ok(()))
}

fn ended(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}

/// What brings the run-time library.
fn packages(sanitizer: Sanitizer) -> String {
    let library = match sanitizer {
        Sanitizer::None => return String::new(),
        Sanitizer::Address => "libasan",
        Sanitizer::Undefined => "libubsan",
        Sanitizer::Thread => "libtsan",
    };
    format!(
        "; its run-time library is missing. With gcc it comes with the compiler (Debian, Ubuntu, Arch, openSUSE) or as \
         the package {library} (Fedora); with clang as libclang-rt-dev (Debian, Ubuntu) or compiler-rt (Fedora, Arch, Alpine)"
    )
}

/// Why a sanitizer that was linked ends at once, as far as it can be told.
fn cause(sanitizer: Sanitizer, random_bits: Option<u32>) -> String {
    match (sanitizer, random_bits) {
        (Sanitizer::Thread | Sanitizer::Address, Some(bits)) if bits > 28 => {
            format!("; {RANDOM_BITS} is {bits}, and it needs at most 28: `sudo sysctl vm.mmap_rnd_bits=28`")
        }
        _ => String::new(),
    }
}

fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it printed nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_sanitizer_that_cannot_work_says_why() {
        assert!(cause(Sanitizer::Thread, Some(32)).contains("sysctl vm.mmap_rnd_bits=28"));
        assert_eq!(cause(Sanitizer::Thread, Some(28)), "");
        assert_eq!(cause(Sanitizer::Undefined, Some(32)), "");
        assert!(packages(Sanitizer::Thread).contains("libtsan"));

        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            root: folder.path().to_owned(),
            work: folder.path().to_owned(),
            runs: folder.path().to_owned(),
            calibrations: folder.path().to_owned(),
            install: false,
            json: false,
            sandbox_without: vec![],
        };
        // A compiler that knows the flags and does not do what they say.
        let blind = folder.path().join("blind");
        write_program(
            &blind,
            "#!/bin/sh\nfor word; do shift; case $word in -f*) ;; *) set -- \"$@\" \"$word\";; esac; done\nexec cc \"$@\"\n",
        );
        let why = starts(&context, blind.to_str().unwrap(), Sanitizer::Undefined).unwrap().unwrap_err();
        assert!(why.contains("does not find a planted defect"), "{why}");
        let without = folder.path().join("without");
        write_program(&without, "#!/bin/sh\necho 'ld: cannot find -ltsan' >&2\nexit 1\n");
        let why = starts(&context, without.to_str().unwrap(), Sanitizer::Thread).unwrap().unwrap_err();
        assert!(why.contains("cannot find -ltsan") && why.contains("libtsan"), "{why}");
    }

    /// By another process: a file that this one has open for writing may be inherited by a child of another thread,
    /// and then cannot be executed.
    fn write_program(path: &Path, text: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", r#"printf %s "$1" > "$0" && chmod 755 "$0""#]).arg(path).arg(text);
        assert!(command.status().unwrap().success());
    }
}
