//! Running the program, for every test that does.

use std::path::Path;
use std::process::{Command, Output, Stdio};

pub fn uswap(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uswap"));
    command.args(words).stdin(Stdio::null()).output().expect("the binary runs")
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The one line on stderr of a command that must fail with `code` and say nothing else.
#[track_caller]
pub fn refused(words: &[&str], code: i32) -> String {
    let output = uswap(words);
    let line = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {line}");
    assert_eq!(text(&output.stdout), "", "{words:?}");
    assert_eq!(line.matches('\n').count(), 1, "{words:?}: {line}");
    assert!(line.starts_with("uswap: ") && line.contains("; "), "{words:?}: {line}");
    line
}

#[track_caller]
pub fn accepted(words: &[&str]) -> String {
    let output = uswap(words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

pub fn str(path: &Path) -> &str {
    path.to_str().expect("path")
}
