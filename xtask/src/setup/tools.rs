//! The tools that verbs need, as data: how each is found, who needs it, and what packages bring it.

use super::packages::Manager;

/// What the user wants to do, as far as it needs tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Build and measure.
    Bench,
    /// Everything that decides correctness.
    Test,
    /// Gates with sanitizers.
    Verify,
    /// Where the time goes.
    Profile,
    /// Count instructions, as part of another verb.
    Instructions,
    /// Count system calls where tracepoints do not, as part of another verb.
    Strace,
    /// Build with gcc by that name, as part of another verb.
    Gcc,
    /// Build with clang, as part of another verb.
    Clang,
    /// Optimise a whole library with clang, as part of another verb.
    ClangLto,
    /// Use a recorded profile with clang, as part of another verb.
    ClangPgo,
}

/// Verbs that `setup` prepares; `setup --all` prepares the rest, too.
pub(crate) const TODAY: &[Verb] = &[Verb::Bench, Verb::Test];
/// Every verb.
pub(crate) const ALL: &[Verb] = &[Verb::Bench, Verb::Test, Verb::Verify, Verb::Profile];

/// How a tool is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Find {
    /// One of these programs is in PATH.
    Program(&'static [&'static str]),
    /// One of these patterns matches a file; `*` stands for any part of one folder's name.
    File(&'static [&'static str]),
    /// libclang's library and the compiler headers that belong to it, as bindgen looks for them.
    Libclang,
}

/// One tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Name for people and for `--json`.
    pub(crate) name: &'static str,
    /// How it is found.
    pub(crate) find: Find,
    /// Verbs that cannot do without it.
    pub(crate) required_by: &'static [Verb],
    /// Verbs that do less without it.
    pub(crate) used_by: &'static [Verb],
    /// What is lost without it, as a sentence that begins so.
    pub(crate) lost: &'static str,
    packages: Packages,
}

/// Package names per package manager.
#[derive(Clone, Copy, Debug)]
struct Packages {
    apt: &'static [&'static str],
    dnf: &'static [&'static str],
    apk: &'static [&'static str],
    pacman: &'static [&'static str],
    zypper: &'static [&'static str],
}

impl Tool {
    /// Packages that bring the tool.
    pub(crate) fn packages(&self, manager: Manager) -> &'static [&'static str] {
        match manager {
            Manager::Apt { .. } => self.packages.apt,
            Manager::Dnf => self.packages.dnf,
            Manager::Apk => self.packages.apk,
            Manager::Pacman => self.packages.pacman,
            Manager::Zypper => self.packages.zypper,
        }
    }

    /// Whether any of `verbs` cannot do without it.
    pub(crate) fn is_required(&self, verbs: &[Verb]) -> bool {
        self.required_by.iter().any(|verb| verbs.contains(verb))
    }

    /// Whether any of `verbs` uses it at all.
    pub(crate) fn is_used(&self, verbs: &[Verb]) -> bool {
        self.is_required(verbs) || self.used_by.iter().any(|verb| verbs.contains(verb))
    }
}

/// Every tool, in the order in which they are shown.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "cc",
        find: Find::Program(&["cc"]),
        required_by: ALL,
        used_by: &[],
        lost: "without it nothing can be compiled",
        packages: Packages {
            apt: &["gcc", "libc6-dev"],
            dnf: &["gcc", "glibc-devel"],
            apk: &["gcc", "musl-dev", "linux-headers"],
            pacman: &["gcc"],
            zypper: &["gcc", "glibc-devel"],
        },
    },
    Tool {
        name: "git",
        find: Find::Program(&["git"]),
        required_by: ALL,
        used_by: &[],
        lost: "without it sources cannot be verified",
        packages: same(&["git"]),
    },
    Tool {
        name: "cmake",
        find: Find::Program(&["cmake"]),
        required_by: ALL,
        used_by: &[],
        lost: "without it libevent cannot be configured",
        packages: same(&["cmake"]),
    },
    Tool {
        name: "ninja",
        find: Find::Program(&["ninja", "ninja-build"]),
        required_by: ALL,
        used_by: &[],
        lost: "without it libevent cannot be built",
        packages: Packages {
            apt: &["ninja-build"],
            dnf: &["ninja-build"],
            apk: &["samurai"],
            pacman: &["ninja"],
            zypper: &["ninja"],
        },
    },
    Tool {
        name: "libclang",
        find: Find::Libclang,
        required_by: ALL,
        used_by: &[],
        lost: "without it libevent's headers cannot be bound",
        packages: Packages {
            apt: &["libclang-dev"],
            dnf: &["clang-devel"],
            apk: &["clang-dev"],
            pacman: &["clang"],
            zypper: &["clang-devel"],
        },
    },
    Tool {
        name: "python3",
        find: Find::Program(&["python3"]),
        required_by: &[Verb::Test, Verb::Verify],
        used_by: &[],
        lost: "without it libevent's own tests cannot be generated",
        packages: Packages {
            apt: &["python3"],
            dnf: &["python3"],
            apk: &["python3"],
            pacman: &["python"],
            zypper: &["python3"],
        },
    },
    Tool {
        name: "openssl_headers",
        find: Find::File(&[
            "/usr/include/openssl/ssl.h",
            "/usr/local/include/openssl/ssl.h",
            "/usr/include/*/openssl/ssl.h",
        ]),
        required_by: &[],
        used_by: ALL,
        lost: "without it workloads and tests over TLS are left out",
        packages: Packages {
            apt: &["libssl-dev"],
            dnf: &["openssl-devel"],
            apk: &["openssl-dev"],
            pacman: &["openssl"],
            zypper: &["libopenssl-devel"],
        },
    },
    Tool {
        name: "strace",
        find: Find::Program(&["strace"]),
        required_by: &[Verb::Strace],
        used_by: &[Verb::Bench, Verb::Profile],
        lost: "without it system calls are not counted where tracepoints are missing",
        packages: same(&["strace"]),
    },
    Tool {
        name: "valgrind",
        find: Find::Program(&["valgrind"]),
        required_by: &[Verb::Instructions],
        used_by: &[Verb::Bench, Verb::Verify, Verb::Profile],
        lost: "without it instructions are neither counted nor attributed to functions and lines",
        packages: same(&["valgrind"]),
    },
    Tool {
        name: "clang",
        find: Find::Program(&["clang"]),
        required_by: &[Verb::Clang, Verb::ClangLto, Verb::ClangPgo],
        used_by: &[Verb::Verify],
        lost: "without it builds with a second compiler are left out",
        packages: same(&["clang"]),
    },
    Tool {
        name: "gcc",
        find: Find::Program(&["gcc"]),
        required_by: &[Verb::Gcc],
        used_by: &[],
        lost: "without it there are no builds with the profile `gcc`",
        packages: same(&["gcc"]),
    },
    Tool {
        name: "lld",
        find: Find::Program(&["ld.lld"]),
        required_by: &[Verb::ClangLto],
        used_by: &[],
        lost: "without it there are no builds with the profile `clang+lto`",
        packages: same(&["lld"]),
    },
    Tool {
        name: "llvm-profdata",
        find: Find::Program(&["llvm-profdata"]),
        required_by: &[Verb::ClangPgo],
        used_by: &[],
        lost: "without it there are no builds with the profile `clang+pgo`",
        packages: same(&["llvm"]),
    },
    Tool {
        name: "clang_profile_runtime",
        find: Find::File(&[
            "/usr/lib*/clang/*/lib/*/libclang_rt.profile*.a",
            "/usr/lib*/llvm*/lib*/clang/*/lib/*/libclang_rt.profile*.a",
            "/usr/local/lib*/clang/*/lib/*/libclang_rt.profile*.a",
        ]),
        required_by: &[Verb::ClangPgo],
        used_by: &[],
        lost: "without it there are no builds with the profile `clang+pgo`",
        packages: Packages {
            apt: &["libclang-rt-dev"],
            dnf: &["compiler-rt"],
            apk: &["compiler-rt"],
            pacman: &["compiler-rt"],
            zypper: &["clang"],
        },
    },
];

/// A package of one name everywhere.
const fn same(names: &'static [&'static str]) -> Packages {
    Packages { apt: names, dnf: names, apk: names, pacman: names, zypper: names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_user_and_packages_everywhere() {
        for tool in TOOLS {
            assert!(tool.is_used(ALL) || !tool.required_by.is_empty(), "{}", tool.name);
            for manager in Manager::ALL {
                assert!(!tool.packages(*manager).is_empty(), "{} {manager:?}", tool.name);
            }
        }
    }

    #[test]
    fn what_is_needed_depends_on_the_verb() {
        let python = TOOLS.iter().find(|tool| tool.name == "python3").unwrap();
        assert!(!python.is_required(&[Verb::Bench]) && python.is_required(TODAY));
        let valgrind = TOOLS.iter().find(|tool| tool.name == "valgrind").unwrap();
        assert!(!valgrind.is_required(ALL) && valgrind.is_used(&[Verb::Bench]));
    }
}
