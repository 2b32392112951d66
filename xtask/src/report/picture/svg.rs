//! As SVG: one file without scripts, fonts or images from elsewhere.

mod panel;

use super::Picture;
use super::text::{escape, wrap};
use panel::Panel;

/// Width of the whole picture.
const WIDTH: f64 = 900.0;
/// Room to the left and right.
const EDGE: f64 = 30.0;
/// Characters of the title, and of small text, that fit between the edges in any common font.
const TITLE_CHARS: usize = 85;
const SMALL_CHARS: usize = 140;
/// Distance of lines of small text.
const SMALL_LINE: f64 = 15.0;

/// Colours that can be told apart by people who do not see all of them, on white and on black.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.back{fill:#ffffff}.title{font-size:17px;font-weight:600}.headline{font-size:14px;font-weight:600}\
.small{font-size:11px;fill:#57606a}.middle{text-anchor:middle}.right{text-anchor:end}\
.axis{stroke:#57606a;stroke-width:1}.zero{stroke:#1f2328;stroke-width:1.5}\
.margin{fill:#2da44e;fill-opacity:.15}.floor{stroke:#9a6700;stroke-width:1;stroke-dasharray:5 4}\
.dot{fill:#57606a;fill-opacity:.6}.ring{fill:none;stroke:#bc4c00;stroke-width:1.2}\
.box{fill:#0969da;fill-opacity:.25;stroke:#0969da;stroke-width:1.5}.estimate{stroke:#0969da;stroke-width:3}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.small{fill:#9198a1}.axis{stroke:#9198a1}\
.zero{stroke:#e6edf3}.floor{stroke:#d29922}.dot{fill:#9198a1}.ring{stroke:#f0883e}\
.box{fill:#4493f8;stroke:#4493f8}.estimate{stroke:#4493f8}}";

const LEGEND: &str = "Dot: one block. Ring: a fresh block, to confirm the first answer; its lane is the lower one. Box: the \
interval of the change, with the estimate in it. Band: what counts as no change. Dashed: this host's noise floor. \
Negative: the candidate takes less.";

/// One panel a workload below the title, and below them what the picture comes from.
pub(crate) fn svg(pictures: &[Picture], title: &str, provenance: &str) -> String {
    let mut body = String::new();
    let mut y = 18.0;
    for line in wrap(title, TITLE_CHARS) {
        y += 22.0;
        body.push_str(&text(EDGE, y, "title", &line));
    }
    y += 14.0;
    for picture in pictures {
        let panel = Panel::new(picture, EDGE, y, WIDTH - 2.0 * EDGE);
        body.push_str(&panel.draw());
        y += panel.height();
    }
    for line in wrap(LEGEND, SMALL_CHARS).into_iter().chain([String::new()]).chain(wrap(provenance, SMALL_CHARS)) {
        y += SMALL_LINE;
        body.push_str(&text(EDGE, y, "small", &line));
    }
    let height = y + 18.0;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" \
         height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
        escape(title),
        escape(provenance)
    )
}

/// A line of text; nothing if it is empty.
fn text(x: f64, y: f64, class: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text))
}
