//! Real builds of the pinned libevent and of patches on it. One work folder beside the test program serves all runs and
//! is kept: what was built once is found again.

use super::build::{self, GateBuild, Linked};
use super::{abi, harness, identity};
use crate::context::Context;
use crate::exit::{Exit, exit_of};
use crate::{process, source, variant};
use model::abi::{AbiReport, Subject};
use model::build_config::Profile;
use model::gate::Sanitizer;
use model::variant::Variant;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// One at a time: they share a work folder.
static ONE: Mutex<()> = Mutex::new(());

struct World {
    context: Context,
    scratch: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> World {
        let one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let scratch = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        // target/debug/deps/xtask-...: cargo's own folder for this is told to integration tests only.
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
        let context = Context {
            root,
            work: target.join("tmp/gate-tests"),
            runs: scratch.path().to_owned(),
            calibrations: scratch.path().to_owned(),
            install: false,
            json: false,
            sandbox_without: vec![],
        };
        World { context, scratch, _one: one }
    }

    fn pristine(&self) -> Variant {
        let source = source::resolve(&self.context, None).unwrap();
        variant::pristine(&self.context, &source).unwrap()
    }

    /// Pristine with `from` replaced by `to`, once, in each of these files.
    fn patched(&self, name: &str, edits: &[(&str, &str, &str)]) -> Variant {
        let pristine = self.pristine();
        let checkout = variant::checkout(&self.context, &pristine, None).unwrap();
        for (file, from, to) in edits {
            let [before, after] = ["a", "b"].map(|side| self.scratch.path().join(side).join(file));
            for path in [&before, &after].into_iter().filter(|path| !path.exists()) {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, std::fs::read(checkout.join(file)).unwrap()).unwrap();
            }
            let text = std::fs::read_to_string(&after).unwrap();
            assert!(text.contains(from), "{file} has no `{from}`");
            std::fs::write(&after, text.replacen(from, to, 1)).unwrap();
        }
        let mut diff = Command::new("git");
        diff.args(["diff", "--no-index", "--no-prefix", "a", "b"]).current_dir(self.scratch.path());
        let patch = self.scratch.path().join(name);
        std::fs::write(&patch, process::capture(&mut diff, LIMIT).unwrap().stdout).unwrap();
        for side in ["a", "b"] {
            std::fs::remove_dir_all(self.scratch.path().join(side)).unwrap();
        }
        variant::patched(&self.context, &pristine.source, &patch).unwrap()
    }

    fn build(&self, variant: &Variant, sanitizer: Sanitizer) -> GateBuild {
        build::build(&self.context, variant, sanitizer).unwrap()
    }
}

/// How a program ends and what it prints.
fn run(program: &Path, args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(args).envs(environment.iter().copied()).current_dir(folder.path());
    let got = process::capture(&mut command, LIMIT).unwrap();
    (got.status.code(), got.stdout + &got.stderr)
}

fn program<'a>(build: &'a GateBuild, name: &str) -> &'a PathBuf {
    &build.programs.iter().find(|(program, _)| program == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn the_tests_are_linked_with_the_measured_library_and_say_so() {
    let world = World::new();
    let pristine = world.build(&world.pristine(), Sanitizer::None);
    assert_eq!(pristine.linked, Linked::Measured);
    assert!(pristine.libraries.iter().all(|path| !path.starts_with(&pristine.folder)), "{:?}", pristine.libraries);
    for name in ["regress", "test-eof", "test-closed", "test-weof", "test-time", "test-changelist", "test-fdleak"] {
        identity::verify_identity(program(&pristine, name), &pristine).unwrap();
    }
    let (code, told) = run(&pristine.regress, &["--list-tests"], &[(identity::VARIABLE, "1")]);
    assert_eq!(code, Some(0));
    identity::verify_told(&pristine.regress, &told, &pristine).unwrap();
    let (code, list) = run(&pristine.regress, &["--list-tests"], &[]);
    assert!(code == Some(0) && list.lines().count() > 300, "{list}");

    let edit = [(
        "buffer.c",
        "\tresult = (buffer->total_len);\n",
        "\t(void)event_get_version();\n\tresult = (buffer->total_len);\n",
    )];
    let patched = world.build(&world.patched("one-file.patch", &edit), Sanitizer::None);
    let error = identity::verify_identity(&pristine.regress, &patched).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Tampering, "{error:#}");
    assert_ne!(patched.sha256_of(&patched.regress), pristine.sha256_of(&pristine.regress));
    let own = std::fs::read_dir(patched.folder.join("CMakeFiles")).map_or(0, Iterator::count);
    assert_eq!(own, 0, "the tests' object files are pristine's");
    let (code, text) = run(&patched.regress, &["evbuffer/.."], &[]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_sanitizer_watches_the_library_compiled_as_it_is_measured() {
    let world = World::new();
    let text = "\tresult = (buffer->total_len);\n";
    let broken = "\t{ char *volatile p = mm_malloc(1); volatile char c = p[1]; (void)c; mm_free(p); }\n\tresult = (buffer->total_len);\n";
    // It asks not to be watched, and whether it is, in words that no rule for patches can know.
    let head = "size_t\nevbuffer_get_length(const";
    let asks = "#if __CONCAT(__SANI, TIZE_ADDRESS__)\n#error it is told\n#endif\n__attribute__((__CONCAT(no_sani, tize_address)))\n";
    let hides = format!("{asks}__attribute__((__CONCAT(no_sa, nitize)(\"address\")))\n{head}");
    let variant = world.patched("reads-behind.patch", &[("buffer.c", text, broken), ("buffer.c", head, &hides)]);
    let plain = build::build_with(&world.context, &variant, Profile::default(), Sanitizer::None, Linked::Compiled);
    let (code, shown) = run(&plain.unwrap().regress, &["evbuffer/add1"], &[]);
    assert_eq!(code, Some(0), "nothing is seen without: {shown}");
    let address = world.build(&variant, Sanitizer::Address);
    build::check_starts(&world.context, &address).unwrap();
    let (code, shown) = run(&address.regress, &["evbuffer/add1"], &[]);
    assert!(code != Some(0) && shown.contains("heap-buffer-overflow"), "{shown}");
    let pristine = world.build(&world.pristine(), Sanitizer::Address);
    let (code, shown) = run(&pristine.regress, &["evbuffer/add1"], &[]);
    assert_eq!(code, Some(0), "{shown}");
    let own: Vec<_> = walk(&address.folder.join("CMakeFiles"));
    assert_eq!(own, ["buffer.c.o"], "one file differs, one is compiled");
}

/// Names of the object files below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(walk(&path));
        } else if path.extension().is_some_and(|ending| ending == "o") {
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    names
}

#[test]
fn object_code_compiled_by_the_template_is_that_of_the_measured_library() {
    let world = World::new();
    let variant = world.pristine();
    let measured = world.build(&variant, Sanitizer::None);
    let compiled = build::build_with(&world.context, &variant, Profile::default(), Sanitizer::None, Linked::Compiled);
    let compiled = compiled.unwrap();
    assert_eq!(measured.libraries.len(), compiled.libraries.len());
    for (one, other) in measured.libraries.iter().zip(&compiled.libraries) {
        assert_eq!(code_of(one), code_of(other), "{} and {}", one.display(), other.display());
    }
}

/// Sections by name, with what is in them.
type Sections = Vec<(String, Vec<u8>)>;

/// Members of an archive with the content of every section that is loaded.
fn code_of(path: &Path) -> Vec<(String, Sections)> {
    use object::{Object as _, ObjectSection as _};
    let bytes = std::fs::read(path).unwrap();
    let archive = object::read::archive::ArchiveFile::parse(&*bytes).unwrap();
    let members = archive.members().map(|member| {
        let member = member.unwrap();
        let object = object::File::parse(member.data(&*bytes).unwrap()).unwrap();
        let debug = |name: &str| name.starts_with(".debug") || name.starts_with(".rela.debug");
        let sections = object.sections().filter(|section| !debug(section.name().unwrap()));
        let loaded = sections.filter(|section| section.kind() != object::SectionKind::Metadata);
        let content = loaded.map(|s| (s.name().unwrap().to_owned(), s.data().unwrap().to_vec())).collect();
        (String::from_utf8_lossy(member.name()).into_owned(), content)
    });
    let mut members: Vec<_> = members.collect();
    members.sort();
    members
}

#[test]
fn the_harness_and_the_sources_stay_as_they_are() {
    let world = World::new();
    let build = world.build(&world.pristine(), Sanitizer::None);
    let before = harness::taken(&world.context, &[&build]).unwrap();
    harness::check_harness(&before, "epoll").unwrap();
    assert!(!build.source.join("test/regress.gen.c").exists());
    let bytes = std::fs::read(program(&build, "test-time")).unwrap();
    std::fs::write(program(&build, "test-time"), [&bytes[..], b"x"].concat()).unwrap();
    let error = harness::check_harness(&before, "epoll").unwrap_err();
    assert_eq!(exit_of(&error), Exit::Tampering);
    assert!(error.to_string().contains("test-time"), "{error}");
    let again = world.build(&world.pristine(), Sanitizer::None);
    assert_eq!(std::fs::read(program(&again, "test-time")).unwrap().len(), bytes.len(), "it is linked again");
    harness::check_harness(&before, "poll").unwrap();
}

#[test]
fn a_test_that_does_not_compile_any_more_is_named() {
    let world = World::new();
    let gone = world.patched(
        "no-field.patch",
        &[("evbuffer-internal.h", "struct evbuffer_chain *first;", "struct evbuffer_chain *head;")],
    );
    let error =
        build::build_with(&world.context, &gone, Profile::default(), Sanitizer::None, Linked::Compiled).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
    let text = format!("{error:#}");
    assert!(text.contains("does not compile for the gate") && text.contains("no member named"), "{text}");
}

/// What programs would see of a patch.
fn seen(world: &World, name: &str, edits: &[(&str, &str, &str)]) -> AbiReport {
    let compiled = |variant: &Variant| {
        build::build_with(&world.context, variant, Profile::default(), Sanitizer::None, Linked::Compiled).unwrap()
    };
    let (pristine, candidate) = (compiled(&world.pristine()), compiled(&world.patched(name, edits)));
    abi::differences(&world.context, &pristine, &candidate).unwrap()
}

fn has(report: &AbiReport, subject: Subject, name: &str, what: &str) -> bool {
    let fits = |found: &&model::abi::Difference| found.subject == subject && found.name == name;
    report.differences.iter().filter(fits).any(|found| found.what.contains(what))
}

#[test]
fn a_library_that_defines_the_clock_is_refused() {
    let world = World::new();
    let at = "struct event_base *event_global_current_base_ = NULL;\n";
    let clock = "\
static long faked;\n\
int clock_gettime(clockid_t id, struct timespec *ts) { ts->tv_sec = 0; ts->tv_nsec = ++faked; return 0; }\n\
__attribute__((visibility(\"hidden\"))) ssize_t write(int fd, const void *buf, size_t n) { return (ssize_t)n; }\n\
__asm__(\".globl time\\n.type time, @notype\\ntime:\\n\");\n\
__attribute__((constructor)) static void early(void) { faked = getenv(\"HOME\") != NULL; }\n";
    let report = seen(&world, "clock.patch", &[("event.c", at, &format!("{at}{clock}"))]);
    for name in ["clock_gettime", "write", "time"] {
        assert!(has(&report, Subject::Clash, name, "take the place"), "{name}: {report:#?}");
    }
    assert!(report.screened.iter().any(|line| line.contains("event.c.o: .init_array")), "{report:#?}");
    assert_eq!(report.differences.len(), 3, "{report:#?}");
}

#[test]
fn the_library_of_a_sanitizers_build_may_not_define_what_is_anothers() {
    let world = World::new();
    // No word of it says what it is: names are put together where only the compiler sees them.
    let code = "\
#define JOIN_(a, b) a##b\n\
long JOIN_(ti, me)(long *t) { return t != 0; }\n\
const char *JOIN_(__asan, _default_options)(void) { return \"detect_leaks=0\"; }\n";
    let at = "struct event_base *event_global_current_base_ = NULL;\n";
    let variant = world.patched("joined.patch", &[("event.c", at, &format!("{at}{code}"))]);
    let error = build::build(&world.context, &variant, Sanitizer::Address).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
    let text = format!("{error:#}");
    assert!(text.contains("__asan_default_options") && text.contains("time"), "{text}");
}

#[test]
fn what_programs_rely_on_stays_as_it_is() {
    let world = World::new();
    let private = [(
        "buffer.c",
        "size_t\nevbuffer_get_length(const",
        "int evbuffer_another_(void);\nint evbuffer_another_(void) { return 1; }\nsize_t\nevbuffer_get_length(const",
    )];
    let report = seen(&world, "private.patch", &private);
    assert_eq!(report, AbiReport::default(), "libevent may have more functions of its own");

    let removed = [("buffer.c", "evbuffer_get_length(const", "evbuffer_get_size_(const")];
    let variant = world.patched("removed.patch", &removed);
    let error = build::build_with(&world.context, &variant, Profile::default(), Sanitizer::None, Linked::Compiled);
    let error = error.unwrap_err();
    assert!(exit_of(&error) == Exit::Failed && format!("{error:#}").contains("evbuffer_get_length"), "{error:#}");

    let public = [
        ("include/event2/event_struct.h", "\tshort ev_events;\n", "\tlong ev_events;\n"),
        ("include/event2/event.h", "#define EV_PERSIST\t0x10", "#define EV_PERSIST\t0x80"),
        ("include/event2/bufferevent.h", "BEV_OPT_DEFER_CALLBACKS = (1<<2)", "BEV_OPT_DEFER_CALLBACKS = (1<<5)"),
        (
            "include/event2/buffer.h",
            "int evbuffer_enable_locking(struct evbuffer *buf, void *lock);",
            "int evbuffer_enable_locking(struct evbuffer *buf, const void *lock);",
        ),
        (
            "buffer.c",
            "evbuffer_enable_locking(struct evbuffer *buf, void *lock)",
            "evbuffer_enable_locking(struct evbuffer *buf, const void *lock_)",
        ),
        (
            "buffer.c",
            "#ifdef EVENT__DISABLE_THREAD_SUPPORT\n\treturn -1;\n#else\n\tif (buf->lock)",
            "#ifdef EVENT__DISABLE_THREAD_SUPPORT\n\treturn -1;\n#else\n\tvoid *lock = (void *)lock_;\n\tif (buf->lock)",
        ),
        (
            "evutil.c",
            "evutil_socketpair(int family, int type",
            "__attribute__((weak)) evutil_socketpair(int family, int type",
        ),
    ];
    let report = seen(&world, "public.patch", &public);
    for (subject, name, what) in [
        (Subject::Layout, "struct event", "ev_events at"),
        (Subject::Declaration, "struct event", "long ev_events"),
        (Subject::Macro, "EV_PERSIST", "is `0x80`"),
        (Subject::Layout, "enum bufferevent_options", "BEV_OPT_DEFER_CALLBACKS = 32"),
        (Subject::Declaration, "evbuffer_enable_locking", "const void * lock"),
        (Subject::Symbol, "evutil_socketpair", "weak"),
    ] {
        assert!(has(&report, subject, name, what), "{name}: {report:#?}");
    }
}
