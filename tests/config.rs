//! Golden directories: each tests/golden/NN-name is the root of a machine. `expected` there is what
//! `uswap run` would do on it without flags, `expected.doctor` what `uswap doctor` finds.
//! USWAP_BLESS=1 rewrites them.

use std::fs;
use std::path::{Path, PathBuf};
use uswap::cli::examine;
use uswap::config::check;
use uswap::config::load::{Bytes, Keys, keys};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The settings, or the exit code and the message.
fn configured(root: &Path) -> String {
    let done = keys(root, None, Keys::default()).and_then(|keys| check::settings(root, keys));
    match done {
        Ok(settings) => format!("{settings:#?}\n"),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains("; "), "one line with a remedy: {text}");
            format!("exit {}\nuswap: {text}\n", error.exit_code())
        }
    }
}

fn examined(root: &Path) -> String {
    let probe = || Ok(vec!["USER_RECOVERY".to_owned(), "USER_COPY".to_owned()]);
    let rows = examine(root, &root.join("run/uswap"), &probe);
    let line = |row: &uswap::cli::Row| {
        format!("{:?} {}: {} | {}", row.level, row.name, row.found, row.fix).trim_end().to_owned()
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

fn compare(dir: &Path, file: &str, found: &str) -> Result<(), String> {
    let path = dir.join(file);
    if std::env::var_os("USWAP_BLESS").is_some() {
        fs::write(&path, found).expect("writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let same = expected == found;
    let name = path.display();
    if same { Ok(()) } else { Err(format!("{name}\n--- expected\n{expected}--- found\n{found}")) }
}

#[test]
fn golden_directories() {
    let mut directories: Vec<PathBuf> =
        fs::read_dir(golden()).expect("golden").flatten().map(|entry| entry.path()).collect();
    directories.sort();
    assert!(directories.len() > 15);
    let differences: Vec<String> = directories
        .iter()
        .filter_map(|dir| {
            if dir.to_string_lossy().contains("-doctor-") {
                compare(dir, "expected.doctor", &examined(dir)).err()
            } else {
                compare(dir, "expected", &configured(dir)).err()
            }
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_swap_table_that_cannot_be_understood_is_a_warning() {
    let root = tempfile::tempdir().expect("directory");
    fs::create_dir(root.path().join("proc")).expect("proc");
    fs::write(root.path().join("proc/swaps"), "Filename\n/dev/sda2 many\n").expect("swaps");
    let found = examined(root.path());
    assert!(found.contains("Warn swap areas: /proc/swaps: unreadable: /dev/sda2 many"), "{found}");
}

#[test]
fn a_named_file_must_be_readable_and_a_default_one_need_not_exist() {
    let root = golden().join("01-laptop");
    let text = |path: &str| {
        let error = keys(&root, Some(Path::new(path)), Keys::default()).expect_err(path);
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    assert!(text("/etc/uswap/none.toml").contains("cannot read /etc/uswap/none.toml"));
    assert!(text("/proc").contains("cannot read /proc"));
    assert_eq!(keys(&root, None, Keys::default()).expect("no file").size, None);
}

#[test]
fn flags_win_and_a_named_file_may_name_the_service() {
    let root = golden().join("03-every-key");
    let flags = Keys { depth: Some(100), size: Some(Bytes::Exact(8 << 30)), ..Keys::default() };
    let found = keys(&root, Some(Path::new("/etc/uswap/default.toml")), flags).expect("file");
    assert_eq!((found.depth, found.size), (Some(100), Some(Bytes::Exact(8 << 30))));
    assert_eq!((found.queues, found.name.as_deref()), (Some(2), Some("default")));
    let flags = Keys { name: Some("mine".into()), ..Keys::default() };
    let found = keys(&root, Some(Path::new("/etc/uswap/default.toml")), flags).expect("file");
    assert_eq!(found.name.as_deref(), Some("mine"));
}
