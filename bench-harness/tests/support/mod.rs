//! Starts a worker, bounded in time, and reads its messages.

#![allow(dead_code, reason = "each test program uses a part")]

use model::protocol::Message;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a worker left behind.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Exit code; a worker killed by a signal has none.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as messages of the protocol.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no message: {e}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The error of the last message, which must be a failure.
    pub(crate) fn failure(&self) -> String {
        match self.messages().pop() {
            Some(Message::Failed(failed)) => failed.error,
            other => panic!("expected a failure, got {other:?}; stderr: {}", self.stderr),
        }
    }
}

/// Runs a worker to its end, or kills it after `limit` and returns `None`.
pub(crate) fn run_within(limit: Duration, worker: &Path, arguments: &[&str], input: &str) -> Option<Finished> {
    let mut command = Command::new(worker);
    command.args(arguments.iter().map(OsStr::new));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("worker starts");
    // A worker that refuses its command line never reads; that is no error of the test.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let stdout = reader(child.stdout.take().expect("piped"));
    let stderr = reader(child.stderr.take().expect("piped"));
    let status = wait(&mut child, limit);
    let (stdout, stderr) = (stdout.join().expect("reader"), stderr.join().expect("reader"));
    status.map(|status| Finished { status, stdout, stderr })
}

/// Runs a worker that must end by itself.
pub(crate) fn run(worker: &Path, arguments: &[&str], input: &str) -> Finished {
    run_within(Duration::from_secs(60), worker, arguments, input)
        .unwrap_or_else(|| panic!("{} {arguments:?} did not end", worker.display()))
}

fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("output is UTF-8");
        text
    })
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        if start.elapsed() > limit {
            child.kill().expect("our child");
            child.wait().expect("our child");
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
