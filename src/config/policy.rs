//! The memory policy: a preset, a victim policy, both, or a file.

use crate::error::{StartError, StartResult};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use uswap_policy::{Settings, SettingsError};

/// The policy that a service has when nobody names one.
pub const DEFAULT: &str = "balanced";
/// How the name of a file ends.
const FILE_END: &str = ".toml";

/// A checked policy.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyChoice {
    /// As it was given.
    pub name: String,
    /// Its numbers.
    pub settings: Settings,
    /// What the file said, if it is from one.
    pub text: Option<String>,
}

impl fmt::Debug for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl PolicyChoice {
    /// Tells two policies of one name apart, as a file is that was changed. The same program gives
    /// the same digest.
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.settings).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// The policy of this name: `PRESET`, `VICTIM`, `PRESET/VICTIM`, or a file that ends in `.toml`
/// (below `root`).
pub fn named(root: &Path, name: &str) -> StartResult<PolicyChoice> {
    let mut read = None;
    let settings = if is_file(name) {
        let path = super::under(root, Path::new(name));
        let text = std::fs::read_to_string(&path).map_err(|e| {
            let remedy = "give a file, or the name of a preset (`uswap run --help`)";
            StartError::usage(format!("policy: cannot read {} ({e})", path.display()), remedy)
        })?;
        let settings = Settings::parse(&text);
        read = Some(text);
        settings.map_err(|e| told(&format!("policy {}: ", path.display()), &e))
    } else {
        Settings::named(name).map_err(|e| told("", &e))
    };
    Ok(PolicyChoice { name: name.to_owned(), settings: settings?, text: read })
}

/// Whether a policy of this name is a file.
pub fn is_file(name: &str) -> bool {
    name.ends_with(FILE_END)
}

fn told(of: &str, error: &SettingsError) -> StartError {
    let SettingsError { key, what, remedy } = error;
    StartError::usage(format!("{of}{key}: {what}"), remedy.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> String {
        named(Path::new("/"), name).expect_err("refused").to_string()
    }

    #[test]
    fn presets_and_victims_are_known_and_others_are_told_which_are() {
        for name in [DEFAULT, "dense", "sieve", "dense/lru"] {
            assert_eq!(named(Path::new("/"), name).expect("known").name, name);
        }
        let text = refused("balancd");
        assert!(text.contains("\"balancd\"") && text.contains("balanced, dense"), "{text}");
        let text = refused("dense/fastest");
        assert!(text.contains("fastest") && text.contains("s3-fifo"), "{text}");
    }

    #[test]
    fn a_file_builds_on_a_preset_and_its_mistakes_are_named() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("mine.toml");
        let name = path.to_str().expect("UTF-8");
        assert!(refused(name).contains("cannot read"));
        std::fs::write(&path, "base = \"dense\"\nvictim = \"lru\"\n").expect("file");
        assert_eq!(named(Path::new("/"), name).expect("right").settings.victim, "lru");
        let low = "base = \"balanced\"\n[watermarks]\nlow_permille = 10\n";
        std::fs::write(&path, low).expect("file");
        let text = refused(name);
        assert!(text.contains("mine.toml: watermarks.low_permille: 10 is not above"), "{text}");
    }
}
