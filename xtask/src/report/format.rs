//! Figures as people read them. What is unknown is a dash.

/// What stands for an unknown figure.
pub(crate) const UNKNOWN: &str = "-";

/// A figure with about four significant digits, without an exponent.
pub(crate) fn figure(value: Option<f64>) -> String {
    let Some(value) = value else { return UNKNOWN.to_owned() };
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 0.01 => format!("{value:.4}"),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 1000.0 => format!("{value:.1}"),
        _ => grouped(value.round()),
    }
}

/// A rate with a unit prefix, such as `54.9 M`.
pub(crate) fn rate(value: Option<f64>) -> String {
    let Some(value) = value else { return UNKNOWN.to_owned() };
    let (scaled, prefix) = match value {
        v if v >= 1e9 => (v / 1e9, " G"),
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$}{prefix}")
}

/// A duration in ns with a unit that suits it.
pub(crate) fn duration(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return UNKNOWN.to_owned() };
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

/// A signed change in per cent.
pub(crate) fn percent(value: f64) -> String {
    // A change that rounds to nothing has no sign.
    let value = if value.abs() < 0.05 { 0.0 } else { value };
    if value == 0.0 { "0.0%".to_owned() } else { format!("{value:+.1}%") }
}

/// A signed change in per cent, with a second decimal below 1%: what a comparison can see is that small.
pub(crate) fn percent2(value: f64) -> String {
    match size(value.abs()).as_str() {
        // A change that rounds to nothing has no sign.
        "0.00%" => "0.00%".to_owned(),
        size => format!("{}{size}", if value < 0.0 { '-' } else { '+' }),
    }
}

/// The size of a change in per cent, without a sign, with a second decimal below 1%.
pub(crate) fn size(value: f64) -> String {
    let two = format!("{value:.2}%");
    // Decided after rounding: 0.996 is 1.0%, not 1.00%.
    if two.starts_with("0.") { two } else { format!("{value:.1}%") }
}

/// An upper bound in per cent, rounded up: rounded down it would be none.
pub(crate) fn bound(value: f64) -> String {
    let unit = if value < 1.0 { 100.0 } else { 10.0 };
    // What is a round number but for the last bits stays one.
    size(((value * unit) - 1e-9).ceil() / unit)
}

/// An interval of changes in per cent.
pub(crate) fn interval(ends: Option<[f64; 2]>) -> String {
    ends.map_or(UNKNOWN.to_owned(), |[low, high]| format!("[{}, {}]", percent2(low), percent2(high)))
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        let shown =
            [None, Some(0.0), Some(0.0012), Some(2.008), Some(18.24), Some(871.66), Some(35_674.4), Some(-1234.0)]
                .map(figure);
        assert_eq!(shown, ["-", "0", "0.0012", "2.01", "18.2", "871.7", "35 674", "-1 234"]);
        assert_eq!(
            [Some(54.9e6), Some(1e9), Some(153.4e3), Some(12.0)].map(rate),
            ["54.9 M", "1.00 G", "153 k", "12.0"]
        );
        assert_eq!(
            [Some(950), Some(42_100), Some(42_000_000), None].map(duration),
            ["950 ns", "42.1 us", "42.0 ms", "-"]
        );
        assert_eq!([0.04, -0.04, 1.25, -3.0].map(percent), ["0.0%", "0.0%", "+1.2%", "-3.0%"]);
    }

    #[test]
    fn small_changes_keep_a_second_decimal() {
        let shown = [0.004, -0.004, 0.12, -0.994, 0.996, -3.16, 250.0].map(percent2);
        assert_eq!(shown, ["0.00%", "0.00%", "+0.12%", "-0.99%", "+1.0%", "-3.2%", "+250.0%"]);
        assert_eq!([0.0, 0.38, 1.0].map(size), ["0.00%", "0.38%", "1.0%"]);
        assert_eq!([2.01, 2.0, 0.991, 0.995, 100.0].map(bound), ["2.1%", "2.0%", "1.0%", "1.0%", "100.0%"]);
        assert_eq!(interval(Some([-0.5, 1.25])), "[-0.50%, +1.2%]");
        assert_eq!(interval(None), "-");
    }
}
