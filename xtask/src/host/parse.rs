//! Texts of `/proc` and `/sys`, parsed. Pure functions; a text that is not understood gives `None`.

use std::collections::BTreeMap;

/// `0-3,8,10-11` as numbers, ascending. The empty list is empty, not an error.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // A bound on what a broken text can make us allocate; Linux has at most 8192 CPUs.
        if last < first || last > 65_536 {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The opposite of [`cpu_list`], for messages.
pub(crate) fn show_cpus(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let show = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

/// `key : value` lines of the first CPU in `/proc/cpuinfo`.
pub(crate) fn cpuinfo(text: &str) -> BTreeMap<String, String> {
    let first = text.trim_start().split("\n\n").next().unwrap_or("");
    first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// A line `key:   value kB` (as in `/proc/meminfo` and `/proc/PID/status`) in bytes.
pub(crate) fn kib_line(text: &str, key: &str) -> Option<u64> {
    let value = line_value(text, key)?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The value of a line `key:   value`.
pub(crate) fn line_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// The chosen word of a list such as `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Load averages of 1, 5 and 15 minutes.
pub(crate) fn load_averages(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map(|word| word.parse::<f64>().ok());
    Some([words.next()??, words.next()??, words.next()??])
}

/// Ticks of one line of `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// Running anything: user, nice, system, irq, softirq. Guests are part of user.
    pub(crate) busy: u64,
    /// Idle, waiting for input or output included.
    pub(crate) idle: u64,
    /// Withheld by the hypervisor.
    pub(crate) steal: u64,
}

/// `/proc/stat` by CPU. Fields that an old kernel does not have count as zero ticks.
pub(crate) fn stat(text: &str) -> Option<BTreeMap<usize, CpuTicks>> {
    let mut cpus = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next().and_then(|word| word.strip_prefix("cpu")) else { continue };
        let Ok(cpu) = name.parse() else { continue };
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        if ticks.len() < 4 {
            return None;
        }
        let busy = at(0) + at(1) + at(2) + at(5) + at(6);
        cpus.insert(cpu, CpuTicks { busy, idle: at(3) + at(4), steal: at(7) });
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// CPU ticks of a process and of the children it has waited for, from `/proc/PID/stat`.
pub(crate) fn process_ticks(text: &str) -> Option<u64> {
    // The second field is the name in brackets, which may itself hold spaces and brackets.
    let after_name = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // utime, stime, cutime and cstime are fields 14 to 17 of proc(5); the first one here is field 3.
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The part of the mounted file system that is visible.
    pub(crate) root: String,
    /// Where it is visible.
    pub(crate) point: String,
    /// Type, such as `cgroup2`.
    pub(crate) kind: String,
    /// Options of the file system, such as the controllers of a cgroup hierarchy.
    pub(crate) options: String,
}

/// `/proc/self/mountinfo`; lines that are not understood are left out.
pub(crate) fn mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        // Spaces in paths are written as \040.
        let path = |word: &str| word.replace("\\040", " ");
        Some(Mount {
            root: path(left.get(3)?),
            point: path(left.get(4)?),
            kind: (*right.first()?).to_owned(),
            options: (*right.get(2)?).to_owned(),
        })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_there_and_back() {
        assert_eq!(cpu_list("0-3,8,10-11").unwrap(), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(cpu_list("\n").unwrap(), [0_usize; 0]);
        assert_eq!(show_cpus(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        for broken in ["a", "3-1", "1-", "0-99999999999"] {
            assert_eq!(cpu_list(broken), None, "{broken}");
        }
    }

    #[test]
    fn cpuinfo_is_that_of_the_first_cpu() {
        let text =
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nmodel name\t: other\n";
        let info = cpuinfo(text);
        assert_eq!(info["model name"], "AMD EPYC");
        assert_eq!(info["flags"], "fpu avx2");
        assert!(cpuinfo("").is_empty());
    }

    #[test]
    fn lines_with_units() {
        let text = "MemTotal:       24684096 kB\nMemFree:        23441964 kB\nHugePages_Total:       0\n";
        assert_eq!(kib_line(text, "MemTotal"), Some(24_684_096 * 1024));
        assert_eq!(kib_line(text, "HugePages_Total"), None, "not in kB");
        assert_eq!(kib_line(text, "Mem"), None, "only whole keys");
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(load_averages("0.85 0.52 0.25 2/102 17285"), Some([0.85, 0.52, 0.25]));
    }

    #[test]
    fn stat_by_cpu_with_few_and_many_fields() {
        let text = "cpu  10686 0 4272 217087 487 0 41 11 0 0\ncpu0 4829 1 1736 109586 59 2 8 3 7 0\n\
                    cpu1 5856 0 2536 107501 427 0 33 8 0 0\nintr 204754 0 0\nctxt 1\n";
        let stat = stat(text).unwrap();
        assert_eq!(stat.len(), 2, "the sum over CPUs is not a CPU");
        assert_eq!(stat[&0], CpuTicks { busy: 4829 + 1 + 1736 + 2 + 8, idle: 109_586 + 59, steal: 3 });
        assert_eq!(super::stat("cpu0 1 2 3 4\n").unwrap()[&0], CpuTicks { busy: 6, idle: 4, steal: 0 });
        assert_eq!(super::stat("intr 1\n"), None);
    }

    #[test]
    fn process_names_do_not_confuse_the_fields() {
        let text = "17288 (a b) c) R 17281 17281 6206 0 -1 4194304 97 0 0 0 11 22 33 44 20 0 1 0 131298 3133440";
        assert_eq!(process_ticks(text), Some(110));
        assert_eq!(process_ticks("1 (x) R 1"), None);
    }

    #[test]
    fn mounts_with_optional_fields() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw shared:9 master:2 - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 /docker/x /sys/fs/cgroup/my\\040cpu rw - cgroup cgroup rw,cpu,cpuacct\nbroken\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[1].root, "/docker/x");
        assert_eq!(mounts[1].point, "/sys/fs/cgroup/my cpu");
        assert_eq!((mounts[1].kind.as_str(), mounts[1].options.as_str()), ("cgroup", "rw,cpu,cpuacct"));
    }
}
