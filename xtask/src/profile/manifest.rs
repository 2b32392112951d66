//! config/hot-methods.toml: read, and written whole.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use anyhow::{Context as _, Result};
use model::hot_methods::{HotMethods, Limits, Measured, Merged};

/// Below config/.
const NAME: &str = "hot-methods.toml";

/// Reads the manifest. One that makes no sense is an error of usage: people write it.
pub(crate) fn load(context: &Context) -> Result<HotMethods> {
    HotMethods::parse(&context.config(NAME)?)
        .map_err(|error| failure(Exit::Usage, format!("config/{NAME}: {error}; correct the entry and run again")))
}

/// Puts what was measured into the manifest and writes it whole. Comments above entries stay. What was measured is merged
/// into what the file is now, not into what it was when the profile began.
pub(crate) fn update(context: &Context, measured: &[Measured], limits: &Limits) -> Result<Merged> {
    let merged = load(context)?.merge(measured, limits);
    let text = merged.manifest.to_toml();
    HotMethods::parse(&text).context("the manifest that would be written cannot be read; nothing was written")?;
    files::write_atomic(&context.root.join("config").join(NAME), text.as_bytes())?;
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::exit_of;
    use model::hot_methods::{MeasuredSymbol, Provenance};
    use std::collections::BTreeMap;

    const TEXT: &str = "# why it is here\n[[method]]\nsymbol = \"evbuffer_add\"\nfile = \"buffer.c\"\n\
                        tier = \"evbuffer-data-plane\"\nnote = \"a copy\"\n";

    /// A workspace with this manifest alone.
    fn workspace(text: &str) -> (tempfile::TempDir, Context) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::write(folder.path().join("config").join(NAME), text).unwrap();
        let mut context = Context::new(false, false, &[]).unwrap();
        folder.path().clone_into(&mut context.root);
        (folder, context)
    }

    fn measured(share: f64) -> Measured {
        let text = str::to_owned;
        Measured {
            provenance: Provenance {
                workload: text("evbuffer.add_drain.64"),
                host: text("d02b0a7a02926ce0"),
                variant: text("a5402d5af1a8"),
                variant_name: text("pristine"),
                build: text("240155d674c6"),
                event: text("cpu-clock"),
                samples: 5000,
                at: text("2026-11-28T03:00:00Z"),
            },
            symbols: vec![MeasuredSymbol { symbol: text("evbuffer_add"), self_pct: share, inclusive_pct: None }],
            present: BTreeMap::from([(text("evbuffer_add"), text("buffer.c"))]),
        }
    }

    #[test]
    fn shares_are_written_with_host_and_variant_and_comments_stay() {
        let (folder, context) = workspace(TEXT);
        assert_eq!(load(&context).unwrap().methods[0].share, None);
        update(&context, &[measured(21.25)], &Limits::default()).unwrap();
        let read = load(&context).unwrap();
        assert_eq!(read.methods[0].share.as_ref().unwrap()["evbuffer.add_drain.64"], 21.25);
        assert_eq!(
            (read.profiles[0].host.as_str(), read.profiles[0].variant.as_str()),
            ("d02b0a7a02926ce0", "a5402d5af1a8")
        );
        let config = folder.path().join("config");
        let text = std::fs::read_to_string(config.join(NAME)).unwrap();
        assert!(text.contains("# why it is here\n[[method]]") && text.contains("--update-manifest"), "{text}");
        assert_eq!(std::fs::read_dir(config).unwrap().count(), 1, "no temporary file is left");
        // The same again changes nothing.
        update(&context, &[measured(21.25)], &Limits::default()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("config").join(NAME)).unwrap(), text);
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_not_written_over() {
        for text in
            [TEXT.replace("evbuffer-data-plane", "no-such-tier"), format!("{TEXT}{TEXT}"), "[[method]".to_owned()]
        {
            let (folder, context) = workspace(&text);
            let error = update(&context, &[measured(1.0)], &Limits::default()).unwrap_err();
            assert_eq!(exit_of(&error), Exit::Usage, "{error:#}");
            assert!(error.to_string().contains("config/hot-methods.toml"), "{error:#}");
            assert_eq!(std::fs::read_to_string(folder.path().join("config").join(NAME)).unwrap(), text);
        }
        // What would not be a share is not written either.
        let (folder, context) = workspace(TEXT);
        update(&context, &[measured(130.0)], &Limits::default()).unwrap_err();
        assert_eq!(std::fs::read_to_string(folder.path().join("config").join(NAME)).unwrap(), TEXT);
    }
}
