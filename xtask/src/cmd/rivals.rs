//! For trying `calibrate --rivals` before `calibrate` exists.

use crate::calibrate::rivals::{self, Method, Options};
use crate::context::Context;
use crate::exit::Exit;
use crate::report::table::Style;
use crate::setup::{self, Verb};
use crate::{interrupt, lock, report};
use anyhow::Result;
use std::time::Duration;

/// Tries the rivals.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    #[arg(long = "workload", value_name = "GLOB")]
    workloads: Vec<String>,
    #[arg(long = "method", value_enum)]
    methods: Vec<Method>,
    #[arg(long, default_value = "10s", value_parser = super::compare::budget)]
    budget: Duration,
    #[arg(long, default_value_t = 20)]
    rival_runs: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long)]
    markdown: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    setup::ensure(Verb::Bench, context)?;
    let _lock = lock::take(context, "rivals")?;
    interrupt::install()?;
    let mut workloads = args.workloads.clone();
    if workloads.is_empty() {
        workloads =
            ["evbuffer.add_drain.64", "timers.readd.10k", "cascade.pipes.n100.a1.w100"].map(str::to_owned).to_vec();
    }
    let options = Options {
        workloads,
        methods: args.methods.clone(),
        budget: args.budget,
        runs: args.rival_runs,
        seed: args.seed,
        limit: Duration::from_secs(20),
    };
    let table = rivals::run(context, &options)?;
    let style = if args.markdown { Style::Markdown } else { Style::Terminal };
    if context.json {
        report::print(&(serde_json::to_string(&table)? + "\n"))?;
    } else {
        report::print(&report::rivals::full(&table, style))?;
    }
    Ok(if interrupt::asked() { Exit::Interrupted } else { Exit::Ok })
}
