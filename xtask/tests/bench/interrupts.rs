//! Runs that end early, and runs that meet.

use crate::desk::Desk;
use crate::support::{QUICK, TINY, World, eventually};
use serde_json::Value;
use std::fs;

/// A run that does not end by itself within a test.
const ENDLESS: &[&str] = &["bench", "--launches", "1000", "--workload", TINY];

#[test]
fn a_second_run_is_told_at_once_who_holds_the_lock() {
    let world = World::prepared();
    let mut first = world.start(&["bench", "--launches", "20", "--workload", TINY]);
    world.await_journal(&mut first, 1);
    let holder = format!("process {}", first.pid());
    world.run(QUICK).expect_refusal(6, &["another run", "bench", &holder, "LIBEVENT_PERF_WORK"]);
    assert!(first.goes_on(), "the answer came at once");
    first.wait().expect_code(0);
    let [folder] = world.records().try_into().expect("the second run left nothing");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!((&record["partial"], &record["workloads"][0]["launches"]), (&false.into(), &20.into()));
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let world = World::prepared();
    let mut run = world.start(ENDLESS);
    // Two of each side.
    world.await_journal(&mut run, 4);
    run.signal(libc::SIGINT);
    let outcome = run.wait().expect_code(130);
    assert!(outcome.stdout.contains("PARTIAL") && outcome.stdout.contains(TINY), "{outcome:?}");
    let [folder] = world.records().try_into().expect("one run, one folder");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!(record["partial"], true);
    let result = &record["workloads"][0];
    let launches = result["launches"].as_u64().unwrap();
    assert!((2..1000).contains(&launches), "{launches}");
    assert_eq!(result["launch_records"].as_array().unwrap().len() as u64, launches);
    assert!(result["time_per_event_ns_median"].as_f64().is_some_and(|ns| ns > 0.0), "{result}");
    assert_eq!(result["error"], Value::Null, "an interrupt is no error of the workload");
    world.assert_no_worker_is_left();
    assert!(world.scratch_folders("links-").is_empty(), "linked workers go with the run");
}

#[test]
fn a_killed_run_keeps_its_launches_and_the_next_one_cleans_up() {
    let world = World::prepared();
    let mut run = world.start(&[ENDLESS, &["--workload", "http.keepalive.small.c1"]].concat());
    let journal = world.await_journal(&mut run, 3);
    assert!(eventually(|| !world.workers().is_empty()), "workers can be seen while they run");
    run.signal(libc::SIGKILL);
    assert_eq!(run.wait().code, None, "ended by the signal");
    world.assert_no_worker_is_left();
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.ends_with('\n'), "complete lines only");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3 && lines.iter().all(|line| line["launch"]["cpu_time_ns"][0].is_u64()), "{lines:?}");
    let left = world.scratch_folders("links-");
    assert!(!left.is_empty(), "a killed program cannot clean up");

    world.run(QUICK).expect_code(0);
    assert!(world.scratch_folders("links-").is_empty(), "of {left:?}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), text, "the killed run's launches stay");
}

/// Whether a worker has started another process, which runs.
fn has_grandchildren(world: &World) -> bool {
    let running = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.starts_with(&world.work));
    let names = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned)
    };
    names.into_iter().filter(|pid| running(pid)).any(|pid| parent(&pid).is_some_and(|parent| running(&parent)))
}

#[test]
fn grandchildren_do_not_outlive_a_run_that_ends_at_once() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let head = "struct evbuffer *\nevbuffer_new(void)\n{\n\tstruct evbuffer *buffer;\n";
    let forks = "\textern int fork(void);\n\textern unsigned sleep(unsigned);\n\tstatic int forked_;\n\
                 \tif (!forked_++ && fork() == 0)\n\t\tfor (;;)\n\t\t\tsleep(1000);\n";
    let patch = desk.replacement("buffer.c", head, &format!("{head}{forks}"));
    let args = [ENDLESS, &["--timeout", "600", "--variant", patch.to_str().unwrap()]].concat();
    // The second of two signals comes before the first one is heeded; the third kind is never heard of.
    for (signals, code) in [(&[libc::SIGINT, libc::SIGTERM][..], Some(130)), (&[libc::SIGKILL], None)] {
        let run = world.start(&args);
        // It is built first.
        let seen = (0..10).any(|_| eventually(|| has_grandchildren(&world)));
        assert!(seen, "no worker with a child: {:?}", run.wait());
        signals.iter().for_each(|signal| run.signal(*signal));
        assert_eq!(run.wait().code, code, "{signals:?}");
        world.assert_no_worker_is_left();
    }
}

/// A long run: `cargo xtask test --soak`.
#[test]
#[ignore = "takes some minutes; part of the soak"]
fn ended_at_any_instant_the_same_command_works_again() {
    let world = World::prepared();
    let build = world.work.join("builds").join(world.build()["id"].as_str().unwrap());
    // A fixed sequence over the whole run: start, build, link, check, launches, counts, originals.
    for round in 0..40_u64 {
        if round % 5 == 0 {
            fs::remove_dir_all(&build).unwrap_or_else(|error| assert!(!build.exists(), "{error}"));
        }
        let run = world.start(&["bench", "--quick", "--workload", TINY, "--workload", "http.keepalive.small.c1"]);
        std::thread::sleep(std::time::Duration::from_millis(round * 7919 % 6000));
        let signal = [libc::SIGKILL, libc::SIGINT, libc::SIGTERM][(round % 3) as usize];
        run.signal(signal);
        let code = run.wait().code;
        let expected = if signal == libc::SIGKILL { [None, Some(0)] } else { [Some(130), Some(0)] };
        assert!(expected.contains(&code), "round {round}: signal {signal} gave exit code {code:?}");
        world.assert_no_worker_is_left();
        for folder in world.records() {
            if let Ok(text) = fs::read(folder.join("record.json")) {
                let record: Value = serde_json::from_slice(&text).expect("a record is whole");
                assert_eq!(record["schema"], "bench/1", "round {round}");
            }
        }
    }
    world.run(QUICK).expect_code(0);
    assert!(world.scratch_folders("links-").is_empty());
}
