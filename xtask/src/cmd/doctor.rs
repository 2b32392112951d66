//! `cargo xtask doctor`: what this host is good for, what is not as it should be, and the fix.

use crate::context::Context;
use crate::exit::Exit;
use crate::host::checks::{self, Check, Scene, Status};
use crate::host::{self, noise};
use crate::{interrupt, report};
use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use model::host::HostFingerprint;
use serde::Serialize;

/// Explains this host: what measures well here, what does not, and the fix for each.
///
/// Needs no tools, no libevent and no network, changes nothing, and takes some seconds.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask doctor
  cargo xtask doctor --json | jq '.checks[] | select(.status != \"ok\") | .fix'")]
pub(crate) struct Args {
    /// Be the program whose launches are compared: print the CPU time of fixed work.
    #[arg(long, hide = true)]
    noise_probe: bool,
}

/// The answer of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: &'a HostFingerprint,
    /// The looks were cut short.
    partial: bool,
    /// Bench can measure here, however well.
    can_measure: bool,
    checks: &'a [Check],
}

/// Exit code 0 if measuring is possible, 4 if it is not.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if args.noise_probe {
        noise::probe()?;
        return Ok(Exit::Ok);
    }
    interrupt::install()?;
    let host = host::fingerprint();
    let checks = checks::all(&Scene::here(context, host.virtual_machine.unwrap_or(false)));
    let can_measure = !checks.iter().any(|check| check.blocks);
    let partial = interrupt::asked();
    if context.json {
        let document = Document { schema: "doctor/1", host: &host, partial, can_measure, checks: &checks };
        report::print(&(serde_json::to_string_pretty(&document)? + "\n"))?;
    } else {
        report::print(&text(&host, &checks, can_measure))?;
    }
    Ok(match (partial, can_measure) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Infrastructure,
    })
}

fn text(host: &HostFingerprint, checks: &[Check], can_measure: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for check in checks {
        table.add_row([word(check.status), check.name, check.shown.as_str()]);
    }
    let wanting: Vec<&Check> = checks.iter().filter(|check| check.status != Status::Ok).collect();
    let explained: String = wanting
        .iter()
        .map(|check| {
            let fix = check.fix.as_deref().unwrap_or("unknown");
            format!("\n{}: {}\n  why: {}\n  fix: {fix}\n", check.name, check.shown, check.why)
        })
        .collect();
    let verdict = if can_measure { "measuring is possible" } else { "measuring is NOT possible" };
    let counts = format!("{} of {} checks are ok; {verdict}", checks.len() - wanting.len(), checks.len());
    format!("host {}: {}\n{table}\n{explained}\n{counts}\n", host.id, host.summary())
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Degraded => "degraded",
        Status::Missing => "missing",
        Status::Unknown => "unknown",
    }
}
