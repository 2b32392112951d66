//! Package managers: which one is here, and how it is told to install.

use crate::host::Facts;
use std::path::Path;

/// A package manager that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// Debian and what descends from it.
    Apt {
        /// Some packages have other names there.
        ubuntu: bool,
    },
    /// Fedora and Red Hat.
    Dnf,
    /// Alpine.
    Apk,
    /// Arch.
    Pacman,
    /// SUSE.
    Zypper,
}

impl Manager {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: &[Manager] = &[
        Manager::Apt { ubuntu: false },
        Manager::Apt { ubuntu: true },
        Manager::Dnf,
        Manager::Apk,
        Manager::Pacman,
        Manager::Zypper,
    ];

    /// The one whose program `has` finds in PATH.
    pub(crate) fn detect(has: impl Fn(&str) -> bool, facts: &Facts) -> Option<Manager> {
        let release = facts.read("/etc/os-release").unwrap_or_default();
        let ubuntu = release.lines().any(|line| {
            line.split_once('=').is_some_and(|(key, value)| matches!(key, "ID" | "ID_LIKE") && value.contains("ubuntu"))
        });
        let known = [Manager::Apt { ubuntu }, Manager::Dnf, Manager::Apk, Manager::Pacman, Manager::Zypper];
        known.into_iter().find(|manager| has(manager.program()))
    }

    /// The program that installs.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Manager::Apt { .. } => "apt-get",
            Manager::Dnf => "dnf",
            Manager::Apk => "apk",
            Manager::Pacman => "pacman",
            Manager::Zypper => "zypper",
        }
    }

    /// Arguments that install `packages` without asking.
    pub(crate) fn install<'a>(self, packages: &[&'a str]) -> Vec<&'a str> {
        let options: &[&str] = match self {
            Manager::Apt { .. } => &["install", "-y", "--no-install-recommends"],
            Manager::Dnf => &["install", "-y"],
            Manager::Apk => &["add"],
            Manager::Pacman => &["-S", "--needed", "--noconfirm"],
            Manager::Zypper => &["--non-interactive", "install"],
        };
        options.iter().copied().chain(packages.iter().copied()).collect()
    }

    /// Arguments that fetch the lists of packages.
    pub(crate) fn refresh(self) -> &'static [&'static str] {
        match self {
            Manager::Apt { .. } => &["update"],
            Manager::Dnf => &["makecache"],
            Manager::Apk => &["update"],
            Manager::Pacman => &["-Sy"],
            Manager::Zypper => &["--non-interactive", "refresh"],
        }
    }

    /// Whether the lists have to be fetched before anything can be installed. Only apt and pacman do
    /// not do it by themselves.
    pub(crate) fn has_no_lists(self, facts: &Facts) -> bool {
        let folder = match self {
            Manager::Apt { .. } => "/var/lib/apt/lists",
            Manager::Pacman => "/var/lib/pacman/sync",
            Manager::Apk => "/var/cache/apk",
            Manager::Dnf | Manager::Zypper => return false,
        };
        let is_list = |name: &str| match self {
            Manager::Apt { .. } => name.contains("_Packages"),
            Manager::Pacman => Path::new(name).extension().is_some_and(|end| end == "db"),
            _ => name.starts_with("APKINDEX"),
        };
        let Ok(entries) = std::fs::read_dir(facts.path(folder)) else { return true };
        !entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_list))
    }

    /// What a user types; the lists are fetched first where that does not happen by itself.
    pub(crate) fn typed(self, packages: &[&str], prefix: &str) -> String {
        let install = format!("{prefix}{} {}", self.program(), self.install(packages).join(" "));
        match self {
            Manager::Apt { .. } => format!("{prefix}apt-get update && {install}"),
            _ => install,
        }
    }

    /// Whether the output says that another package manager is at work.
    pub(crate) fn is_locked(output: &str) -> bool {
        let signs = [
            "Could not get lock",
            "Unable to acquire the dpkg frontend lock",
            "Unable to lock",
            "unable to lock database",
            "Waiting for process with pid",
            "System management is locked",
        ];
        signs.iter().any(|sign| output.contains(sign))
    }
}

/// The name of the distribution, for messages.
pub(crate) fn distribution(facts: &Facts) -> String {
    let release = facts.read("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let kernel = || facts.read("/proc/version").and_then(|text| text.split(' ').next().map(str::to_owned));
    name.map(|name| name.trim_matches('"').to_owned())
        .or_else(kernel)
        .unwrap_or_else(|| std::env::consts::OS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_the_one_in_path() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        assert_eq!(Manager::detect(|name| name == "zypper", &facts), Some(Manager::Zypper));
        assert_eq!(Manager::detect(|_| false, &facts), None);
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/os-release"), "NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n")
            .unwrap();
        assert_eq!(Manager::detect(|name| name == "apt-get", &facts), Some(Manager::Apt { ubuntu: true }));
    }

    #[test]
    fn commands_never_ask() {
        for manager in Manager::ALL {
            let words = manager.install(&["cmake"]);
            assert_eq!(words.last(), Some(&"cmake"));
            let quiet = ["-y", "--noconfirm", "--non-interactive", "add"];
            assert!(words.iter().any(|word| quiet.contains(word)), "{manager:?}: {words:?}");
        }
        assert_eq!(
            Manager::Apt { ubuntu: false }.typed(&["cmake", "git"], "sudo "),
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake git"
        );
    }

    #[test]
    fn lists_are_missing_until_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        let apt = Manager::Apt { ubuntu: false };
        assert!(apt.has_no_lists(&facts));
        let lists = folder.path().join("var/lib/apt/lists");
        std::fs::create_dir_all(lists.join("partial")).unwrap();
        assert!(apt.has_no_lists(&facts), "docker images ship the folder empty");
        std::fs::write(lists.join("deb_main_binary-amd64_Packages"), "").unwrap();
        assert!(!apt.has_no_lists(&facts));
    }

    #[test]
    fn a_held_lock_is_told_from_other_errors() {
        assert!(Manager::is_locked("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)"));
        assert!(!Manager::is_locked("E: Unable to locate package cmake"));
    }
}
