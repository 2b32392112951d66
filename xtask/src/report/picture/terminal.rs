//! In plain characters: how many blocks had which difference, and on the same axis what was made of them.

use super::Picture;
use super::text::wrap;

/// Columns for what a line is.
const GUTTER: usize = 16;
/// A narrower picture would show nothing.
const LEAST_WIDTH: usize = 40;
/// A wider one is not read more easily.
const MOST_WIDTH: usize = 100;
/// One column, by eighths of its height.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A picture of at most `width` columns, which is taken as 40 at least and 100 at most.
pub(crate) fn terminal(picture: &Picture, width: usize) -> String {
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let canvas = Canvas { picture, columns: width - GUTTER };
    let mut lines = wrap(&picture.headline, width);
    if picture.blocks.is_empty() && picture.fresh.is_empty() {
        lines.push("no blocks: nothing to draw".to_owned());
    } else {
        lines.extend(wrap(&canvas.legend(), width));
        lines.extend(canvas.bars());
        lines.extend(canvas.axis());
        lines.extend(canvas.marks());
        lines.extend(picture.beyond_in_words().iter().flat_map(|text| wrap(text, width)));
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

struct Canvas<'a> {
    picture: &'a Picture,
    columns: usize,
}

impl Canvas<'_> {
    fn column(&self, value: f64) -> Option<usize> {
        self.picture.axis.place(value).map(|place| (place * (self.columns - 1) as f64).round() as usize)
    }

    fn legend(&self) -> String {
        let picture = self.picture;
        format!("{}; change of {}; tallest bar: {}", picture.blocks_in_words(), picture.metric, self.tallest())
    }

    fn counts(&self, values: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; self.columns];
        values.iter().filter_map(|value| self.column(*value)).for_each(|column| counts[column] += 1);
        counts
    }

    fn tallest(&self) -> usize {
        let of = |values: &[f64]| self.counts(values).into_iter().max().unwrap_or(0);
        of(&self.picture.blocks).max(of(&self.picture.fresh))
    }

    /// Bars of both kinds of blocks, at one scale.
    fn bars(&self) -> Vec<String> {
        let kinds = [("blocks", &self.picture.blocks), ("fresh blocks", &self.picture.fresh)];
        let shown: Vec<_> = kinds.into_iter().filter(|(_, values)| !values.is_empty()).collect();
        let tallest = self.tallest().max(1);
        // Few blocks are not blown up: one is one cell at most.
        let rows = tallest.min(if shown.len() == 1 { 3 } else { 2 });
        let eighths = |count: usize| if count == 0 { 0 } else { (count * rows * 8 / tallest).max(1) };
        let row = |values: &[f64], row: usize| -> Vec<char> {
            self.counts(values).into_iter().map(|count| BARS[eighths(count).saturating_sub(8 * row).min(8)]).collect()
        };
        let lines = |(label, values): (&str, &Vec<f64>)| -> Vec<String> {
            let label = |place: usize| if place == 0 { label } else { "" };
            (0..rows).rev().map(|place| self.line(label(place), row(values, place))).collect()
        };
        shown.into_iter().flat_map(lines).collect()
    }

    /// The axis and its labels. Zero comes first, so that its label is never the one without room.
    fn axis(&self) -> [String; 2] {
        let mut line = vec!['─'; self.columns];
        let mut labels = vec![' '; GUTTER + self.columns];
        let word = "change";
        labels.iter_mut().zip(word.chars()).for_each(|(cell, char)| *cell = char);
        let mut ticks = self.picture.axis.ticks(self.columns / 10);
        ticks.sort_by(|a, b| a.value.abs().total_cmp(&b.value.abs()));
        for tick in &ticks {
            let Some(column) = self.column(tick.value) else { continue };
            line[column] = if tick.value == 0.0 { '┼' } else { '┬' };
            let start = (GUTTER + column).saturating_sub(tick.label.len() / 2);
            let end = start + tick.label.len();
            // With a space to both sides.
            let is_free = end <= labels.len()
                && labels[start.saturating_sub(1)..(end + 1).min(labels.len())].iter().all(|c| *c == ' ');
            if is_free {
                labels[start..end].iter_mut().zip(tick.label.chars()).for_each(|(cell, char)| *cell = char);
            }
        }
        let line: String = line.into_iter().collect();
        [format!("{:GUTTER$}{line}", ""), labels.into_iter().collect()]
    }

    /// What the blocks came to, and what it is judged by.
    fn marks(&self) -> Vec<String> {
        let picture = self.picture;
        let mut lines = Vec::new();
        if picture.estimate.is_some() || picture.interval.is_some() {
            let mut cells = self.span(picture.interval, '─');
            if let Some(column) = picture.estimate.and_then(|estimate| self.column(estimate)) {
                cells[column] = '●';
            }
            lines.push(self.line(&picture.interval_name, cells));
        }
        lines.push(self.line("no change", self.span(Some(picture.margin), '╌')));
        if let Some(floor) = picture.floor {
            lines.push(self.line("noise floor", self.span(Some([-floor, floor]), '╌')));
        }
        lines
    }

    fn span(&self, ends: Option<[f64; 2]>, inside: char) -> Vec<char> {
        let mut cells = vec![' '; self.columns];
        let Some([Some(low), Some(high)]) = ends.map(|ends| ends.map(|end| self.column(end))) else { return cells };
        cells[low..=high].fill(inside);
        (cells[low], cells[high]) = if low == high { ('│', '│') } else { ('├', '┤') };
        // An end beside zero stays an end: the interval may exclude zero.
        if let Some(zero) = self.column(0.0).filter(|zero| low < *zero && *zero < high) {
            cells[zero] = '┼';
        }
        cells
    }

    /// A line with its label; zero goes through wherever nothing else is.
    fn line(&self, label: &str, mut cells: Vec<char>) -> String {
        if let Some(cell) = self.column(0.0).and_then(|zero| cells.get_mut(zero)).filter(|cell| **cell == ' ') {
            *cell = '│';
        }
        format!("{label:GUTTER$}{}", cells.into_iter().collect::<String>())
    }
}
