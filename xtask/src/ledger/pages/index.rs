//! experiments/EXPERIMENTS.md: every experiment, one line each.

use super::{cell, gain, short, state};
use model::ledger::history::History;

/// The page.
pub(super) fn page(history: &History) -> String {
    let mut text = "# Experiments\n\n".to_owned();
    if history.experiments.is_empty() {
        text.push_str("None yet. `cargo xtask exp open` begins one.\n");
        return text;
    }
    text.push_str("What came of them: [SUMMARY.md](SUMMARY.md). Gains are those of the newest decision, confirmed by fresh blocks.\n\n");
    text.push_str("| experiment | state | technique | hypothesis | largest gain | opened | last entry |\n|---|---|---|---|---|---|---|\n");
    for (id, experiment) in &history.experiments {
        text.push_str(&format!(
            "| [{id}]({id}/README.md) | {} | {} | {} | {} | {:.10} | {:.10} |\n",
            state(history, experiment),
            cell(&experiment.technique),
            short(&experiment.hypothesis, 120),
            gain(experiment),
            experiment.opened_at,
            experiment.changed_at(),
        ));
    }
    text
}
