//! How profiles are taken: config/profile.toml.

use serde::{Deserialize, Serialize};

/// The whole of config/profile.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Time of each phase by default.
    pub seconds: f64,
    /// Fresh processes that this time is divided into.
    pub launches: u32,
    /// Samples of a CPU's second.
    pub frequency_hz: u64,
    /// Bytes of user stack that come with a sample.
    pub stack_bytes: u32,
    /// Share of each launch that is done before and after the profiler's part, to see what it costs.
    pub unprofiled_share: f64,
    /// Launches go on, for as long again at most, until so many samples are of the work.
    pub wanted_samples: u64,
    /// Symbols in a report.
    pub shown_symbols: usize,
    /// Fewest samples that shares are made of; with fewer the phase says so.
    pub fewest_samples: u64,
    /// A symbol has moved if its self share changed by this much, in points.
    pub moved_points: f64,
    /// A symbol that has grown to this self share is a new bottleneck, in per cent.
    pub bottleneck_pct: f64,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A figure that makes no sense.
    #[error("{0}")]
    Range(&'static str),
}

impl Config {
    /// Reads config/profile.toml.
    ///
    /// # Errors
    /// A missing or unknown field, or a figure out of range.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text)?;
        let checks = [
            (config.seconds > 0.0 && config.seconds <= 600.0, "seconds must be above 0 and at most 600"),
            ((1..=100).contains(&config.launches), "launches must be from 1 to 100"),
            ((1..=50_000).contains(&config.frequency_hz), "frequency_hz must be from 1 to 50000"),
            (
                config.stack_bytes.is_multiple_of(8) && (256..=32_768).contains(&config.stack_bytes),
                "stack_bytes must be a multiple of 8 from 256 to 32768",
            ),
            (
                config.unprofiled_share > 0.0 && config.unprofiled_share < 1.0,
                "unprofiled_share must be between 0 and 1",
            ),
            (config.moved_points > 0.0 && config.bottleneck_pct > 0.0, "thresholds must be above 0"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(ConfigError::Range(why)),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../config/profile.toml");

    #[test]
    fn the_configuration_is_read_and_nonsense_is_refused() {
        let config = Config::parse(TEXT).unwrap();
        assert!(config.frequency_hz > 1000 && config.launches > 1);
        let stack = format!("stack_bytes = {}", config.stack_bytes);
        assert!(matches!(Config::parse(&TEXT.replace(&stack, "stack_bytes = 1001")), Err(ConfigError::Range(_))));
        assert!(matches!(Config::parse(&format!("{TEXT}\nother = 1\n")), Err(ConfigError::Syntax(_))));
    }
}
