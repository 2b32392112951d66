//! One workload of a picture.

use super::{Picture, text};

/// Heights of the parts, from above.
const HEADLINE: f64 = 34.0;
const LANE: f64 = 64.0;
const BOX_LANE: f64 = 30.0;
const AXIS: f64 = 52.0;

/// Radius of a dot.
const DOT: f64 = 2.4;
/// Fractions of the multiples of this are spread evenly however many they are: the golden ratio's.
const JITTER: f64 = 0.618_033_988_749_895;

/// A workload, and where its panel is.
pub(super) struct Panel<'a> {
    picture: &'a Picture,
    left: f64,
    top: f64,
    width: f64,
}

impl<'a> Panel<'a> {
    pub(super) fn new(picture: &'a Picture, left: f64, top: f64, width: f64) -> Self {
        Panel { picture, left, top, width }
    }

    fn is_empty(&self) -> bool {
        self.picture.blocks.is_empty() && self.picture.fresh.is_empty()
    }

    fn lanes(&self) -> f64 {
        LANE * if self.picture.fresh.is_empty() { 1.0 } else { 2.0 }
    }

    /// With the distance to the next one.
    pub(super) fn height(&self) -> f64 {
        if self.is_empty() { HEADLINE + 28.0 } else { HEADLINE + self.lanes() + BOX_LANE + AXIS }
    }

    pub(super) fn draw(&self) -> String {
        let headline = text(self.left, self.top + 18.0, "headline", &self.picture.headline);
        if self.is_empty() {
            return headline + &text(self.left, self.top + 36.0, "small", "no blocks: nothing to draw");
        }
        let (first, second) = (self.top + HEADLINE, self.top + HEADLINE + LANE);
        [
            headline,
            self.margin(),
            self.floor(),
            self.axis(),
            self.dots(&self.picture.blocks, first, "dot"),
            self.dots(&self.picture.fresh, second, "ring"),
            self.interval(),
        ]
        .concat()
    }

    fn bottom(&self) -> f64 {
        self.top + HEADLINE + self.lanes() + BOX_LANE
    }

    /// Place of a figure on the page; `None` if it is beyond the axis.
    fn x(&self, value: f64) -> Option<f64> {
        Some(self.left + self.picture.axis.place(value)? * self.width)
    }

    fn rect(&self, class: &str, ends: [f64; 2], top: f64, height: f64) -> String {
        let [Some(left), Some(right)] = ends.map(|end| self.x(end)) else { return String::new() };
        let width = right - left;
        format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>\n"
        )
    }

    /// From top to bottom at a figure.
    fn upright(&self, class: &str, value: f64, top: f64, bottom: f64) -> String {
        self.x(value).map_or(String::new(), |x| {
            format!("<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\n")
        })
    }

    fn margin(&self) -> String {
        let top = self.top + HEADLINE;
        self.rect("margin", self.picture.margin, top, self.bottom() - top)
    }

    fn floor(&self) -> String {
        let ends = self.picture.floor.into_iter().flat_map(|floor| [-floor, floor]);
        ends.map(|end| self.upright("floor", end, self.top + HEADLINE, self.bottom())).collect()
    }

    fn axis(&self) -> String {
        let (right, bottom) = (self.left + self.width, self.bottom());
        let mut drawn = format!(
            "<line class=\"axis\" x1=\"{:.1}\" y1=\"{bottom:.1}\" x2=\"{right:.1}\" y2=\"{bottom:.1}\"/>\n",
            self.left
        );
        for tick in self.picture.axis.ticks(10) {
            drawn.push_str(&self.upright("axis", tick.value, bottom, bottom + 5.0));
            let x = self.x(tick.value).unwrap_or(self.left);
            drawn.push_str(&text(x, bottom + 17.0, "small middle", &tick.label));
        }
        drawn.push_str(&self.upright("zero", 0.0, self.top + HEADLINE, bottom));
        let unit = format!("change of {}, %; {}", self.picture.metric, self.picture.blocks_in_words());
        drawn.push_str(&text(self.left, bottom + 33.0, "small", &unit));
        let beyond = self.picture.beyond_in_words().unwrap_or_default();
        drawn + &text(right, bottom + 33.0, "small right", &beyond)
    }

    /// At heights that follow from the number of the block, so that the same record gives the same picture.
    fn dots(&self, values: &[f64], top: f64, class: &str) -> String {
        let height = |place: usize| top + DOT + 2.0 + ((place + 1) as f64 * JITTER).fract() * (LANE - 2.0 * DOT - 4.0);
        let dot = |(place, value): (usize, &f64)| {
            let (x, y) = (self.x(*value)?, height(place));
            Some(format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{DOT}\"/>\n"))
        };
        values.iter().enumerate().filter_map(dot).collect()
    }

    fn interval(&self) -> String {
        let top = self.top + HEADLINE + self.lanes() + 6.0;
        let height = BOX_LANE - 14.0;
        let drawn = self.picture.interval.map_or(String::new(), |ends| self.rect("box", ends, top, height));
        let estimate = self.picture.estimate;
        drawn + &estimate.map_or(String::new(), |value| self.upright("estimate", value, top - 3.0, top + height + 3.0))
    }
}
