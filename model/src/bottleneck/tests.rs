use super::*;
use std::collections::BTreeSet;

const CONFIG: &str = include_str!("../../../config/bottlenecks.toml");

fn thresholds() -> Thresholds {
    Thresholds::parse(CONFIG).unwrap()
}

fn of(figures: &Figures) -> Classification {
    classify(figures, &thresholds())
}

/// A process that is busy in user space, with every other figure known and below its threshold.
fn quiet() -> Figures {
    Figures {
        metric: Some(Metric::CpuTime),
        user_share_pct: Some(80.0),
        kernel_share_pct: Some(15.0),
        idle_share_pct: Some(5.0),
        syscall_share_pct: Some(14.0),
        event_wait_share_pct: Some(4.0),
        cpu_wait_share_pct: Some(1.0),
        lock_wait_share_pct: Some(0.0),
        syscalls_per_event: Some(calls(&[("epoll_wait", 0.1)])),
        epoll_ctl_time_share_pct: Some(0.0),
        epoll_ctl_redundant_pct: Some(0.0),
        empty_waits_pct: Some(0.0),
        fionread_per_event: Some(0.0),
        bytes_per_read: Some(64.0),
        bytes_per_write: Some(64.0),
        full_reads_pct: Some(0.0),
        instructions_per_event: Some(400.0),
        instructions_per_cycle: Some(2.0),
        cache_misses_per_kilo_instruction: Some(0.1),
        branch_misses_pct: Some(0.5),
        samples: Some(5000),
        parts: Some(parts(&[(Part::Workload, 20.0), (Part::Other, 10.0)])),
        unnamed_library_pct: Some(0.0),
        allocations_per_event: Some(0.0),
    }
}

fn calls(rates: &[(&str, f64)]) -> BTreeMap<String, f64> {
    rates.iter().map(|(name, rate)| ((*name).to_owned(), *rate)).collect()
}

fn parts(shares: &[(Part, f64)]) -> BTreeMap<Part, f64> {
    shares.iter().copied().collect()
}

fn in_part(shares: &[(Part, f64)]) -> Figures {
    Figures { parts: Some(parts(shares)), ..quiet() }
}

/// In the kernel for most of its time.
fn in_calls(rates: &[(&str, f64)]) -> Figures {
    Figures {
        user_share_pct: Some(20.0),
        kernel_share_pct: Some(75.0),
        syscall_share_pct: Some(70.0),
        syscalls_per_event: Some(calls(rates)),
        epoll_ctl_time_share_pct: None,
        ..quiet()
    }
}

/// An echo of 64 bytes, as docs and playbook have it: 14 calls, 4 of them epoll_ctl, 2 FIONREAD.
fn echo() -> Figures {
    let rates = [("epoll_ctl", 4.0), ("epoll_wait", 4.0), ("ioctl", 2.0), ("readv", 2.0), ("writev", 2.0)];
    Figures { fionread_per_event: Some(2.0), ..in_calls(&rates) }
}

/// Figures whose class is the one beside them.
fn examples() -> Vec<(Class, Figures)> {
    let wall = |figures| Figures { metric: Some(Metric::WallTime), ..figures };
    let reads = [("readv", 16.0), ("ioctl", 16.0), ("writev", 1.0)];
    let memory = Figures {
        instructions_per_cycle: Some(0.4),
        cache_misses_per_kilo_instruction: Some(20.0),
        ..in_part(&[(Part::Evmap, 14.0), (Part::Workload, 40.0)])
    };
    vec![
        (Class::EpollChurn, echo()),
        (Class::SmallReads, Figures { full_reads_pct: Some(90.0), fionread_per_event: Some(16.0), ..in_calls(&reads) }),
        (Class::EmptyWaits, Figures { empty_waits_pct: Some(80.0), ..in_calls(&[("epoll_wait", 1.0), ("read", 0.5)]) }),
        (Class::Wakeups, in_calls(&[("futex", 2.1), ("write", 1.0), ("epoll_wait", 1.1)])),
        (Class::SyscallBound, in_calls(&[("epoll_wait", 1.0), ("recvfrom", 1.0), ("sendto", 1.0)])),
        (
            Class::Allocation,
            Figures {
                allocations_per_event: Some(1.0),
                ..in_part(&[(Part::Allocation, 29.0), (Part::Evbuffer, 20.0)])
            },
        ),
        (Class::Copying, in_part(&[(Part::Copying, 45.0), (Part::Evbuffer, 31.0)])),
        (Class::Searching, in_part(&[(Part::Searching, 10.0), (Part::EvbufferSearch, 60.0)])),
        (Class::Formatting, in_part(&[(Part::Formatting, 22.0), (Part::Http, 21.0)])),
        (Class::Locks, in_part(&[(Part::Locks, 33.0), (Part::Bufferevent, 20.0)])),
        (Class::Timers, in_part(&[(Part::Timers, 70.0)])),
        (Class::Dispatch, in_part(&[(Part::EventLoop, 40.0), (Part::Evmap, 5.0), (Part::Backend, 3.0)])),
        (Class::DataPlane, in_part(&[(Part::Evbuffer, 50.0), (Part::Allocation, 29.0)])),
        (Class::Protocol, in_part(&[(Part::Http, 31.0), (Part::Formatting, 16.0)])),
        (Class::CacheBound, memory),
        (Class::LatencyBound, wall(Figures { event_wait_share_pct: Some(70.0), ..quiet() })),
        (Class::CpuStarved, wall(Figures { cpu_wait_share_pct: Some(40.0), ..quiet() })),
        (Class::Workload, in_part(&[(Part::Workload, 62.0), (Part::Evbuffer, 30.0)])),
        (Class::Unknown, quiet()),
    ]
}

#[test]
fn every_class_is_reached() {
    let examples = examples();
    for (class, figures) in &examples {
        let found = of(figures);
        assert_eq!(found.class, *class, "{}", found.because);
        assert_eq!(found.deciding.is_empty(), *class == Class::Unknown, "{class}");
        assert!(!found.because.is_empty());
        assert!(found.deciding.iter().all(|d| d.threshold.is_none_or(|threshold| match d.relation {
            Relation::AtLeast => d.value >= threshold,
            Relation::Below => d.value < threshold,
        })));
        assert!(found.deciding.first().is_none_or(|d| d.threshold.is_some()), "the first one decided");
        assert!(class.tiers().iter().all(|tier| found.tiers.contains(tier)));
        assert!(!found.experiments.is_empty(), "{class} leads nowhere");
    }
    let reached: BTreeSet<Class> = examples.iter().map(|(class, _)| *class).collect();
    assert_eq!(reached, Class::ALL.into_iter().collect());
}

#[test]
fn functions_of_libraries_without_names_leave_their_parts_unknown() {
    let shares = [(Part::Copying, 16.0), (Part::Evbuffer, 15.0)];
    let copying = |unnamed| Figures { unnamed_library_pct: Some(unnamed), ..in_part(&shares) };
    assert_eq!(of(&copying(3.9)).class, Class::Copying, "less than a tie");
    assert!(of(&copying(3.9)).caveats.is_empty());
    let stripped = of(&copying(40.0));
    assert_eq!((stripped.class, stripped.also.len()), (Class::Unknown, 0), "{}", stripped.because);
    assert!(stripped.unknown.iter().any(|name| name.contains("copying")), "{:?}", stripped.unknown);
    assert!(stripped.caveats.iter().any(|caveat| caveat.contains("40%") && caveat.contains("libc6-dbg")));
    // What is libevent's own is known.
    let searching = [(Part::EvbufferSearch, 60.0), (Part::Searching, 1.0)];
    let searching = of(&Figures { unnamed_library_pct: Some(10.0), ..in_part(&searching) });
    assert_eq!(searching.class, Class::Searching);
    assert_eq!(searching.deciding[0].figure, "parts.evbuffer-search_pct");
    // Nothing is ruled out by what could not be seen.
    let names = |unnamed| {
        let http = in_part(&[(Part::Http, 40.0)]);
        let found = of(&Figures { unnamed_library_pct: Some(unnamed), ..http });
        found.experiments.into_iter().map(|experiment| experiment.name).collect::<Vec<_>>()
    };
    assert!(!names(0.0).contains(&"headers-without-vsnprintf".to_owned()));
    assert!(names(20.0).contains(&"headers-without-vsnprintf".to_owned()), "{:?}", names(20.0));
}

#[test]
fn what_is_unknown_decides_nothing() {
    let nothing = of(&Figures::default());
    assert_eq!((nothing.class, nothing.because.as_str()), (Class::Unknown, "no figure is known"));
    assert_eq!((nothing.syscall_bound, nothing.latency_bound), (None, None));
    assert!(nothing.unknown.contains(&"parts".to_owned()) && nothing.caveats.is_empty());

    // Without what decides it, each class is another one: nothing is taken for zero or for a threshold reached.
    for (class, figures) in examples() {
        if class == Class::Unknown {
            continue;
        }
        let without = Figures {
            syscalls_per_event: None,
            syscall_share_pct: None,
            kernel_share_pct: None,
            parts: None,
            event_wait_share_pct: None,
            cpu_wait_share_pct: None,
            instructions_per_cycle: None,
            ..figures
        };
        let found = of(&without);
        assert_eq!(found.class, Class::Unknown, "{class}: {}", found.because);
        assert!(found.because.contains("unknown"), "{}", found.because);
    }
}

#[test]
fn a_tie_goes_to_the_class_that_stands_first() {
    let tie = in_part(&[(Part::Copying, 25.0), (Part::Allocation, 25.0), (Part::Formatting, 25.0)]);
    let found = of(&tie);
    assert_eq!(found.class, Class::Allocation);
    let also: Vec<Class> = found.also.iter().map(|one| one.class).collect();
    assert_eq!(also, [Class::Copying, Class::Formatting]);
    assert_eq!(of(&tie), found, "the same figures, the same answer");
    // Shares that two profiles may not agree on are a tie, too; what is beyond that is not.
    let with = |copying| in_part(&[(Part::Copying, copying), (Part::Allocation, 25.0), (Part::Formatting, 25.0)]);
    assert_eq!(of(&with(28.9)).class, Class::Allocation);
    assert_eq!(of(&with(29.1)).class, Class::Copying);
    assert_eq!(of(&with(29.1)).also[0].class, Class::Allocation);
}

#[test]
fn a_figure_equal_to_its_threshold_reaches_it() {
    let t = thresholds();
    assert_eq!(of(&in_part(&[(Part::Locks, t.part_share_pct)])).class, Class::Locks);
    assert_eq!(of(&in_part(&[(Part::Locks, t.part_share_pct - 0.01)])).class, Class::Unknown);
    let wall = |syscall_share_pct| Figures {
        metric: Some(Metric::WallTime),
        syscall_share_pct: Some(syscall_share_pct),
        ..in_calls(&[("read", 1.0)])
    };
    assert_eq!(of(&wall(40.0)).syscall_bound, Some(true));
    assert_eq!(of(&wall(39.9)).syscall_bound, Some(false));
}

#[test]
fn a_syscall_bound_run_is_routed_to_what_reduces_system_calls() {
    let found = of(&echo());
    assert_eq!(found.syscall_bound, Some(true));
    assert_eq!(found.tiers[0], Tier::EpollCtl);
    assert!(Class::SyscallBound.tiers().iter().all(|tier| found.tiers.contains(tier)));
    assert!(found.because.ends_with("the run is syscall-bound"), "{}", found.because);
    let names: Vec<&str> = found.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
    assert_eq!(names[0], "coalesce-write-interest");
    assert!(names.contains(&"no-fionread"));
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{names:?}");
    // However much of the rest is copying: system calls come first.
    let copies = Figures { parts: Some(parts(&[(Part::Copying, 50.0), (Part::Kernel, 45.0)])), ..echo() };
    let found = of(&copies);
    assert_eq!(found.class, Class::EpollChurn);
    assert!(found.also.iter().any(|one| one.class == Class::Copying));
}

#[test]
fn waiting_for_a_peer_is_no_time_where_cpu_time_is_judged() {
    // A server with one client: idle for most of the wall clock, and in system calls for most of its CPU time.
    let server = Figures {
        user_share_pct: Some(9.0),
        kernel_share_pct: Some(21.0),
        idle_share_pct: Some(70.0),
        syscall_share_pct: Some(20.0),
        event_wait_share_pct: Some(68.0),
        ..in_calls(&[("epoll_wait", 1.0), ("readv", 1.0), ("writev", 1.0)])
    };
    let by_cpu = of(&server);
    assert_eq!(
        (by_cpu.class, by_cpu.syscall_bound, by_cpu.latency_bound),
        (Class::SyscallBound, Some(true), Some(true))
    );
    assert!(by_cpu.deciding[0].figure.ends_with("_of_cpu_pct"), "{:?}", by_cpu.deciding);
    let by_wall = of(&Figures { metric: Some(Metric::WallTime), ..server });
    assert_eq!(
        (by_wall.class, by_wall.syscall_bound, by_wall.latency_bound),
        (Class::LatencyBound, Some(false), Some(true))
    );
}

#[test]
fn kernel_time_stands_in_for_times_of_calls_and_idle_time_for_waits() {
    let no_tracepoints = Figures {
        syscall_share_pct: None,
        event_wait_share_pct: None,
        ..in_calls(&[("sendto", 1.0), ("recvfrom", 1.0)])
    };
    let found = of(&no_tracepoints);
    assert_eq!((found.class, found.latency_bound), (Class::SyscallBound, Some(false)));
    assert!(found.deciding[0].figure.starts_with("kernel_share"));
    // Idle time may as well be a wait for the CPU: without that figure it says nothing.
    let idle = Figures { idle_share_pct: Some(90.0), cpu_wait_share_pct: None, ..no_tracepoints.clone() };
    assert_eq!(of(&idle).latency_bound, None);
    let busy_host = Figures { idle_share_pct: Some(90.0), cpu_wait_share_pct: Some(85.0), ..no_tracepoints };
    let found = of(&busy_host);
    assert_eq!(found.latency_bound, Some(false));
    assert!(found.caveats[0].contains("waited for a CPU"), "{:?}", found.caveats);
}

#[test]
fn too_few_samples_decide_nothing_and_it_is_said() {
    let few = Figures { samples: Some(20), ..in_part(&[(Part::Copying, 90.0)]) };
    let found = of(&few);
    assert_eq!(found.class, Class::Unknown);
    assert!(found.caveats[0].contains("20 samples"), "{:?}", found.caveats);
    assert_eq!(of(&Figures { samples: None, ..few }).class, Class::Unknown);
}

#[test]
fn a_particular_kind_of_call_that_explains_little_is_not_the_class() {
    // A fifth of the time in calls is epoll_ctl, and calls are a third of the time: 7%.
    let little = Figures {
        syscall_share_pct: Some(30.0),
        epoll_ctl_time_share_pct: Some(22.0),
        ..in_part(&[(Part::Copying, 16.0)])
    };
    let found = of(&little);
    assert_eq!(found.class, Class::Copying, "{}", found.because);
    assert!(found.also.is_empty(), "{:?}", found.also);
}

#[test]
fn what_the_figures_rule_out_is_not_suggested_and_what_is_unknown_is() {
    let names = |figures: &Figures| of(figures).experiments.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    let plain = in_calls(&[("epoll_wait", 1.0), ("recvfrom", 1.0), ("sendto", 1.0)]);
    assert!(!names(&plain).contains(&"no-fionread".to_owned()), "no FIONREAD was made");
    assert!(!names(&plain).contains(&"coalesce-write-interest".to_owned()), "no epoll_ctl was made");
    let unknown = Figures { fionread_per_event: None, ..plain };
    assert!(names(&unknown).contains(&"no-fionread".to_owned()));
    let evbuffer = in_part(&[(Part::Allocation, 40.0)]);
    assert!(!names(&evbuffer).contains(&"header-in-one-block".to_owned()), "there is no HTTP in it");
    let evbuffer = Figures { allocations_per_event: Some(1.0), ..evbuffer };
    assert_eq!(of(&evbuffer).tiers, [Tier::EvbufferDataPlane, Tier::Allocation], "nothing of the other tier is left");
    let with_http = Figures { parts: Some(parts(&[(Part::Allocation, 40.0), (Part::Http, 20.0)])), ..evbuffer };
    assert_eq!(of(&with_http).tiers, [Tier::Allocation, Tier::EvbufferDataPlane]);
}

#[test]
fn memory_is_the_class_only_where_no_code_stands_out() {
    let heap = Figures {
        instructions_per_cycle: Some(0.3),
        cache_misses_per_kilo_instruction: Some(30.0),
        ..in_part(&[(Part::Timers, 80.0)])
    };
    let found = of(&heap);
    assert_eq!(found.class, Class::Timers);
    assert_eq!(found.also[0].class, Class::CacheBound);
    let half_known = Figures { cache_misses_per_kilo_instruction: None, ..heap };
    assert!(of(&half_known).also.is_empty(), "few instructions per cycle alone prove nothing");
}

#[test]
fn a_limit_of_reads_shows_as_a_power_of_two_that_none_exceeds() {
    let of = |sizes: &[(u64, u64)]| full_reads_pct(&sizes.iter().copied().collect());
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[(0, 5)]), None, "an end of file moves nothing");
    assert_eq!(of(&[(64, 100)]), Some(0.0));
    assert_eq!(of(&[(4096, 15), (100, 5)]), Some(75.0));
    assert_eq!(of(&[(4096, 15), (5000, 5)]), Some(0.0));
    assert_eq!(of(&[(1024, 10)]), Some(0.0), "a small message of a round size");
}

#[test]
fn thresholds_that_make_no_sense_are_refused() {
    let with = |from: &str, to: &str| {
        assert!(CONFIG.contains(from), "{from}");
        Thresholds::parse(&CONFIG.replace(from, to))
    };
    assert!(matches!(with("syscall_share_pct = 40.0", "syscall_share_pct = 0.0"), Err(ThresholdsError::Range(_))));
    assert!(matches!(with("syscall_share_pct = 40.0", "syscall_share_pct = nan"), Err(ThresholdsError::Range(_))));
    assert!(matches!(with("futex_per_event = 0.5", "futex_per_event = -1.0"), Err(ThresholdsError::Range(_))));
    assert!(matches!(with("tie_points = 4.0", "tie_points = -1.0"), Err(ThresholdsError::Range(_))));
    assert!(matches!(with("fewest_samples = 500", "fewest_samples = 0"), Err(ThresholdsError::Range(_))));
    assert!(matches!(with("fewest_samples = 500", "fewest = 500"), Err(ThresholdsError::Syntax(_))));
}

#[test]
fn records_survive_being_written() {
    let found = of(&echo());
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Classification>(&text).unwrap(), found);
    assert!(text.contains(r#""class":"epoll-churn""#), "{text}");
    let figures: Figures = serde_json::from_str(&serde_json::to_string(&echo()).unwrap()).unwrap();
    assert_eq!(figures, echo());
    for class in Class::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        assert_eq!(Class::from_name(class.name()), Some(class));
    }
    for tier in Tier::ALL {
        assert_eq!(serde_json::to_value(tier).unwrap(), tier.name());
        assert_eq!(Tier::from_name(tier.name()), Some(tier));
    }
}

mod program {
    use super::super::playbook::{self, PlaybookError};
    use super::super::{Class, Tier, experiment};
    use std::collections::BTreeSet;

    const TEXT: &str = include_str!("../../../playbook/program.md");
    const WORKLOADS: &str = include_str!("../../../config/workloads.toml");

    #[test]
    fn the_playbook_has_every_tier_and_every_experiment_of_the_code() {
        let playbook = playbook::parse(TEXT).unwrap();
        let tiers: Vec<Tier> = playbook.tiers.iter().map(|section| section.tier).collect();
        assert_eq!(tiers, Tier::ALL, "one section each, in the order of the code");
        for section in &playbook.tiers {
            let code = experiment::all().iter().filter(|s| s.tier == Some(section.tier)).map(|s| s.name.to_owned());
            assert_eq!(section.experiments, code.collect::<Vec<_>>(), "experiments of {}", section.tier);
            for word in ["Attacks", "Classes", "Workloads", "Symbols", "Risks", "Expected"] {
                assert!(section.text.contains(&format!("**{word}**")), "{}: says nothing of {word}", section.tier);
            }
            let classes = Class::ALL.iter().filter(|class| class.tiers().contains(&section.tier));
            for class in classes {
                assert!(section.text.contains(&format!("`{class}`")), "{}: does not name `{class}`", section.tier);
            }
        }
    }

    #[test]
    fn the_table_of_bottlenecks_is_that_of_the_code() {
        let written = playbook::parse(TEXT).unwrap().table;
        assert!(written == playbook::table(), "playbook/program.md must have this table:\n{}", playbook::table());
    }

    #[test]
    fn the_two_known_dead_ends_are_there() {
        let names: Vec<String> = playbook::parse(TEXT).unwrap().non_starters.into_iter().map(|n| n.name).collect();
        assert!(names.iter().any(|name| name.contains("EPOLLONESHOT")), "{names:?}");
        assert!(names.iter().any(|name| name.contains("update_time_cache")), "{names:?}");
    }

    #[test]
    fn suggestions_are_of_known_tiers_and_of_workloads_that_exist() {
        let manifest = toml::from_str::<toml::Table>(WORKLOADS).unwrap();
        let names: Vec<&str> =
            manifest["workload"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
        let matches = |pattern: &str, name: &str| {
            let mut parts = pattern.split('*');
            let Some(mut rest) = name.strip_prefix(parts.next().unwrap()) else { return false };
            let parts: Vec<&str> = parts.collect();
            parts.iter().enumerate().all(|(number, part)| {
                let found = if number + 1 == parts.len() {
                    rest.ends_with(part).then_some(rest.len())
                } else {
                    rest.find(part).map(|at| at + part.len())
                };
                found.map(|end| rest = &rest[end..]).is_some()
            }) && (!parts.is_empty() || rest.is_empty())
        };
        let mut seen = BTreeSet::new();
        for suggestion in experiment::all() {
            assert!(seen.insert(suggestion.name), "{} is there twice", suggestion.name);
            for class in suggestion.classes {
                let tier = suggestion.tier;
                assert!(tier.is_none_or(|tier| class.tiers().contains(&tier)), "{}: {class}", suggestion.name);
            }
            for pattern in suggestion.workloads {
                assert!(names.iter().any(|name| matches(pattern, name)), "{}: {pattern}", suggestion.name);
            }
        }
        for class in Class::ALL {
            for tier in class.tiers() {
                let any = experiment::ordered(class).any(|suggestion| suggestion.tier == Some(*tier));
                assert!(any, "{class} leads to {tier}, where nothing is suggested for it");
            }
        }
    }

    #[test]
    fn a_playbook_that_is_wrong_is_refused_with_the_place() {
        let with = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            playbook::parse(&TEXT.replacen(from, to, 1)).unwrap_err()
        };
        assert_eq!(with("## Tier: search\n", "## Tier: serach\n"), PlaybookError::Tier("serach".into()));
        assert_eq!(with("## Tier: search\n", "## Tier: formatting\n"), PlaybookError::Twice("formatting".into()));
        assert!(matches!(with("<!-- non-starters end -->", ""), PlaybookError::Marker(_)));
        assert!(matches!(with("<!-- bottlenecks end -->", ""), PlaybookError::Marker(_)));
        assert!(matches!(
            with("<!-- non-starters end -->", "so what\n<!-- non-starters end -->"),
            PlaybookError::NonStarter(_)
        ));
    }
}
