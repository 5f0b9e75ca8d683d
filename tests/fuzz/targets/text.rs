//! What people write.

use super::text;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use uswap::cli;
use uswap::config::load::{self, Bytes};
use uswap::config::{Settings, check, size as sizes, zram_generator as zram};
use uswap::error::StartError;
use uswap::units::PAGE_SIZE;

/// A machine with enough of everything.
fn root() -> &'static Path {
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir(root.path().join("proc")).expect("directory");
        let memory = "MemTotal: 99999999 kB\nMemAvailable: 99999999 kB\n";
        fs::write(root.path().join("proc/meminfo"), memory).expect("file");
        root
    };
    ROOT.get_or_init(make).path()
}

/// An error is one line that says what to do.
fn judge(error: &StartError) {
    let line = error.to_string();
    assert!(line.contains("; "), "no remedy: {line}");
}

fn fits(settings: &Settings) {
    let page = PAGE_SIZE as u64;
    assert!(settings.size > 0 && settings.size.is_multiple_of(page), "{settings:?}");
    assert!(settings.pool.is_multiple_of(page), "{settings:?}");
    assert!(check::name(&settings.name).is_ok(), "{settings:?}");
    let words = settings.words();
    assert_eq!(words["name"], settings.name);
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    // The spill's file is the machine's.
    match load::parse(Path::new("file.toml"), text) {
        Ok(keys) if keys.spill.is_none() => match check::settings(root(), keys) {
            Ok(settings) => fits(&settings),
            Err(e) => judge(&e),
        },
        Ok(_) => {}
        Err(e) => {
            judge(&e);
            assert!(e.to_string().starts_with("file.toml:"), "{e}");
        }
    }
}

/// The words of a command line, between zeros.
pub fn command_line(bytes: &[u8]) {
    let mut words: Vec<OsString> = vec!["uswap".into(), "run".into()];
    words.extend(bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())));
    // The spill's file is the machine's.
    if words.iter().any(|word| word.as_encoded_bytes().starts_with(b"--sp")) {
        return;
    }
    match cli::settings_of(root(), words) {
        Ok(settings) => settings.iter().for_each(fits),
        Err(e) => judge(&e),
    }
}

/// A size, or what it is a part of.
pub fn size(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match Bytes::parse(text) {
        Ok(bytes) => {
            for ram in [0, 1, 4096, 700 << 20, 16 << 30, 1 << 50, u64::MAX] {
                match bytes.on(ram) {
                    Ok(found) => assert!(
                        matches!(bytes, Bytes::Exact(_)) || found.is_multiple_of(PAGE_SIZE as u64),
                        "{text}: {found}"
                    ),
                    Err(e) => assert!(e.contains("; "), "no remedy: {e}"),
                }
            }
        }
        Err(e) => assert!(!e.is_empty(), "{text}"),
    }
    if let Ok(bytes) = sizes::parse(text) {
        assert_eq!(sizes::parse(&bytes.to_string()), Ok(bytes));
        // Rounded, which the last of all numbers cannot be.
        let told = sizes::format(bytes);
        assert!(sizes::parse(&told).is_ok() || bytes > u64::MAX / 2, "{told}");
    }
}

/// A file of zram-generator. What is made of it can be read.
pub fn zram_generator(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let halves = text.split_once('\x01').unwrap_or((text, ""));
    let file = |name: &str, text: &str| (PathBuf::from(name), text.to_owned());
    match zram::import(&[file("a.conf", halves.0), file("b.conf", halves.1)]) {
        Ok(made) => {
            let read = load::parse(Path::new("made.toml"), &made);
            assert!(read.is_ok(), "{read:?} of\n{made}");
        }
        Err(e) => assert!(!e.is_empty() && !e.contains('\n'), "{e}"),
    }
}

/// A policy's file. One that is right makes a policy.
pub fn policy(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match uswap_policy::Settings::parse(text) {
        Ok(settings) => {
            assert_eq!(settings.check(), Ok(()));
            assert!(uswap_policy::Policy::new(settings).is_ok());
        }
        Err(e) => assert!(!e.what.is_empty() && !e.remedy.is_empty(), "{e:?}"),
    }
}
