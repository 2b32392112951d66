//! Pictures of a comparison: every block's difference beside the interval that was made of them, so that
//! nobody has to believe a figure without having seen what it came from.

mod axis;
mod svg;
mod terminal;
mod text;

pub(crate) use svg::svg;
pub(crate) use terminal::terminal;

use super::compare::verdict;
use super::format::{interval, percent2};
use super::table::name;
use axis::Axis;
use model::compare::Compared;
use model::stats::log_ratio_to_pct;
use model::workload::Metric;

/// What is drawn of one workload. All figures are changes in per cent, negative is faster.
pub(crate) struct Picture {
    /// Workload, verdict and figures, in words.
    headline: String,
    /// What the change is a change of.
    metric: &'static str,
    /// One figure a block.
    blocks: Vec<f64>,
    /// Likewise of the blocks that were to confirm the first answer.
    fresh: Vec<f64>,
    /// The estimate that the table shows.
    estimate: Option<f64>,
    /// Its interval.
    interval: Option<[f64; 2]>,
    /// What the interval is called, with what it covers.
    interval_name: String,
    /// What the interval has to lie in for "no change".
    margin: [f64; 2],
    /// Noise floor of the workload here, to both sides.
    floor: Option<f64>,
    axis: Axis,
}

impl Picture {
    /// Of a workload, with its noise floor on this host where that is known.
    pub(crate) fn of(compared: &Compared, noise_floor_pct: Option<f64>) -> Picture {
        let figures = |confirms: bool| -> Vec<f64> {
            let of_kind = compared.block_records.iter().filter(|block| block.confirms == confirms);
            of_kind.map(|block| log_ratio_to_pct(block.log_ratio)).filter(|pct| pct.is_finite()).collect()
        };
        let (blocks, fresh) = (figures(false), figures(true));
        let margin = margin(compared.margin_pct);
        let floor = noise_floor_pct.filter(|pct| pct.is_finite());
        let estimate = compared.relative_change_pct.filter(|pct| pct.is_finite());
        let interval = compared.interval_pct.filter(|ends| ends.iter().all(|end| end.is_finite()));
        let floors = floor.into_iter().flat_map(|floor| [-floor, floor]);
        let shown = interval.into_iter().flatten().chain(estimate).chain(floors).chain(margin).chain([0.0]);
        let axis = Axis::new(blocks.iter().chain(&fresh).copied().collect(), &shown.collect::<Vec<_>>());
        let report = compared.confirmation.as_ref().or(compared.first.as_ref());
        Picture {
            headline: headline(compared),
            metric: match compared.metric {
                Metric::CpuTime => "CPU time per event",
                Metric::WallTime => "elapsed time per event",
            },
            blocks,
            fresh,
            estimate,
            interval,
            interval_name: report.map_or("interval".to_owned(), |report| {
                // Rounded, since 100 * (1 - 0.003) is not 99.7 to the last digit.
                format!("{}% interval", (report.coverage_pct * 100.0).round() / 100.0)
            }),
            margin,
            floor,
            axis,
        }
    }

    /// Blocks below and above what the axis shows.
    fn beyond(&self) -> [usize; 2] {
        let all = || self.blocks.iter().chain(&self.fresh);
        [all().filter(|pct| **pct < self.axis.low).count(), all().filter(|pct| **pct > self.axis.high).count()]
    }

    /// How many blocks there are, in words.
    fn blocks_in_words(&self) -> String {
        match (self.blocks.len(), self.fresh.len()) {
            (0, 0) => "no blocks".to_owned(),
            (1, 0) => "1 block".to_owned(),
            (first, 0) => format!("{first} blocks"),
            (first, fresh) => format!("{first} blocks, {fresh} fresh ones to confirm"),
        }
    }

    /// What the axis leaves out; `None` if that is nothing.
    fn beyond_in_words(&self) -> Option<String> {
        let all = || self.blocks.iter().chain(&self.fresh).copied();
        let [below, above] = self.beyond();
        let low = (below > 0).then(|| format!("{below} below (lowest {})", percent2(all().fold(f64::MAX, f64::min))));
        let high = (above > 0).then(|| format!("{above} above (highest {})", percent2(all().fold(f64::MIN, f64::max))));
        let parts: Vec<String> = low.into_iter().chain(high).collect();
        let (from, to) = (percent2(self.axis.low), percent2(self.axis.high));
        (!parts.is_empty()).then(|| format!("blocks beyond the axis ({from} to {to}): {}", parts.join(", ")))
    }
}

/// The margin of a verdict is one of log ratios, equal to both sides; in per cent it is not quite.
fn margin(margin_pct: f64) -> [f64; 2] {
    [log_ratio_to_pct(-(margin_pct / 100.0).ln_1p()), margin_pct]
}

fn headline(compared: &Compared) -> String {
    let figures = compared.relative_change_pct.map_or(String::new(), |pct| match compared.interval_pct {
        Some(_) => format!(", {} {}", percent2(pct), interval(compared.interval_pct)),
        None => format!(", {}", percent2(pct)),
    });
    format!("{}: {}{figures}", name(&compared.workload, compared.metric), verdict(compared))
}

#[cfg(test)]
mod tests;
