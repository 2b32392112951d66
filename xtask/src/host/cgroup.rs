//! What the control group of this process allows: CPUs, and how much of them.

use super::{Facts, parse};
use std::path::{Path, PathBuf};

/// A limit on CPU time that is smaller than the machine: the process is stopped when it is used up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quota {
    /// CPUs' worth of time, such as 1.5.
    pub(crate) cpus: f64,
    /// The file that sets it.
    pub(crate) file: PathBuf,
}

/// The smallest CPU quota of this process's group and all groups above it, in cgroup v1 and v2.
pub(crate) fn quota(facts: &Facts) -> Option<Quota> {
    let mut smallest: Option<Quota> = None;
    for group in folders(facts, "cpu") {
        let found = quota_v2(facts, &group).or_else(|| quota_v1(facts, &group));
        if let Some(found) = found.filter(|new| smallest.as_ref().is_none_or(|old| new.cpus < old.cpus)) {
            smallest = Some(found);
        }
    }
    smallest
}

/// Periods in which this process's group was stopped because its quota was used up.
pub(crate) fn throttled_periods(facts: &Facts) -> Option<u64> {
    let text = folders(facts, "cpu").iter().find_map(|group| facts.read(group.join("cpu.stat")))?;
    text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

/// CPUs that the group's cpuset allows; `None` where there is no cpuset.
pub(crate) fn cpuset(facts: &Facts) -> Option<Vec<usize>> {
    let names = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
    let in_group = |group: &PathBuf| names.iter().find_map(|name| facts.cpus(group.join(name)));
    folders(facts, "cpuset").iter().filter_map(in_group).find(|cpus| !cpus.is_empty())
}

fn quota_v2(facts: &Facts, group: &Path) -> Option<Quota> {
    let file = group.join("cpu.max");
    let text = facts.read(&file)?;
    let (quota, period) = text.split_once(' ')?;
    ratio(quota, period).map(|cpus| Quota { cpus, file })
}

fn quota_v1(facts: &Facts, group: &Path) -> Option<Quota> {
    let file = group.join("cpu.cfs_quota_us");
    let (quota, period) = (facts.read(&file)?, facts.read(group.join("cpu.cfs_period_us"))?);
    ratio(&quota, &period).map(|cpus| Quota { cpus, file })
}

/// `max` and -1 mean that there is no limit.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// The folders of this process's group for a controller, from the group itself up to the mount.
fn folders(facts: &Facts, controller: &str) -> Vec<PathBuf> {
    let (Some(groups), Some(mounts)) = (facts.read("/proc/self/cgroup"), facts.read("/proc/self/mountinfo")) else {
        return Vec::new();
    };
    let mounts = parse::mounts(&mounts);
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (v2, v1) = (controllers.is_empty(), controllers.split(',').any(|name| name == controller));
        let here = |mount: &&parse::Mount| match mount.kind.as_str() {
            "cgroup2" => v2,
            "cgroup" => v1 && mount.options.split(',').any(|name| name == controller),
            _ => false,
        };
        let Some(mount) = mounts.iter().find(here) else { continue };
        // In a container the mount may show only the container's own group as its top.
        let below = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below);
        all.extend(below.ancestors().map(|part| Path::new(&mount.point).join(part)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(files: &[(&str, &str)]) -> (tempfile::TempDir, Facts) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let facts = Facts::below(folder.path());
        (folder, facts)
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts_in_v2() {
        let (_folder, facts) = record(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\n"),
            ("sys/fs/cgroup/a/b/cpuset.cpus.effective", "2-3\n"),
        ]);
        let quota = quota(&facts).unwrap();
        assert!((quota.cpus - 1.5).abs() < 1e-9);
        assert_eq!(quota.file, Path::new("/sys/fs/cgroup/a/cpu.max"));
        assert_eq!(throttled_periods(&facts), Some(3));
        assert_eq!(cpuset(&facts), Some(vec![2, 3]));
    }

    #[test]
    fn a_container_of_v1_sees_its_own_group_as_the_top() {
        let (_folder, facts) = record(&[
            ("proc/self/cgroup", "3:cpuset:/docker/x\n1:cpu,cpuacct:/docker/x\n0::/\n"),
            (
                "proc/self/mountinfo",
                "32 31 0:2 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                 33 31 0:3 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuset/docker/x/cpuset.cpus", "\n"),
            ("sys/fs/cgroup/cpuset/cpuset.cpus", "0-1\n"),
        ]);
        assert!((quota(&facts).unwrap().cpus - 0.5).abs() < 1e-9);
        assert_eq!(cpuset(&facts), Some(vec![0, 1]), "an empty list means that of the group above");
    }

    #[test]
    fn no_limit_and_no_files_are_no_quota() {
        let (_folder, facts) = record(&[
            ("proc/self/cgroup", "1:cpu:/\n"),
            ("proc/self/mountinfo", "32 31 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(quota(&facts), None);
        let (_folder, nothing) = record(&[]);
        assert_eq!((quota(&nothing), cpuset(&nothing), throttled_periods(&nothing)), (None, None, None));
    }
}
