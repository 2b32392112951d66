//! How a worker drives its client: one socket, one line a message.
//!
//! ```text
//! worker                     client
//!            <---            {"ready":true}         connected
//! go 512     --->
//!            <---            {"requests":512,...}   or {"error":"..."}, after which it ends
//! end of stream  --->                               it ends
//! ```
//!
//! The socket is the client's standard input, read and written; so standard output stays free, and
//! the end of the worker, however it comes, is the end of the client.

use super::STALL_LIMIT;
use super::load::{Load, Outcome, Target};
use crate::cpus;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Program that has the `client` command, for processes that have not: tests and `cargo bench`.
const WORKER_EXE: &str = "BENCH_WORKER_EXE";

/// A client that does not answer for so long is an error. Longer than its own limit, so that it can
/// say what it waits for.
const ANSWER_LIMIT: Duration = STALL_LIMIT.saturating_add(Duration::from_secs(2));

static IS_WORKER: AtomicBool = AtomicBool::new(false);

/// Says that this process's program has the `client` command.
pub(crate) fn this_program_is_the_worker() {
    IS_WORKER.store(true, Ordering::Relaxed);
}

/// What a client answers to `go`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Responses received in full.
    pub(crate) requests: u64,
    /// See [`Outcome::checksum`].
    pub(crate) checksum: u64,
    /// (latency in ns, number of requests).
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// A client that runs beside this process, or, without a worker program, as a thread of it.
///
/// As a thread, its CPU time counts as the server's: good for tests and exploration, not for figures.
pub(crate) struct Peer {
    stream: BufReader<UnixStream>,
    /// `None`: a thread, which ends with the stream.
    process: Option<Child>,
}

impl Peer {
    /// Starts a client and waits until it is connected. The server must listen already.
    pub(crate) fn start(target: &Target) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("socketpair")?;
        ours.set_read_timeout(Some(ANSWER_LIMIT))?;
        let process = match worker_program()? {
            Some(program) => Some(spawn(&program, target, theirs)?),
            None => {
                let target = target.clone();
                thread::Builder::new().name("http-client".to_owned()).spawn(move || {
                    // Errors were sent to the worker, which reports them.
                    let _ = cpus::leave_own().and_then(|()| serve(&theirs, &target));
                })?;
                None
            }
        };
        let mut peer = Peer { stream: BufReader::new(ours), process };
        match peer.line()?.get("ready") {
            Some(_) => Ok(peer),
            None => bail!("the client did not say that it is ready"),
        }
    }

    /// Tells the client to do `requests` requests.
    pub(crate) fn go(&mut self, requests: u64) -> Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("go {requests}\n").as_bytes()).context("the client has gone")
    }

    /// Waits for what came of them.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        parse_answer(&self.line()?).context("the client's answer makes no sense")
    }

    /// Becomes readable when the client has something to say or has gone.
    pub(crate) fn fd(&self) -> RawFd {
        self.stream.get_ref().as_raw_fd()
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        let read = read.with_context(|| format!("the client said nothing for {} s", ANSWER_LIMIT.as_secs()))?;
        if read == 0 {
            bail!("the client has gone{}", self.how_it_ended());
        }
        let value: Value = serde_json::from_str(&line).with_context(|| format!("the client said `{line}`"))?;
        match value.get("error").and_then(Value::as_str) {
            Some(error) => Err(anyhow!("the client failed: {error}")),
            None => Ok(value),
        }
    }

    fn how_it_ended(&mut self) -> String {
        let status = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
        status.map(|status| format!(" ({status})")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It holds nothing that it would have to give back. Both calls fail only if it has gone.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn worker_program() -> Result<Option<PathBuf>> {
    match std::env::var_os(WORKER_EXE).filter(|program| !program.is_empty()) {
        Some(program) => Ok(Some(program.into())),
        None if IS_WORKER.load(Ordering::Relaxed) => {
            Ok(Some(std::env::current_exe().context("the worker's own program is unknown")?))
        }
        None => Ok(None),
    }
}

fn spawn(program: &PathBuf, target: &Target, stream: UnixStream) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg("client").arg("--control");
    command.args(["--connect", &target.address.to_string(), "--path", &target.path]);
    command.args(["--variants", &target.variants.to_string(), "--connections", &target.connections.to_string()]);
    if target.close {
        command.arg("--close");
    }
    command.stdin(OwnedFd::from(stream)).stdout(Stdio::null());
    command.spawn().with_context(|| format!("starting the client {}", program.display()))
}

/// The client's side, over standard input.
pub(super) fn serve_standard_input(target: &Target) -> Result<()> {
    let stream = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    serve(&UnixStream::from(stream), target)
}

/// Does what comes over `stream` until it ends; an error is also said to the worker.
fn serve(stream: &UnixStream, target: &Target) -> Result<()> {
    let result = serve_commands(stream, target);
    if let Err(error) = &result {
        // The worker may be what has gone.
        let _ = say(stream, &json!({ "error": format!("{error:#}") }));
    }
    result
}

fn serve_commands(stream: &UnixStream, target: &Target) -> Result<()> {
    let mut load = Load::connect(target)?;
    say(stream, &json!({ "ready": true }))?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("reading commands")?;
        let requests = line.strip_prefix("go ").and_then(|number| number.parse().ok());
        let requests = requests.with_context(|| format!("`{line}` is no command"))?;
        say(stream, &to_json(&load.run(requests)?))?;
    }
    Ok(())
}

fn say(mut stream: &UnixStream, value: &Value) -> Result<()> {
    stream.write_all(format!("{value}\n").as_bytes()).context("the worker has gone")
}

fn to_json(outcome: &Outcome) -> Value {
    let latencies: Vec<(u64, u64)> =
        outcome.latencies.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    json!({ "requests": outcome.requests, "checksum": outcome.checksum, "latencies": latencies })
}

fn parse_answer(value: &Value) -> Option<Answer> {
    let pair = |pair: &Value| Some((pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?));
    Some(Answer {
        requests: value.get("requests")?.as_u64()?,
        checksum: value.get("checksum")?.as_u64()?,
        latencies: value.get("latencies")?.as_array()?.iter().map(pair).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_wire() {
        let mut latencies = crate::latency::Recorder::default();
        [1000, 1000, 123_456_789].iter().for_each(|ns| latencies.record(*ns));
        let latencies = latencies.take();
        let outcome = Outcome { requests: 3, body_bytes: 39, checksum: u64::MAX - 1, wall_time_ns: 9, latencies };
        let line = to_json(&outcome).to_string();
        let answer = parse_answer(&serde_json::from_str(&line).unwrap()).unwrap();
        assert_eq!((answer.requests, answer.checksum), (3, u64::MAX - 1));
        let mut again = crate::latency::Recorder::default();
        for (ns, count) in answer.latencies {
            (0..count).for_each(|_| again.record(ns));
        }
        assert_eq!(again.take(), outcome.latencies);
    }

    #[test]
    fn a_client_without_a_server_says_so() {
        // Port 1 is reserved and nobody listens there.
        let address = "127.0.0.1:1".parse().unwrap();
        let target = Target { address, path: "/".to_owned(), variants: 0, connections: 1, close: false };
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(serve(&theirs, &target).is_err());
        let mut line = String::new();
        BufReader::new(ours).read_line(&mut line).unwrap();
        assert!(line.contains("connecting to 127.0.0.1:1"), "{line}");
    }
}
