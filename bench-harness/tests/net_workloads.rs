//! The workloads over sockets: every batch does the same, declared work, and broken peers end in errors.

use bench_harness::{Workload, registry};
use model::protocol::Message;
use model::workload::{Checksum, WorkloadSpec};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The program under test, which is its own client.
const WORKER: &str = env!("CARGO_BIN_EXE_bench-worker");
/// A broken client must be an error within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Families of this file, by the beginning of their names.
const FAMILIES: &[&str] = &["bufferevent.", "http.", "dns.", "connections.accept_close", "tls."];

fn ours() -> Vec<WorkloadSpec> {
    let all = registry::all().unwrap();
    all.into_iter().filter(|spec| FAMILIES.iter().any(|family| spec.name.starts_with(family))).collect()
}

fn batch(workload: &mut dyn Workload) -> anyhow::Result<(u64, u64)> {
    workload.prepare()?;
    let events = workload.run()?;
    Ok((events, workload.finish()?))
}

#[test]
fn every_batch_does_the_work_that_manifest_and_model_say() {
    let specs = ours();
    assert!(specs.iter().any(|spec| spec.name.starts_with("bufferevent.")), "the manifest lost a family");
    let mut wrong = Vec::new();
    for spec in &specs {
        let mut workload = registry::build(spec).unwrap();
        let model = Checksum(workload.expected_checksum());
        workload.verify().unwrap_or_else(|e| panic!("{}: {e:#}", spec.name));
        if model != spec.checksum {
            wrong.push(format!("{} {} is declared, {model} is the model's", spec.name, spec.checksum));
        }
        for round in 0..3 {
            let (events, checksum) = batch(workload.as_mut()).unwrap_or_else(|e| panic!("{}: {e:#}", spec.name));
            assert_eq!(events, spec.batch_events, "{} batch {round}", spec.name);
            assert_eq!(Checksum(checksum), model, "{} batch {round}", spec.name);
        }
    }
    assert!(wrong.is_empty(), "checksums of the manifest:\n{}", wrong.join("\n"));
}

/// A worker in the middle of a long run of http requests, and the process id of its client.
fn worker_with_client() -> (Child, i32) {
    let mut worker = Command::new(WORKER)
        .args(["run", "--workload", "http.keepalive.small.c16"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut output = BufReader::new(worker.stdout.as_mut().unwrap());
    output.read_line(&mut ready).unwrap();
    assert!(matches!(serde_json::from_str(&ready).unwrap(), Message::Ready(_)), "{ready}");
    assert!(output.buffer().is_empty());
    worker.stdin.as_mut().unwrap().write_all(b"batches 100000\n").unwrap();
    let client = child_of(worker.id()).expect("the worker runs a client");
    thread::sleep(Duration::from_millis(100));
    (worker, client)
}

fn child_of(parent: u32) -> Option<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; state and parent follow it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    })
}

fn fails_soon_after(signal: i32) {
    let (worker, client) = worker_with_client();
    let start = Instant::now();
    // SAFETY: the client is a living child of the worker that this test started.
    assert_eq!(unsafe { libc::kill(client, signal) }, 0);
    let output = worker.wait_with_output().unwrap();
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    let last: Message = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let Message::Failed(failed) = last else { panic!("{text}") };
    assert_eq!(failed.workload.as_deref(), Some("http.keepalive.small.c16"));
    assert!(failed.error.contains("client"), "{}", failed.error);
    assert!(!fs::exists(format!("/proc/{client}")).unwrap(), "the worker leaves its client behind");
}

#[test]
fn a_client_that_dies_is_an_error() {
    fails_soon_after(libc::SIGKILL);
}

#[test]
fn a_client_that_stalls_is_an_error() {
    fails_soon_after(libc::SIGSTOP);
}

#[test]
fn a_client_ends_with_its_worker() {
    let (mut worker, client) = worker_with_client();
    worker.kill().unwrap();
    worker.wait().unwrap();
    let start = Instant::now();
    // A process that has ended but was not waited for by its new parent counts as ended.
    let running = || fs::read_to_string(format!("/proc/{client}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while running() {
        assert!(start.elapsed() < PATIENCE, "client {client} still runs");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A server that answers every request on its first connection with `response`, then goes.
fn server(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        while stream.read(&mut request).is_ok_and(|len| len > 0) {
            stream.write_all(response.as_bytes()).unwrap();
            if !response.ends_with("\r\n\r\nfour") {
                break;
            }
        }
    });
    address
}

fn client(address: SocketAddr) -> Output {
    let address = address.to_string();
    let arguments = ["client", "--connect", &address, "--path", "/ind", "--requests", "20", "--json"];
    Command::new(WORKER).args(arguments).output().unwrap()
}

#[test]
fn the_client_alone_loads_any_server_and_prints_one_line() {
    let output = client(server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour"));
    assert!(output.status.success(), "{output:?}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((figures["requests"].as_u64(), figures["bytes"].as_u64()), (Some(20), Some(80)));
    let (p50, p99) = (figures["latency_ns_p50"].as_u64().unwrap(), figures["latency_ns_p99"].as_u64().unwrap());
    assert!(0 < p50 && p50 <= p99 && p99 <= figures["wall_time_ns"].as_u64().unwrap(), "{figures}");
}

#[test]
fn the_client_refuses_what_is_no_complete_response() {
    for (response, said) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfou", "the server closed the connection"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour!", "1 bytes after the end"),
        ("220 mail.example ESMTP\r\n\r\n", "no status line"),
        ("", "the server closed the connection"),
    ] {
        let output = client(server(response));
        assert_eq!(output.status.code(), Some(2), "{response}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{response}: {error}");
        assert!(output.stdout.is_empty());
    }
}
