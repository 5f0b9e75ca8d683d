//! The memory policy: a preset, a victim policy, both, or a file with numbers or a script.

use crate::error::{StartError, StartResult};
use crate::script::{self, Script};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use uswap_policy::{Policy, Settings, SettingsError};

/// The policy that a service has when nobody names one.
pub const DEFAULT: &str = "balanced";
/// How the name of a file with numbers ends.
const NUMBERS_END: &str = ".toml";

/// A checked policy.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyChoice {
    /// As it was given.
    pub name: String,
    /// Its numbers.
    pub settings: Settings,
    /// What the file said, if it is from one.
    pub text: Option<String>,
    /// The script, if it is one.
    pub script: Option<Script>,
}

impl fmt::Debug for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl PolicyChoice {
    /// Who decides, as if nothing had been decided yet.
    pub fn policy(&self) -> Policy {
        self.policy_with(|_| {}).expect("settings are checked")
    }

    /// The same with other numbers. Refused: what they may not be.
    pub fn policy_with(&self, change: impl Fn(&mut Settings)) -> Result<Policy, SettingsError> {
        if let Some(script) = &self.script {
            return script.policy_with(change);
        }
        let mut settings = self.settings.clone();
        change(&mut settings);
        Policy::new(settings)
    }

    /// The numbers that decide now: of a script that was given up, those of its base.
    pub fn in_force(&self) -> &Settings {
        self.script.as_ref().map_or(&self.settings, Script::in_force)
    }

    /// Who says which pages go first.
    pub fn victim(&self) -> &str {
        self.script.as_ref().map_or(&self.settings.victim, Script::victim)
    }

    /// Tells two policies of one name apart, as a file is that was changed. The same program gives
    /// the same digest.
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.settings).hash(&mut hasher);
        if let Some(script) = &self.script {
            script.text().hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }
}

/// The policy of this name: `PRESET`, `VICTIM`, `PRESET/VICTIM`, or a file that ends in `.toml` or
/// `.rhai` (below `root`). A file's name becomes absolute: who reads it again may be elsewhere.
pub fn named(root: &Path, name: &str) -> StartResult<PolicyChoice> {
    if !is_file(name) {
        let settings = Settings::named(name).map_err(|e| told("", &e))?;
        return Ok(PolicyChoice { name: name.to_owned(), settings, text: None, script: None });
    }
    let name = resolved(name)?;
    let path = super::under(root, Path::new(&name));
    let text = std::fs::read_to_string(&path).map_err(|e| {
        let remedy = "give a file, or the name of a preset (`uswap run --help`)";
        StartError::usage(format!("policy: cannot read {} ({e})", path.display()), remedy)
    })?;
    of_text(name, &path.display().to_string(), text)
}

/// The policy that a file of this name would be if it said this. `place`: the file, for messages.
pub fn of_text(name: String, place: &str, text: String) -> StartResult<PolicyChoice> {
    let script = match is_script(&name) {
        true => Some(Script::compile(place, &text)?),
        false => None,
    };
    let settings = match &script {
        Some(script) => script.settings().clone(),
        None => Settings::parse(&text).map_err(|e| told(&format!("policy {place}: "), &e))?,
    };
    Ok(PolicyChoice { name, settings, text: Some(text), script })
}

/// The name of a policy as it is for everybody: a file's absolute.
pub fn resolved(name: &str) -> StartResult<String> {
    if !is_file(name) {
        return Ok(name.to_owned());
    }
    let path = super::check::absolute("policy", Path::new(name))?;
    path.into_os_string().into_string().map_err(|path| {
        StartError::usage(format!("policy: {path:?} is not UTF-8"), "give the file another name")
    })
}

/// Whether a policy of this name is a file.
pub fn is_file(name: &str) -> bool {
    name.ends_with(NUMBERS_END) || is_script(name)
}

/// Whether it is a script.
pub fn is_script(name: &str) -> bool {
    name.ends_with(script::FILE_END)
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

    #[test]
    fn a_script_is_read_like_a_file_and_told_from_another() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("mine.rhai");
        let name = path.to_str().expect("UTF-8");
        std::fs::write(&path, "fn rank(page) { page.age_ticks }\n").expect("file");
        let one = named(Path::new("/"), name).expect("right");
        assert_eq!(
            (one.victim(), one.script.as_ref().map(Script::base)),
            ("the script", Some(DEFAULT))
        );
        std::fs::write(&path, "fn rank(page) { page.age_ticks / 2 }\n").expect("file");
        let two = named(Path::new("/"), name).expect("right");
        assert!(one != two && one.digest() != two.digest() && one.settings == two.settings);
        std::fs::write(&path, "fn rank(page) {\n    page.aeg_ticks\n}\n").expect("file");
        let text = refused(name);
        assert!(text.contains("mine.rhai:2: rank: ") && text.contains("aeg_ticks"), "{text}");
    }
}
