//! The HTTP client that loads a server under test, from a process of its own.
//!
//! ```text
//! worker client --control --connect 127.0.0.1:PORT --path P [...]     driven by a worker (control.rs)
//! worker client --connect 127.0.0.1:PORT --path P --requests N --json   by itself, against any server
//! ```
//!
//! It is ours because the figures depend on it: it does the same requests every time, checks every
//! response, takes latencies, and stays off the CPU of the server where the host has another one.

mod connection;
mod control;
mod load;

pub(crate) use control::{Peer, this_program_is_the_worker};
pub(crate) use load::{Target, checksum_of_response};

use crate::cpus;
use anyhow::{Context, Result, bail, ensure};
use load::{Load, Outcome};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// A server that sends nothing for so long is an error.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How long a server may take to start listening; only by itself: a worker's server listens already.
const START_LIMIT: Duration = Duration::from_secs(5);

const USAGE: &str = "\
usage: worker client --connect ADDRESS:PORT --path PATH --requests N [--connections C] [--close] [--json]
Asks for PATH with HTTP/1.1 GET, C connections (1) with one request each on its way, N requests in all.
  --close   a new connection for every request
  --json    prints {requests, bytes, wall_time_ns, latency_ns_p50, latency_ns_p99} as one line
example: worker client --connect 127.0.0.1:8080 --path /ind --requests 1000 --connections 4 --json";

/// The command line of the client.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    connect: Option<SocketAddrV4>,
    path: String,
    variants: u64,
    requests: u64,
    connections: usize,
    close: bool,
    json: bool,
    control: bool,
}

/// Runs `worker client ARGUMENTS`.
///
/// # Errors
/// Wrong arguments; a server that refuses, stalls for five seconds or answers something other than
/// complete responses with a known length.
pub fn client_main(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = parse(args).with_context(|| USAGE)?;
    let address = options.connect.context("--connect is missing")?;
    let target = Target {
        address,
        path: options.path.clone(),
        variants: options.variants,
        connections: options.connections,
        close: options.close,
    };
    cpus::leave_own()?;
    if options.control {
        return control::serve_standard_input(&target);
    }
    let mut load = wait_for_server(&target)?;
    report(&load.run(options.requests)?, options.json);
    Ok(())
}

fn wait_for_server(target: &Target) -> Result<Load> {
    let start = Instant::now();
    loop {
        match Load::connect(target) {
            Err(error) if start.elapsed() < START_LIMIT && connection::is_refused(&error) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn report(outcome: &Outcome, json: bool) {
    let (p50, p99) = (outcome.latencies.value_at_quantile(0.5), outcome.latencies.value_at_quantile(0.99));
    let (requests, bytes, wall) = (outcome.requests, outcome.body_bytes, outcome.wall_time_ns);
    if json {
        let line = serde_json::json!({
            "requests": requests, "bytes": bytes, "wall_time_ns": wall, "latency_ns_p50": p50, "latency_ns_p99": p99,
        });
        println!("{line}");
    } else {
        println!("{requests} requests, {bytes} bytes of bodies in {wall} ns; latency p50 {p50} ns, p99 {p99} ns");
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { connections: 1, ..Options::default() };
    let mut args = args.iter().map(String::as_str);
    while let Some(name) = args.next() {
        let mut value = || args.next().with_context(|| format!("`{name}` needs a value"));
        match name {
            "--connect" => options.connect = Some(value()?.parse().context("--connect wants IPV4:PORT")?),
            "--path" => options.path = value()?.to_owned(),
            "--variants" => options.variants = value()?.parse().context("--variants wants a number")?,
            "--requests" => options.requests = value()?.parse().context("--requests wants a number")?,
            "--connections" => options.connections = value()?.parse().context("--connections wants a number")?,
            "--close" => options.close = true,
            "--json" => options.json = true,
            "--control" => options.control = true,
            other => bail!("`{other}` is no option of the client"),
        }
    }
    ensure!(options.connect.is_some(), "--connect is missing");
    ensure!(options.path.starts_with('/'), "--path must begin with `/`");
    ensure!(!options.path.contains([' ', '\r', '\n']), "--path holds a blank or a line break");
    ensure!(options.connections > 0, "--connections must be at least 1");
    ensure!(options.control != (options.requests > 0), "--requests must be at least 1");
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_mistakes_are_named() {
        let options = parsed("--connect 127.0.0.1:80 --path /ind --requests 7 --connections 2 --json").unwrap();
        assert_eq!(options.connect, Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!((options.requests, options.connections, options.json, options.close), (7, 2, true, false));
        for (line, said) in [
            ("--connect 127.0.0.1 --path / --requests 1", "IPV4:PORT"),
            ("--path / --requests 1", "--connect is missing"),
            ("--connect 127.0.0.1:80 --path ind --requests 1", "must begin with"),
            ("--connect 127.0.0.1:80 --path /", "--requests must be"),
            ("--connect 127.0.0.1:80 --path / --requests 1 --connections 0", "--connections must be"),
            ("--connect 127.0.0.1:80 --path / --requests 1 --fast", "`--fast` is no option"),
            ("--connect", "needs a value"),
        ] {
            let error = format!("{:#}", parsed(line).unwrap_err());
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
