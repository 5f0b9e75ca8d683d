//! Real memory for the guests to swap: captured here, from programs that run here, kept below
//! target/.

use crate::{Outcome, cargo, root, run, target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Neighbouring pages that stay together when captures are mixed (256 KiB).
const RUN_BYTES: usize = 64 * 4096;
/// How much of each program.
const MIB_EACH: &str = "64";
/// When a compilation has filled its heaps but not ended, and when the scripts sit on their data.
const COMPILER_MS: &str = "4000";

/// The file of pages.
pub fn path() -> PathBuf {
    target().join("vm/pages")
}

/// Python holding the syntax trees of its own library.
const PYTHON: &str = "\
import ast, glob, os, time
names = sorted(glob.glob(os.path.dirname(os.__file__) + '/*.py'))[:120]
trees = [ast.parse(open(n, encoding='utf-8', errors='replace').read()) for n in names]
time.sleep(60)";

/// Perl holding the words of its own library, counted.
const PERL: &str = r#"
my %seen; my @lines;
for my $d (@INC) { for my $f (glob("$d/*.pm $d/*/*.pm")) { open(my $h, '<', $f) or next;
    while (<$h>) { push @lines, $_; $seen{$_}++ for split /\W+/ } last if @lines > 400000 } }
sleep 60"#;

/// Makes the file unless it is there.
pub fn provide() -> Outcome {
    if fs::metadata(path()).is_ok_and(|m| m.len() > 0) { Ok(()) } else { capture() }
}

fn take(out: &Path, command: &[&std::ffi::OsStr], after_ms: Option<&str>) -> Outcome {
    let mut capture = Command::new(target().join("release/capture"));
    capture.current_dir(root()).args(["--max-mib", MIB_EACH]);
    if let Some(ms) = after_ms {
        capture.args(["--after-ms", ms]);
    }
    run(capture.arg(out).arg("--exec").args(command))
}

/// Captures a compilation and the interpreters that are here, and mixes them.
pub fn capture() -> Outcome {
    let directory = target().join("vm");
    let scratch = directory.join("capture");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    println!("capturing memory of cargo and rustc while they build this workspace");
    let build = scratch.join("build");
    let cargo = cargo();
    let words = ["build", "--quiet", "--release", "--workspace", "--target-dir"];
    let mut command = vec![cargo.get_program()];
    command.extend(words.iter().map(std::ffi::OsStr::new));
    command.push(build.as_os_str());
    let mut taken = vec![scratch.join("rustc.pages")];
    take(&taken[0], &command, Some(COMPILER_MS))?;
    for (program, flag, text) in [("python3", "-c", PYTHON), ("perl", "-e", PERL)] {
        let there = Command::new(program).args([flag, "1"]).output();
        if !there.is_ok_and(|o| o.status.success()) {
            println!("no {program} here; going on without its memory");
            continue;
        }
        println!("capturing memory of {program}");
        let out = scratch.join(format!("{program}.pages"));
        take(&out, &[program.as_ref(), flag.as_ref(), text.as_ref()], None)?;
        taken.push(out);
    }
    let read = |p: &PathBuf| fs::read(p).map_err(|e| format!("{}: {e}", p.display()));
    let captures: Vec<Vec<u8>> = taken.iter().map(read).collect::<Result<_, _>>()?;
    // Renamed when complete: a killed run leaves no half file behind that looks like pages.
    let half = directory.join("pages.half");
    let kept = fs::write(&half, mix(&captures)).and_then(|()| fs::rename(&half, path()));
    let _ = fs::remove_dir_all(&scratch);
    kept.map_err(|e| format!("{}: {e}", path().display()))
}

/// Runs of all captures by turns, so that any part of the result has something of each.
fn mix(captures: &[Vec<u8>]) -> Vec<u8> {
    let longest = captures.iter().map(Vec::len).max().unwrap_or(0);
    let mut mixed = Vec::with_capacity(captures.iter().map(Vec::len).sum());
    for at in (0..longest).step_by(RUN_BYTES) {
        for capture in captures.iter().filter(|c| at < c.len()) {
            mixed.extend_from_slice(&capture[at..(at + RUN_BYTES).min(capture.len())]);
        }
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_loses_nothing_and_alternates() {
        let captures = [vec![1u8; RUN_BYTES * 3], vec![2u8; RUN_BYTES + 4096]];
        let mixed = mix(&captures);
        assert_eq!(mixed.len(), RUN_BYTES * 4 + 4096);
        assert_eq!((mixed[0], mixed[RUN_BYTES], mixed[2 * RUN_BYTES]), (1, 2, 1));
        assert_eq!(mixed.iter().filter(|b| **b == 2).count(), RUN_BYTES + 4096);
    }
}
