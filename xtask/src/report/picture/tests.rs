use super::*;
use crate::report::fixtures::{blocks, compared, report};
use model::verdict::Answer;

/// A thousand figures between -1 and 1 with a hump in the middle, always the same.
fn hump(count: usize) -> impl Iterator<Item = f64> {
    let unit = |place: usize, factor: f64| 2.0 * (place as f64 * factor).fract() - 1.0;
    (0..count).map(move |place| (unit(place, 0.618_034) + unit(place, 0.414_214) + unit(place, 0.732_051)) / 3.0)
}

fn with(differences: impl IntoIterator<Item = f64>, change: f64, ends: [f64; 2]) -> Compared {
    Compared {
        relative_change_pct: Some(change),
        interval_pct: Some(ends),
        verdict: Some("faster".to_owned()),
        first: Some(report(Answer::Faster, change, ends)),
        block_records: blocks(differences, false),
        ..compared("a.b")
    }
}

/// Few, many, equal, wild, confirmed, and none at all.
fn all_kinds() -> Vec<(Compared, Option<f64>)> {
    let mut confirmed = with(hump(40).map(|x| 2.0 * x - 3.0), -2.9, [-3.25, -2.5]);
    confirmed.block_records.extend(blocks(hump(30).map(|x| 2.0 * x - 2.8), true));
    confirmed.confirmation = confirmed.first;
    vec![
        (with(hump(8), -0.1, [-0.9, 0.6]), None),
        (with(hump(1000), -0.05, [-0.1, 0.02]), Some(0.38)),
        (with([0.0; 20], 0.0, [0.0, 0.0]), Some(0.1)),
        (with([2.5; 20], 2.5, [2.5, 2.5]), None),
        (with(hump(38).chain([120.0, -60.0]), 0.1, [-0.3, 0.4]), Some(0.5)),
        (with(hump(12).map(|x| 40.0 * x + 700.0), 700.0, [650.0, 760.0]), None),
        (confirmed, Some(0.4)),
        (compared("none"), Some(0.4)),
        (with([f64::NAN, 0.1, 0.2], 0.1, [f64::NEG_INFINITY, f64::INFINITY]), None),
        (Compared { relative_change_pct: None, interval_pct: None, ..with([0.3, -0.2], 0.0, [0.0, 0.0]) }, None),
    ]
}

#[test]
fn no_line_is_wider_than_asked_for_and_the_picture_stays_low() {
    for (compared, floor) in all_kinds() {
        let picture = Picture::of(&compared, floor);
        for width in [40, 57, 80, 100] {
            let text = terminal(&picture, width);
            assert!(
                text.lines().all(|line| line.chars().count() <= width && line == line.trim_end()),
                "{width}\n{text}"
            );
        }
        let lines = terminal(&picture, 100).lines().count();
        assert!(lines <= 14, "{lines} lines\n{}", terminal(&picture, 100));
        assert!(terminal(&picture, 5000).lines().all(|line| line.chars().count() <= 100));
    }
}

#[test]
fn zero_is_in_one_column_from_top_to_bottom() {
    for (compared, floor) in all_kinds().into_iter().filter(|(compared, _)| !compared.block_records.is_empty()) {
        let picture = Picture::of(&compared, floor);
        let text = terminal(&picture, 90);
        let axis = text.lines().position(|line| line.contains('─') && line.starts_with(' ')).expect("an axis");
        let column = text.lines().nth(axis).unwrap().chars().position(|c| c == '┼').expect("zero on the axis");
        let gutter = text.lines().nth(axis).unwrap().chars().take_while(|c| *c == ' ').count();
        let columns = 90 - gutter;
        let expected = gutter as f64 + picture.axis.place(0.0).unwrap() * (columns - 1) as f64;
        assert!((column as f64 - expected).abs() <= 0.5, "{column} {expected}\n{text}");
        let labels: Vec<char> = text.lines().nth(axis + 1).unwrap().chars().collect();
        assert_eq!(labels[column - 1..column + 1].iter().collect::<String>(), "0%", "{text}");
        let below = text.lines().filter(|line| line.starts_with("no change") || line.starts_with("noise floor"));
        for line in below {
            assert!(matches!(line.chars().nth(column), Some('┼' | '│')), "{line}\n{text}");
        }
    }
}

#[test]
fn every_block_is_drawn_or_counted_as_beyond() {
    for (compared, floor) in all_kinds() {
        let picture = Picture::of(&compared, floor);
        let all = picture.blocks.len() + picture.fresh.len();
        let beyond: usize = picture.beyond().iter().sum();
        let svg = svg(&[picture], "t", "p");
        assert_eq!(svg.matches("<circle").count() + beyond, all);
    }
    let wild = &all_kinds()[4];
    let picture = Picture::of(&wild.0, wild.1);
    assert_eq!(picture.beyond(), [1, 1]);
    let text = terminal(&picture, 100);
    assert!(
        text.ends_with("blocks beyond the axis (-1.1% to +1.1%): 1 below (lowest -60.0%), 1 above (highest +120.0%)\n"),
        "{text}"
    );
}

#[test]
fn bars_stand_where_the_blocks_are() {
    let compared = with([-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 2.0], 0.5, [-0.5, 1.5]);
    let text = terminal(&Picture::of(&compared, None), 100);
    let expected = [
        "a.b: faster, +0.50% [-0.50%, +1.5%]",
        "8 blocks; change of CPU time per event; tallest bar: 4",
        "                  █                         │                          ▂",
        "                  █                         │                          █",
        "blocks            █                         │                          █                         ▆",
        "                ──┬────────────┬────────────┼─────────────┬────────────┬────────────┬────────────┬──",
        "change          -1.0%        -0.5%         0%           +0.5%        +1.0%        +1.5%        +2.0%",
        "99% interval                   ├────────────┼─────────────●─────────────────────────┤",
        "no change          ├╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "\n{text}");
}

#[test]
fn nothing_measured_is_said_and_not_drawn() {
    let failed = Compared { error: Some("broke".to_owned()), ..compared("a.b") };
    assert_eq!(terminal(&Picture::of(&failed, Some(0.3)), 80), "a.b: error\nno blocks: nothing to draw\n");
    let svg = svg(&[Picture::of(&failed, None)], "t", "p");
    assert!(svg.contains("no blocks: nothing to draw") && !svg.contains("<circle"));
}

#[test]
fn svg_is_well_formed_whatever_the_names_are() {
    let mut pictures: Vec<Picture> =
        all_kinds().iter().map(|(compared, floor)| Picture::of(compared, *floor)).collect();
    pictures.push(Picture::of(&Compared { workload: "<&>\"'\u{7}".to_owned(), ..compared("") }, None));
    let svg = svg(&pictures, "a < b & c > d", "host <EPYC & \"co\">\nsecond line");
    assert!(svg.contains("&lt;&amp;&gt;&quot;&apos;\u{fffd}: no answer") && svg.contains("a &lt; b &amp; c &gt; d"));
    assert!(!svg.contains("=\"NaN") && !svg.contains("=\"inf") && !svg.contains("=\"-inf"));
    check_xml(&svg);
    assert!(svg.contains("class=\"back\"") && !svg.contains("href") && !svg.contains("<script"));
    let height: f64 = svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    let lowest =
        svg.split("y=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok()).fold(0.0, f64::max);
    assert!(lowest < height, "{lowest} of {height}");
}

/// Tags are closed in order, and text holds no markup.
fn check_xml(document: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = document.split_once("?>").expect("a declaration").1;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a loose `>` in {}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?}{rest}");
    let entities = ["amp;", "lt;", "gt;", "quot;", "apos;"];
    let known = |rest: &str| entities.iter().any(|entity| rest.starts_with(entity));
    assert!(document.split('&').skip(1).all(known));
}
