//! `flames TITLE UNIT OUT FOLDED [BEFORE]`: a flame graph of folded stacks as SVG; with a second file, of what changed since.
//!
//! xtask builds and calls it when a profile needs a picture (docs/PROFILE.md).

use anyhow::{Context as _, Result, bail};
use inferno::flamegraph::{self, Options, color};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

const USAGE: &str = "usage: flames TITLE UNIT OUT.svg FOLDED [BEFORE]";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [title, unit, out, folded] => draw(title, unit, Path::new(out), Path::new(folded), None),
        [title, unit, out, folded, before] => {
            draw(title, unit, Path::new(out), Path::new(folded), Some(Path::new(before)))
        }
        _ => bail!(USAGE),
    }
}

/// Writes the picture. A differential one has the widths of `folded`; what grew since `before` is red, what shrank is blue.
fn draw(title: &str, unit: &str, out: &Path, folded: &Path, before: Option<&Path>) -> Result<()> {
    let open = |path: &Path| -> Result<BufReader<File>> {
        Ok(BufReader::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?))
    };
    let mut options = Options::default();
    options.title = title.to_owned();
    options.count_name = unit.to_owned();
    // Tells the kernel's functions, which end in `_[k]`, from the others.
    options.colors = color::Palette::Multi(color::MultiPalette::Java);
    // The same profile makes the same picture.
    options.hash = true;
    options.deterministic = true;
    let lines: Vec<String> = match before {
        None => open(folded)?.lines().collect::<Result<_, _>>().context("folded stacks are text")?,
        Some(before) => {
            let mut both = Vec::new();
            // Profiles of different length are compared by their shares.
            let how = inferno::differential::Options { normalize: true, ..Default::default() };
            inferno::differential::from_readers(how, open(before)?, open(folded)?, &mut both)
                .context("cannot compare the two files")?;
            String::from_utf8(both)?.lines().map(str::to_owned).collect()
        }
    };
    if lines.is_empty() {
        bail!("{} has no stacks", folded.display());
    }
    let mut file = BufWriter::new(File::create(out).with_context(|| format!("cannot write {}", out.display()))?);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut file)
        .with_context(|| format!("cannot draw {}", folded.display()))?;
    file.flush().with_context(|| format!("cannot write {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_made_of_one_profile_and_of_two() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "run;add;copy 30\nrun;add 10\n").unwrap();
        std::fs::write(path("b"), "run;add;copy 10\nrun;drain<&> 30\n").unwrap();
        draw("one & two", "ns", &path("a.svg"), &path("a"), None).unwrap();
        let one = std::fs::read_to_string(path("a.svg")).unwrap();
        assert!(one.contains("copy (30 ns, 75.00%)") && one.contains("one &amp; two"), "{one}");
        draw("", "ns", &path("again.svg"), &path("a"), None).unwrap();
        draw("", "ns", &path("d.svg"), &path("b"), Some(&path("a"))).unwrap();
        let two = std::fs::read_to_string(path("d.svg")).unwrap();
        assert!(two.contains("drain&lt;&amp;&gt;"), "names of a candidate's functions are text: {two}");
        std::fs::write(path("none"), "").unwrap();
        assert!(draw("", "ns", &path("n.svg"), &path("none"), None).unwrap_err().to_string().contains("no stacks"));
    }
}
