//! A build profile: compiler, optimisation level, link-time optimisation and profile feedback, in words.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The words of a profile, in the order of the canonical text. `default` stands alone.
pub const WORDS: &[&str] = &["gcc", "clang", "O1", "O2", "O3", "Os", "lto", "pgo"];

/// A compiler that is named, where the default is what `CC` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compiler {
    /// GNU.
    Gcc,
    /// LLVM.
    Clang,
}

/// An optimisation level that is named, where the default is that of CMake's build type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OptLevel {
    /// `-O1`
    O1,
    /// `-O2`
    O2,
    /// `-O3`
    O3,
    /// `-Os`
    Os,
}

/// How a build differs from config/build.toml. The default does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Profile {
    /// None: `CC`, or `cc`.
    pub compiler: Option<Compiler>,
    /// None: that of config/build.toml's build type.
    pub level: Option<OptLevel>,
    /// libevent is optimised as a whole.
    pub lto: bool,
    /// libevent is optimised by what a training run recorded.
    pub pgo: bool,
}

/// Why a text is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not one of the words.
    #[error("`{0}` is no word of a build profile; known are {known}, joined by `+`", known = WORDS.join(", "))]
    Unknown(String),
    /// Twice the same.
    #[error("a build profile with `{0}` twice; give each of {known} once", known = WORDS.join(", "))]
    Doubled(String),
    /// Two compilers, or two levels.
    #[error("a build profile cannot have both `{0}` and `{1}`; known are {known}", known = WORDS.join(", "))]
    Contradiction(String, String),
}

impl Compiler {
    /// The word, and the name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Compiler::Gcc => "gcc",
            Compiler::Clang => "clang",
        }
    }
}

impl OptLevel {
    /// The word; the flag is `-` and the word.
    pub fn name(self) -> &'static str {
        match self {
            OptLevel::O1 => "O1",
            OptLevel::O2 => "O2",
            OptLevel::O3 => "O3",
            OptLevel::Os => "Os",
        }
    }
}

impl Profile {
    /// Understands words joined by `+`, in any order, flags accepted for words: `clang+O3`, `-flto+-O3`.
    /// `default` alone, and nothing at all, are the default.
    pub fn parse_words(text: &str) -> Result<Profile, ProfileError> {
        let mut profile = Profile::default();
        if text.is_empty() || text == DEFAULT {
            return Ok(profile);
        }
        for given in text.split('+') {
            let word = word(given).ok_or_else(|| ProfileError::Unknown(given.to_owned()))?;
            match word {
                "gcc" => once(&mut profile.compiler, Compiler::Gcc, Compiler::name)?,
                "clang" => once(&mut profile.compiler, Compiler::Clang, Compiler::name)?,
                "O1" => once(&mut profile.level, OptLevel::O1, OptLevel::name)?,
                "O2" => once(&mut profile.level, OptLevel::O2, OptLevel::name)?,
                "O3" => once(&mut profile.level, OptLevel::O3, OptLevel::name)?,
                "Os" => once(&mut profile.level, OptLevel::Os, OptLevel::name)?,
                "lto" => switch(&mut profile.lto, word)?,
                _ => switch(&mut profile.pgo, word)?,
            }
        }
        Ok(profile)
    }

    /// Whether a text is one word of a profile: what follows a `+` and is none belongs to a name before it.
    pub fn is_word(text: &str) -> bool {
        text == DEFAULT || word(text).is_some()
    }

    /// Whether it is what config/build.toml says.
    pub fn is_default(&self) -> bool {
        *self == Profile::default()
    }
}

/// What the default profile is called.
const DEFAULT: &str = "default";

/// The word that is meant: `-O3` is `O3`, `-flto` is `lto`.
fn word(text: &str) -> Option<&'static str> {
    let bare = match text.strip_prefix('-') {
        Some("flto") => "lto",
        // The other words are no flags of a compiler.
        Some(flag) if flag.starts_with('O') => flag,
        Some(_) => return None,
        None => text,
    };
    WORDS.iter().find(|word| **word == bare).copied()
}

fn once<T: Copy + PartialEq>(place: &mut Option<T>, value: T, name: fn(T) -> &'static str) -> Result<(), ProfileError> {
    match place.replace(value) {
        None => Ok(()),
        Some(before) if before == value => Err(ProfileError::Doubled(name(value).to_owned())),
        Some(before) => Err(ProfileError::Contradiction(name(before).to_owned(), name(value).to_owned())),
    }
}

fn switch(place: &mut bool, word: &str) -> Result<(), ProfileError> {
    if std::mem::replace(place, true) { Err(ProfileError::Doubled(word.to_owned())) } else { Ok(()) }
}

/// The canonical text: equal profiles have equal texts, and the text is a profile again.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.compiler.map(Compiler::name),
            self.level.map(OptLevel::name),
            self.lto.then_some("lto"),
            self.pgo.then_some("pgo"),
        ];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        f.write_str(if words.is_empty() { DEFAULT } else { "" })?;
        f.write_str(&words.join("+"))
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        Profile::parse_words(text)
    }
}

impl TryFrom<String> for Profile {
    type Error = ProfileError;

    fn try_from(text: String) -> Result<Self, ProfileError> {
        Profile::parse_words(&text)
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> String {
        profile.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Profile::parse_words(text).unwrap_err().to_string()
    }

    #[test]
    fn words_in_any_order_have_one_canonical_text() {
        for (text, canonical) in [
            ("gcc", "gcc"),
            ("O3", "O3"),
            ("-O3", "O3"),
            ("-Os", "Os"),
            ("-flto", "lto"),
            ("pgo+lto+O3+clang", "clang+O3+lto+pgo"),
            ("-flto+-O3+gcc", "gcc+O3+lto"),
            ("", "default"),
            ("default", "default"),
        ] {
            let profile = Profile::parse_words(text).unwrap();
            assert_eq!(profile.to_string(), canonical, "{text}");
            assert_eq!(Profile::parse_words(canonical).unwrap(), profile, "{text}");
            assert_eq!(profile.is_default(), canonical == "default", "{text}");
        }
        for word in WORDS {
            assert_eq!(Profile::parse_words(word).unwrap().to_string(), *word);
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_what_is_known() {
        for (text, named) in [
            ("gcc+clang", "both `gcc` and `clang`"),
            ("O2+O3", "both `O2` and `O3`"),
            ("O3+-O3", "`O3` twice"),
            ("lto+-flto", "`lto` twice"),
            ("pgo+O1+pgo", "`pgo` twice"),
            ("O9", "`O9`"),
            ("o3", "`o3`"),
            ("-lto", "`-lto`"),
            ("-gcc", "`-gcc`"),
            ("O3+", "``"),
            ("O3+default", "`default`"),
        ] {
            let message = error(text);
            assert!(message.contains(named), "{text}: {message}");
            assert!(WORDS.iter().all(|word| message.contains(word)), "{text}: {message}");
        }
    }

    #[test]
    fn words_are_told_from_parts_of_names() {
        for word in ["gcc", "-O2", "-flto", "pgo", "default"] {
            assert!(Profile::is_word(word), "{word}");
        }
        for other in ["", "x.patch", "GCC", "O4", "-pgo", "lto.patch", "gcc+O3"] {
            assert!(!Profile::is_word(other), "{other}");
        }
    }

    #[test]
    fn in_documents_it_is_its_text() {
        let profile = Profile::parse_words("O3+lto").unwrap();
        assert_eq!(serde_json::to_string(&profile).unwrap(), "\"O3+lto\"");
        assert_eq!(serde_json::from_str::<Profile>("\"lto+O3\"").unwrap(), profile);
        assert!(serde_json::from_str::<Profile>("\"O3+O3\"").is_err());
    }
}
