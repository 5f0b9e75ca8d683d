//! Configuration files: what is wrong in one shows when its service starts, which may be at boot.

use super::{Level, Row};
use crate::config::load::{self, Keys};
use crate::config::{check, under};
use std::path::Path;

/// A row for every service's file.
pub fn rows(root: &Path) -> Vec<Row> {
    let dir = load::default_file("x").with_file_name("");
    let entries = std::fs::read_dir(under(root, &dir)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort();
    names.iter().map(|name| one(root, name)).collect()
}

fn one(root: &Path, name: &str) -> Row {
    let flags = Keys { name: Some(name.to_owned()), ..Keys::default() };
    let path = load::file_of(None, Some(name));
    let checked = load::keys(root, None, flags.clone())
        .and_then(|keys| check::settings(root, keys))
        .map_err(|e| load::located(root, &path, &flags, e));
    let why = "a service whose file is wrong does not start, which may show only at boot";
    let title = format!("configuration of {name}");
    match checked {
        Ok(_) => Row::new(&title, Level::Ok, path.display().to_string(), why, ""),
        Err(e) => {
            let text = e.to_string();
            let (found, fix) = text.split_once("; ").unwrap_or((&text, "correct it"));
            Row::new(&title, Level::Fail, found, why, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_a_row_and_its_mistake_has_a_place() {
        let root = tempfile::tempdir().expect("directory");
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("directory");
            std::fs::write(path, text).expect("file");
        };
        file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\n");
        file("etc/uswap/a.toml", "size = \"50%\"\n");
        file("etc/uswap/b.toml", "\ndepth = 1\n");
        let rows = rows(root.path());
        let shown: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.level)).collect();
        assert_eq!(shown, [("configuration of a", Level::Ok), ("configuration of b", Level::Fail)]);
        assert_eq!(rows[1].found, "/etc/uswap/b.toml:2: depth: 1 is out of range");
        assert_eq!(rows[1].fix, "use a number from 8 to 128");
    }
}
