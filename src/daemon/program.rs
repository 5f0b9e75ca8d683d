//! What servers and standbys are started from and with: the program's own file, resident, the words
//! of its command line, and the policy's file as it was when it was given.
//!
//! `set` changes words and policy for those that come later. Whatever is changed is written beside
//! and renamed, so that whoever starts reads the old or the new.

use crate::config::policy::{self, PolicyChoice};
use crate::sys::map::Held;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the program in the state directory.
pub const PROGRAM: &str = "uswap";

/// Its file in the state directory: the words that servers are started with.
const WORDS_FILE: &str = "words";

/// Its file in the state directory: the policy of this name, if that is from a file.
fn policy_file(name: &str) -> &'static str {
    if policy::is_script(name) { "policy.rhai" } else { "policy.toml" }
}

/// Longest part of a file that is copied at a time.
const PIECE: usize = 256 << 10;

/// Copies an executable file into the state directory, without what only debuggers read.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let mut left = loaded_len(&source)?;
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o700).open(to)?;
    let mut piece = vec![0; PIECE];
    let mut reader = &source;
    while left > 0 {
        let len = (left as usize).min(PIECE);
        reader.read_exact(&mut piece[..len])?;
        target.write_all(&piece[..len])?;
        left -= len as u64;
    }
    // The table of sections, which is behind what is loaded.
    target.write_all_at(&[0; 8], SECTIONS_AT)?;
    target.write_all_at(&[0; 6], SECTION_COUNT_AT)
}

/// Keeps the files in memory that the loader needs besides the program: itself and libraries, all
/// of them, also what this process has its own copy of. What cannot be kept may be read from a disk
/// again.
pub fn hold_libraries() -> Vec<Held> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut paths: Vec<&Path> = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(before, _)| Path::new(&line[before.len()..])))
        .filter(|path| *path != own)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().filter_map(|path| Held::new(&File::open(path).ok()?).ok()).collect()
}

/// Places in the header of a 64-bit ELF file (elf(5)): e_shoff; e_shentsize, e_shnum, e_shstrndx.
const SECTIONS_AT: u64 = 40;
const SECTION_COUNT_AT: u64 = 58;

/// Bytes from the start of the file that its segments cover: the rest is never mapped.
fn loaded_len(file: &File) -> io::Result<u64> {
    let bad = || io::Error::other("not a 64-bit little-endian ELF program");
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).map_err(|_| bad())?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(bad());
    }
    let word = |bytes: &[u8], at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let half = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (table, size, count) = (word(&head, 32), half(54), half(56));
    if size < 56 {
        return Err(bad());
    }
    let mut end = 0;
    for i in 0..count {
        let mut segment = [0; 56];
        let at = table.checked_add((i * size) as u64).ok_or_else(bad)?;
        file.read_exact_at(&mut segment, at).map_err(|_| bad())?;
        end = end.max(word(&segment, 8).saturating_add(word(&segment, 32)));
    }
    let there = file.metadata()?.len();
    if end == 0 || end > there { Err(bad()) } else { Ok(end) }
}

/// Writes the words down that servers are started with.
pub fn write_words(dir: &Path, words: &[OsString]) -> io::Result<()> {
    let text: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    replace(dir, WORDS_FILE, &text)
}

/// Gives the flag this value among the words of [`write_words`].
pub fn change_word(dir: &Path, flag: &str, value: &str) -> io::Result<()> {
    let mut words = read_words(dir)?;
    match words.iter().position(|word| word == flag) {
        Some(at) if at + 1 < words.len() => words[at + 1] = value.into(),
        _ => words.extend([flag.into(), value.into()]),
    }
    write_words(dir, &words)
}

/// Keeps the text of a policy's file, if it is from one: the file may change or go, and reading it
/// may take a disk.
pub fn keep_policy(dir: &Path, policy: &PolicyChoice) -> io::Result<()> {
    policy
        .text
        .as_ref()
        .map_or(Ok(()), |text| replace(dir, policy_file(&policy.name), text.as_bytes()))
}

/// Where [`keep_policy`] keeps the policy of this name, if it did.
pub fn kept_policy(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(policy_file(name));
    Some(path).filter(|path| policy::is_file(name) && path.exists())
}

fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    fs::write(&beside, bytes)?;
    fs::rename(beside, dir.join(name))
}

/// What [`write_words`] wrote.
pub fn read_words(dir: &Path) -> io::Result<Vec<OsString>> {
    let text = fs::read(dir.join(WORDS_FILE))?;
    let words = text.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_os_string());
    let mut words: Vec<OsString> = words.collect();
    words.pop_if(|last| last.is_empty());
    Ok(words)
}

/// The value of a flag among the words of [`write_words`].
pub fn read_word(dir: &Path, flag: &str) -> io::Result<Option<String>> {
    let words = read_words(dir)?;
    let at = words.iter().position(|word| word == flag);
    Ok(at.and_then(|at| words.get(at + 1)?.to_str()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    #[test]
    fn words_come_back_as_they_were() {
        let dir = tempfile::tempdir().expect("directory");
        for words in [vec![], vec!["--size", "1", ""], vec!["--spill", "/a b\nc"]] {
            let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            words.push(OsString::from_vec(vec![0xff, b'x']));
            write_words(dir.path(), &words).expect("written");
            assert_eq!(read_words(dir.path()).expect("read"), words);
        }
    }

    #[test]
    fn a_word_changes_or_is_added() {
        let dir = tempfile::tempdir().expect("directory");
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        write_words(dir.path(), &words(&["--size", "1", "--policy", "dense"])).expect("written");
        change_word(dir.path(), "--policy", "balanced").expect("written");
        change_word(dir.path(), "--poll-us", "7").expect("written");
        let wanted = words(&["--size", "1", "--policy", "balanced", "--poll-us", "7"]);
        assert_eq!(read_words(dir.path()).expect("read"), wanted);
        let word = |flag| read_word(dir.path(), flag).expect("read");
        assert_eq!(word("--policy").as_deref(), Some("balanced"));
        assert_eq!((word("--metrics"), word("7")), (None, None));
    }

    #[test]
    fn a_policy_file_is_kept_as_it_was_and_a_preset_needs_none() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("mine.toml");
        fs::write(&file, "base = \"dense\"\n").expect("file");
        let name = file.to_str().expect("UTF-8");
        let choice = policy::named(Path::new("/"), name).expect("right");
        assert_eq!(kept_policy(dir.path(), name), None);
        keep_policy(dir.path(), &choice).expect("kept");
        fs::write(&file, "base = \"no such\"\n").expect("file");
        let kept = kept_policy(dir.path(), name).expect("there");
        let again = policy::named(Path::new("/"), kept.to_str().expect("UTF-8")).expect("right");
        assert_eq!(again.settings, choice.settings);
        assert_eq!(kept_policy(dir.path(), "dense"), None);
    }

    #[test]
    fn a_script_is_kept_as_one() {
        let dir = tempfile::tempdir().expect("directory");
        let (name, text) = ("/somewhere/mine.rhai", "fn rank(page) { page.reads }");
        let choice = policy::of_text(name.into(), name, text.into()).expect("right");
        keep_policy(dir.path(), &choice).expect("kept");
        let kept = kept_policy(dir.path(), name).expect("there");
        let again = policy::named(Path::new("/"), kept.to_str().expect("UTF-8")).expect("right");
        assert_eq!((again.script, again.text), (choice.script, choice.text));
        assert_eq!(kept_policy(dir.path(), "/somewhere/mine.toml"), None);
    }

    #[test]
    fn a_copy_runs_and_is_no_longer_than_what_is_loaded() {
        let dir = tempfile::tempdir().expect("directory");
        let to = dir.path().join(PROGRAM);
        let own = std::env::current_exe().expect("a program");
        for _ in 0..2 {
            copy(&own, &to).expect("copied");
        }
        let (whole, part) = (fs::metadata(&own).expect("file"), fs::metadata(&to).expect("file"));
        assert!(part.len() < whole.len(), "tests have symbols");
        let listed = Command::new(&to).arg("--list").output().expect("it runs");
        assert!(listed.status.success() && listed.stdout.len() > 100);
    }

    #[test]
    fn libraries_are_found() {
        assert!(!hold_libraries().is_empty() || cfg!(target_feature = "crt-static"));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        // Segments that would be at the end of all numbers.
        let mut far = [0xff; 128];
        far[..6].copy_from_slice(b"\x7fELF\x02\x01");
        for content in [&b""[..], b"#!/bin/sh\n", &[b'x'; 4096], &far] {
            fs::write(&from, content).expect("file");
            let error = copy(&from, &to).expect_err("refused").to_string();
            assert!(error.contains("ELF"), "{error}");
            assert!(!to.exists());
        }
    }
}
