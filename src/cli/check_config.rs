//! `uswap check-config`: whether configuration files are right, before a service finds out.

use super::{complain, say};
use crate::config::load::{self, Keys};
use crate::config::{check, size};
use crate::error::{StartError, StartResult};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Prints a line for each file that is right, with what it amounts to on this machine. Each file's
first mistake goes to stderr with file, line and what to write. Exit code 2 if there was one.")]
pub struct CheckConfig {
    /// File to check, with its drop-ins in FILE.d [default: all of /etc/uswap/*.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl CheckConfig {
    /// Checks one file or all.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let files = match &self.file {
            Some(file) => vec![file.clone()],
            None => all()?,
        };
        let mut wrong = None;
        for file in &files {
            match self.check(root, file) {
                Ok(line) => say(&line)?,
                Err(e) => {
                    if let Some(before) = wrong.replace(e) {
                        complain(&before);
                    }
                }
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// A line about a file that is right. A file that was not named is its service's.
    fn check(&self, root: &Path, file: &Path) -> StartResult<String> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let flags = Keys { name: Some(name).filter(|_| self.file.is_none()), ..Keys::default() };
        let config = self.file.as_deref();
        let settings = load::keys(root, config, flags.clone())
            .and_then(|keys| check::settings(root, keys))
            .map_err(|e| load::located(root, file, &flags, e))?;
        let (size, pool) = (size::format(settings.size), size::format(settings.pool));
        let (target, codec) = (settings.target.name(), settings.codec.name());
        Ok(format!(
            "{}: right: service {}, target {target}, size {size}, pool {pool}, codec {codec}\n",
            file.display(),
            settings.name
        ))
    }
}

/// Every service's file.
fn all() -> StartResult<Vec<PathBuf>> {
    let dir = load::default_file("x").with_file_name("");
    let entries = std::fs::read_dir(&dir).map_err(|e| {
        StartError::failure(
            format!("cannot read {}: {e}", dir.display()),
            "name a file, or begin with `uswap generate config`",
        )
    })?;
    let files = files_of(entries.flatten().map(|entry| entry.path()));
    if files.is_empty() {
        return Err(StartError::failure(
            format!("no file in {}", dir.display()),
            "a service without one has the defaults; `uswap generate config` shows every key",
        ));
    }
    Ok(files)
}

/// The files of the services that have something among `paths`: a file, or drop-ins for one that
/// need not be there.
fn files_of(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let is_toml = |path: &Path| path.extension().is_some_and(|end| end == "toml");
    let file = |path: PathBuf| match path.is_dir() {
        true => {
            Some(path.with_extension("")).filter(|_| path.extension().is_some_and(|e| e == "d"))
        }
        false => Some(path),
    };
    let found: BTreeSet<PathBuf> = paths.filter_map(file).filter(|path| is_toml(path)).collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_alone_are_a_service_too() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["a.toml.d", "b.toml.d", "c.d", "d.toml"] {
            std::fs::create_dir(at(name)).expect("directory");
        }
        for name in ["b.toml", "e.toml", "f.toml~"] {
            std::fs::write(at(name), "").expect("file");
        }
        let entries = std::fs::read_dir(dir.path()).expect("there").flatten();
        let found = files_of(entries.map(|entry| entry.path()));
        assert_eq!(found, [at("a.toml"), at("b.toml"), at("e.toml")]);
    }
}
