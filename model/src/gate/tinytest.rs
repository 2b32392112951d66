//! What regress says of itself: its list of tests, and its report of one test.

/// One line of `regress --list-tests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// `group/test`.
    pub name: String,
    /// It runs unless asked otherwise.
    pub enabled: bool,
}

/// Reads `regress --list-tests`; `None` if that is no list.
pub fn parse_list(text: &str) -> Option<Vec<Listed>> {
    let mut lines = text.lines().skip_while(|line| *line != "Known tests are:");
    lines.next()?;
    let mut listed: Vec<Listed> = Vec::new();
    for line in lines {
        let rest = line.strip_prefix("    ")?;
        let (name, mark) = rest.split_once(' ').map_or((rest, ""), |(name, mark)| (name, mark.trim()));
        if !name.contains('/') || listed.iter().any(|other| other.name == name) {
            return None;
        }
        listed.push(Listed { name: name.to_owned(), enabled: mark.is_empty() });
    }
    (!listed.is_empty()).then_some(listed)
}

/// How one run of one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exit(i32),
    /// By this signal, which nobody of ours sent.
    Signal(i32),
    /// Killed after its time limit.
    Hung,
}

/// What is believed of one run of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It says so in every way that it could.
    Passed,
    /// It says that it cannot run here.
    Skipped,
    /// It failed; why.
    Failed(String),
    /// It did not end in time.
    Hung,
}

impl Outcome {
    /// Neither passed nor skipped.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::Hung)
    }
}

/// Judges one run of `regress NAME`. The exit status alone is not believed, since code of the library can
/// end the process with any; nor is a summary alone, since it can print one. Believed is a whole report of
/// exactly this test: it begins with the test's name, has one result and one summary which agree with each
/// other and with the status, and nothing behind them.
pub fn judge(name: &str, ended: Ended, stdout: &str) -> Outcome {
    let fail = |why: &str| Outcome::Failed(why.to_owned());
    let status = match ended {
        Ended::Hung => return Outcome::Hung,
        Ended::Signal(signal) => return Outcome::Failed(format!("ended by signal {signal}")),
        Ended::Exit(status) => status,
    };
    let Some(last) = last_attempt(name, stdout) else {
        return Outcome::Failed(format!("exit status {status} without exactly one report of this test"));
    };
    let lines: Vec<&str> = stdout.lines().collect();
    let summaries = lines.iter().filter(|line| is_summary(line)).count();
    let [.., result, summary] = last.lines().collect::<Vec<_>>()[..] else {
        return Outcome::Failed(format!("exit status {status}, and the report is not whole"));
    };
    if status != 0 {
        let said = lines.iter().find(|line| line.trim_start().starts_with("FAIL ")).map_or("", |line| line.trim());
        return Outcome::Failed(format!("exit status {status} {said}").trim().to_owned());
    }
    if summaries != 1 || !stdout.ends_with('\n') {
        return fail("exit status 0 without exactly one summary at the end");
    }
    let word = |line: &str, word: &str| line == word || line.ends_with(&format!(" {word}"));
    match summary {
        "1 tests ok.  (0 skipped)" if word(result, "OK") => Outcome::Passed,
        "0 tests ok.  (1 skipped)" if word(result, "SKIPPED") => Outcome::Skipped,
        "0 tests ok.  (1 skipped)" if word(result, "DISABLED") => fail("the test is disabled"),
        other => Outcome::Failed(format!("exit status 0, but the report ends with `{result}` and `{other}`")),
    }
}

/// Attempts that failed before the last one, by tinytest's own word. A test that passes only when it is tried again is
/// not what one is that passes: many tests are tried up to four times, and a new failure would hide behind that.
pub fn retries(stdout: &str) -> u32 {
    let lines = stdout.lines().filter(|line| line.starts_with("  [RETRYING "));
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

/// The report of a test's last attempt. Some tests are tried again by tinytest itself, which says so; every further
/// attempt stands behind such a line, and behind a failure.
fn last_attempt<'a>(name: &str, stdout: &'a str) -> Option<&'a str> {
    let begins = format!("{name}: ");
    let short = name.rsplit('/').next().unwrap_or(name);
    let mut attempts = 0;
    let mut rest = stdout.strip_prefix(&begins)?;
    while let Some((attempt, next)) = rest.split_once(&begins) {
        let (report, retrying) = attempt.trim_end_matches('\n').rsplit_once('\n')?;
        let retried =
            retrying.starts_with(&format!("  [RETRYING {short} (")) && report.contains(&format!("[{short} FAILED]"));
        attempts += 1;
        if !retried || attempts > MOST_RETRIES {
            return None;
        }
        rest = next;
    }
    Some(rest)
}

/// tinytest tries thrice more at most; other versions may have other counts.
const MOST_RETRIES: usize = 10;

fn is_summary(line: &str) -> bool {
    line.contains(" tests ok.  (") || line.contains(" TESTS FAILED. (")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_list_and_refuses_what_is_none() {
        let text =
            "Options are: x\nKnown tests are:\n    main/a\n    dns/b   (Off by default)\n    heap/c  (DISABLED)\n";
        let list = parse_list(text).unwrap();
        let enabled: Vec<(&str, bool)> = list.iter().map(|test| (test.name.as_str(), test.enabled)).collect();
        assert_eq!(enabled, [("main/a", true), ("dns/b", false), ("heap/c", false)]);
        for wrong in ["", "    main/a\n", "Known tests are:\n", "Known tests are:\nmain/a\n"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        assert_eq!(parse_list("Known tests are:\n    a/b\n    a/b\n"), None, "twice");
    }

    #[test]
    fn a_whole_report_is_believed() {
        let ok = "main/a: [forking] OK\n1 tests ok.  (0 skipped)\n";
        assert_eq!(judge("main/a", Ended::Exit(0), ok), Outcome::Passed);
        let talks = "main/a: OK, says the library\nOK\n1 tests ok.  (0 skipped)\n";
        assert_eq!(judge("main/a", Ended::Exit(0), talks), Outcome::Passed);
        let skipped = "main/a: SKIPPED\n0 tests ok.  (1 skipped)\n";
        assert_eq!(judge("main/a", Ended::Exit(0), skipped), Outcome::Skipped);
        let failed = "main/a: \n  FAIL regress.c:3: assert(x)\n  [a FAILED]\n1/1 TESTS FAILED. (0 skipped)\n";
        assert_eq!(
            judge("main/a", Ended::Exit(1), failed),
            Outcome::Failed("exit status 1 FAIL regress.c:3: assert(x)".into())
        );
        assert_eq!(judge("main/a", Ended::Hung, ok), Outcome::Hung);
    }

    #[test]
    fn tinytest_may_try_again() {
        let failed = |left| format!("main/a: [forking] \n  FAIL x.c:1: y\n  [a FAILED]\n\n  [RETRYING a ({left})]\n");
        let ok = "main/a: [forking] OK\n1 tests ok.  (0 skipped)\n";
        let twice = failed(3) + &failed(2) + ok;
        assert_eq!((judge("main/a", Ended::Exit(0), &twice), retries(&twice)), (Outcome::Passed, 2));
        assert_eq!(retries(ok), 0);
        assert!(judge("main/a", Ended::Exit(0), &failed(3)).is_failure());
        assert!(judge("main/a", Ended::Exit(0), &format!("main/a: OK\n{ok}")).is_failure(), "two reports");
        let unfailed = format!("main/a: OK\n\n  [RETRYING a (3)]\n{ok}");
        assert!(judge("main/a", Ended::Exit(0), &unfailed).is_failure());
        assert!(judge("main/a", Ended::Exit(0), &(failed(3).repeat(11) + ok)).is_failure(), "without end");
    }

    #[test]
    fn anything_less_is_a_failure() {
        let whole = "main/a: OK\n1 tests ok.  (0 skipped)\n";
        assert!(judge("main/a", Ended::Signal(11), whole).is_failure());
        assert!(judge("main/a", Ended::Exit(1), whole).is_failure());
        for lie in [
            "",
            "1 tests ok.  (0 skipped)\n",
            "main/b: OK\n1 tests ok.  (0 skipped)\n",
            "main/a: ",
            "main/a: OK\n",
            "main/a: OK\n1 tests ok.  (0 skipped)",
            "main/a: OK\n0 tests ok.  (0 skipped)\n",
            "main/a: OK\n0 tests ok.  (1 skipped)\n",
            "main/a: DISABLED\n0 tests ok.  (1 skipped)\n",
            "main/a: SKIPPED\n1 tests ok.  (0 skipped)\n",
            "main/a: OK\n331 tests ok.  (0 skipped)\n",
            "main/a: OK\n1 tests ok.  (0 skipped)\n1 tests ok.  (0 skipped)\n",
            "main/a: OK\n1 tests ok.  (0 skipped)\nmain/a: \n",
            "331 tests ok.  (0 skipped)\nmain/a: OK\n1 tests ok.  (0 skipped)\n",
            "main/a: \n  [a FAILED]\n1/1 TESTS FAILED. (0 skipped)\n",
            "main/a: OK\n1 tests ok.  (0 skipped)\nsomething behind it\n",
        ] {
            assert!(judge("main/a", Ended::Exit(0), lie).is_failure(), "{lie:?}");
        }
    }
}
