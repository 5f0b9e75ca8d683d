//! `cargo xtask traces`: the recorded traces of real programs, made again.

use crate::job::{End, Job};
use crate::{Outcome, build, pages, root, run, setup, target};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What `traces` takes.
pub const USAGE: &str = "\
  traces [PROGRAM...]      bench/traces: compiler, database, jvm, browser, run in a guest with less
                           memory than they want, and recorded (the first time it also makes the
                           disk that has them: 1.4 GiB)
  traces models            the same for workloads on a modelled machine, without a guest
";

/// Before each line of a trace in the guest's output; the program and base64 follow.
const MARK: &str = "TRACE ";

/// Workloads that are modelled, how many accesses each makes, and what else it is told. As many as
/// make a trace of some hundred KiB.
const MODELS: [(&str, &str, &[&str]); 5] = [
    ("zipf", "160000", &["--theta", "0.9"]),
    ("scan", "110000", &[]),
    ("phases", "160000", &["--phase-operations", "32000"]),
    ("forks", "110000", &["--child-percent", "5"]),
    ("collector", "160000", &["--work-operations", "512"]),
];
/// What all of them are told: a third of the memory fits, and an access takes 50 ms, so that
/// three hours pass.
const MODEL_FLAGS: [&str; 6] = ["--mib", "320", "--limit-mib", "107", "--per-second", "20"];

/// The disk with programs that `tests/vm/setup --programs` makes.
pub fn programs() -> PathBuf {
    let say = ". tests/vm/place.sh && printf %s \"$USWAP_VM_DIR\"";
    let output = Command::new("bash").args(["-c", say]).current_dir(root()).output();
    let place = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    PathBuf::from(place).join("programs.img")
}

/// Writes the traces of workloads on the machine that is a model.
fn models() -> Outcome {
    build(&[])?;
    pages::provide()?;
    for (kind, operations, more) in MODELS {
        let out = root().join(format!("bench/traces/{kind}.trace"));
        let mut workload = Command::new(target().join("release/workload"));
        workload.args([kind, "--operations", operations]).args(MODEL_FLAGS).args(more);
        workload.arg("--pages").arg(pages::path()).arg("--trace").arg(&out);
        run(&mut workload)?;
        println!("wrote {}", out.display());
    }
    Ok(())
}

/// The base64 of each program in the guest's output.
fn traces(output: &str) -> BTreeMap<&str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let lines = output.lines().filter_map(|line| line.strip_prefix(MARK)?.split_once(' '));
    for (program, part) in lines {
        let text = found.entry(program).or_default();
        text.push_str(part);
        text.push('\n');
    }
    found
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let fail = |e: std::io::Error| format!("base64: {e}");
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut stdin = child.stdin.take().ok_or("base64 has no stdin")?;
    // From another thread: it writes while it reads.
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(fail)?;
    writer.join().map_err(|_| "the writer died")?.map_err(fail)?;
    if output.status.success() { Ok(output.stdout) } else { Err("damaged base64".into()) }
}

/// Records each program that is named, or all.
pub fn task(programs: &[String]) -> Outcome {
    if programs.iter().any(|program| program == "models") {
        return models();
    }
    setup(&["--programs".to_owned()])?;
    build(&[])?;
    let job = Job::of_bench("traces", "new")?;
    println!("recording; the guest's output is in {}", job.log().display());
    let (end, output) = job.run_with(&[], programs);
    if end != End::Passed {
        return Err(format!("{end:?}; all of it: {}", job.log().display()));
    }
    for line in output.lines().filter(|line| line.starts_with("== ") || line.starts_with("   ")) {
        println!("{line}");
    }
    for (program, text) in traces(&output) {
        let path = root().join(format!("bench/traces/{program}.trace"));
        let bytes = decode(&text)?;
        fs::write(&path, &bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("wrote {}, {} bytes", path.display(), bytes.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_trace_belong_together() {
        let output = "== a\nTRACE a aGVs\nTRACE b eA==\n   x\nTRACE a bG8=\n";
        let found = traces(output);
        assert_eq!(decode(&found["a"]).unwrap(), b"hello");
        assert_eq!(decode(&found["b"]).unwrap(), b"x");
        assert!(decode("?").is_err());
    }
}
