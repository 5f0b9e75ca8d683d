//! The policy's script, as the control thread looks at it: one that breaks is told, a file that
//! changes is taken over, and who has just taken over asks what was set meanwhile.
//!
//! The mover reads no file. Whoever takes over has the text that is kept with the state, never the
//! file: reading that may take a disk.

use super::device::Context;
use super::live;
use crate::config::policy;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;
use uswap_policy::{Level, Pressure};

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self { inode: found.ino(), len: found.len(), modified: found.modified().ok() })
    }
}

/// What it has seen and said.
#[derive(Debug, Default)]
pub struct PolicyWatch {
    /// It has asked what is kept.
    begun: bool,
    seen: Option<Stamp>,
    /// That version has been read.
    read: bool,
    /// That the script is broken has been said.
    told: bool,
}

impl PolicyWatch {
    /// Looks; what there is to tell, after which other settings may hold. May read a file while
    /// memory is not short, and compiles it when it has changed.
    pub fn look(&mut self, context: &Context<'_>) -> Option<String> {
        if !self.begun {
            self.begun = true;
            match live::adopt_kept(context) {
                Ok(None) => {}
                Ok(Some(name)) => return Some(format!("policy is {name}, as it was set")),
                Err(e) => return Some(format!("the policy that was set cannot be had: {e}")),
            }
        }
        let Some((name, script)) = context.live.script() else {
            *self = Self { begun: true, ..Self::default() };
            return None;
        };
        let broken = script.broken();
        self.told &= broken.is_some();
        if let (Some(why), false) = (broken, self.told) {
            self.told = true;
            context.live.note_script_error(None);
            let base = script.base();
            return Some(format!(
                "policy script given up: {why}; the {base} preset decides until the file changes \
                 or the policy is set again"
            ));
        }
        let calm = context
            .movement
            .shown()
            .plan
            .is_some_and(|plan| plan.pressure == Pressure::Calm && plan.level == Level::Plenty);
        if !calm || !self.has_changed(Path::new(&name)) {
            return None;
        }
        let text = fs::read_to_string(&name).ok().filter(|text| text != script.text())?;
        match policy::of_text(name.clone(), &name, text).and_then(|new| live::take(context, new)) {
            Ok(()) => Some(format!("policy is {name}, in its new version")),
            Err(e) => {
                let message = format!("{e}; the version before it stays");
                context.live.note_script_error(Some(message.clone()));
                Some(message)
            }
        }
    }

    /// Whether there is another version of the file since the last time that it said so. Not before
    /// it was the same in two looks: somebody may be writing it.
    fn has_changed(&mut self, path: &Path) -> bool {
        let found = Stamp::of(path);
        if found != self.seen {
            (self.seen, self.read) = (found, false);
            return false;
        }
        !std::mem::replace(&mut self.read, true) && found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_new_once_and_not_while_somebody_writes_it() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("mine.rhai");
        let mut watch = PolicyWatch::default();
        assert!(!watch.has_changed(&path) && !watch.has_changed(&path), "there is none");
        for text in ["fn rank(page) { 1 }", "fn rank(page) {", "fn rank(page) { 2 } // ..."] {
            fs::write(&path, text).expect("file");
            assert!(!watch.has_changed(&path), "it may still be written");
            assert!(watch.has_changed(&path));
            assert!(!watch.has_changed(&path), "that has been said");
        }
        fs::remove_file(&path).expect("file");
        assert!(!watch.has_changed(&path) && !watch.has_changed(&path), "it is gone");
    }
}
