//! Instruction counts beside their stored limits (`bench/limits.toml`).

use crate::job::End;
use crate::root;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// The target whose counts are what the kernel and the measuring program take.
const BASE: &str = "null";
/// Targets that have limits; others are counted for information.
const LIMITED: [&str; 2] = [BASE, "lz4"];
/// A count this much below its limit asks for a new limit.
const SLACK: f64 = 0.03;

const HEAD: &str = "\
# Instructions of the whole machine for each 4 KiB page, counted by `cargo xtask bench counts` in
# guests whose clock counts instructions. A count above its limit by more than the tolerance fails
# `cargo xtask test`. Written by `cargo xtask bench counts --bless` from one run; the bars and the
# tolerance are kept as they are. Runs of the same programs differ by less than 0.1 %, except for
# lz4 write-15 (0.5 %) and lz4 write-sustained (0.3 %); the rest of the tolerance is for other
# compilers and QEMUs. On another kernel release than the one named, a limit moves with the null
# target's count of the same case.
";

/// One run: kernel release, and instructions per page by \"target case\".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    release: String,
    counts: BTreeMap<String, f64>,
}

/// `bench/limits.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Limits {
    tolerance: f64,
    /// Largest share of the null target's count of the same case, by \"kernel target case\".
    bars: BTreeMap<String, f64>,
    /// By `6.12` or `new`.
    kernels: BTreeMap<String, Run>,
}

fn path() -> PathBuf {
    root().join("bench/limits.toml")
}

/// The null target's name for the case of \"target case\".
fn base_of(name: &str) -> String {
    format!("{BASE} {}", name.split_once(' ').map_or("", |(_, case)| case))
}

impl Run {
    /// From a scenario's output.
    pub fn parse(log: &str) -> Self {
        let mut run = Self::default();
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["VM", "BOOT", release, ..] if run.release.is_empty() => {
                    run.release = (*release).to_owned();
                }
                ["RESULT", "count", target, case, value, ..] => {
                    if let Ok(value) = value.parse() {
                        run.counts.insert(format!("{target} {case}"), value);
                    }
                }
                _ => {}
            }
        }
        run
    }

    /// A count as a share of the null target's in this run.
    fn share(&self, name: &str) -> Option<f64> {
        Some(self.counts.get(name)? / self.counts.get(&base_of(name))?)
    }

    /// A Markdown table: a row for each case, a column for each target, with shares of null.
    pub fn table(&self) -> String {
        let mut targets: Vec<&str> = Vec::new();
        let mut cases: Vec<&str> = Vec::new();
        for (target, case) in self.counts.keys().filter_map(|name| name.split_once(' ')) {
            if !targets.contains(&target) {
                targets.push(target);
            }
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        targets.sort_by_key(|target| (*target != BASE, *target));
        let mut table = format!("| {} | {} |\n|---|", self.release, targets.join(" | "));
        table.push_str(&"--:|".repeat(targets.len()));
        for case in cases {
            let _ = write!(table, "\n| {case} |");
            for target in &targets {
                let name = format!("{target} {case}");
                let _ = match (self.counts.get(&name), self.share(&name)) {
                    (Some(count), Some(share)) if *target != BASE => {
                        write!(table, " {count:.0} ({share:.3}) |")
                    }
                    (Some(count), _) => write!(table, " {count:.0} |"),
                    (None, _) => write!(table, " |"),
                };
            }
        }
        table + "\n"
    }
}

impl Limits {
    fn load() -> Result<Self, String> {
        let file = path();
        let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        let text = fs::read_to_string(&file).map_err(|e| fail(&e))?;
        Self::parse(&text).map_err(|e| fail(&e))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let numbers = |value: &toml::Value, what: &str| -> Result<BTreeMap<String, f64>, String> {
            let table = value.as_table().ok_or(format!("{what} is not a table"))?;
            let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64));
            let pair = |(name, v): (&String, &toml::Value)| {
                let value = number(v).ok_or(format!("{what}: {name} is not a number"))?;
                Ok((name.clone(), value))
            };
            table.iter().map(pair).collect()
        };
        let top: toml::Table = text.parse().map_err(|e| format!("{e}"))?;
        let mut limits = Self::default();
        for (key, value) in &top {
            match (key.as_str(), value.get("release").and_then(toml::Value::as_str)) {
                ("tolerance", _) => limits.tolerance = value.as_float().unwrap_or(0.0),
                ("bars", _) => limits.bars = numbers(value, key)?,
                (kernel, Some(release)) => {
                    let counts = value.get("counts").ok_or(format!("{kernel} has no counts"))?;
                    let run = Run { release: release.into(), counts: numbers(counts, kernel)? };
                    limits.kernels.insert(kernel.into(), run);
                }
                (key, None) => return Err(format!("{key} has no release")),
            }
        }
        Ok(limits)
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}tolerance = {:?}\n\n", self.tolerance);
        let bars = "# At most this share of the null target's count, by kernel, target and case.";
        text.push_str(&format!("{bars}\n[bars]\n"));
        for (name, bar) in &self.bars {
            let _ = writeln!(text, "{name:?} = {bar:?}");
        }
        for (kernel, run) in &self.kernels {
            let _ = write!(text, "\n[{kernel:?}]\nrelease = {:?}\n", run.release);
            let _ = writeln!(text, "[{kernel:?}.counts]");
            for (name, count) in &run.counts {
                let _ = writeln!(text, "{name:?} = {:?}", count.round());
            }
        }
        text
    }

    /// What is wrong with a run, and what else is worth saying of it.
    fn judge(&self, kernel: &str, run: &Run) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut notes) = (Vec::new(), Vec::new());
        let bless = "cargo xtask bench counts --bless";
        let Some(stored) = self.kernels.get(kernel) else {
            return (vec![format!("no limits for kernel {kernel}; make them: {bless}")], notes);
        };
        let same_release = run.release == stored.release;
        if !same_release {
            notes.push(format!(
                "limits are of {}, this is {}: they move with the null target",
                stored.release, run.release
            ));
        }
        for (name, stored_limit) in &stored.counts {
            let Some(count) = run.counts.get(name) else {
                wrong.push(format!("{name} was not counted"));
                continue;
            };
            let limit = if same_release {
                *stored_limit
            } else {
                let base = base_of(name);
                let moved = run.counts.get(&base).zip(stored.counts.get(&base));
                moved.map_or(*stored_limit, |(now, then)| stored_limit * now / then)
            };
            if *count > limit * (1.0 + self.tolerance) {
                let more = (count / limit - 1.0) * 100.0;
                wrong.push(format!(
                    "{name}: {count:.0} instructions a page, {more:.1} % above the limit of \
                     {limit:.0}; find out why (cargo xtask bench profile), or if it is worth it, \
                     {bless}"
                ));
            } else if *count < limit * (1.0 - SLACK) {
                let less = (1.0 - count / limit) * 100.0;
                notes.push(format!("{name} is {less:.1} % below its limit; keep that: {bless}"));
            }
        }
        for (name, bar) in &self.bars {
            let Some(name) = name.strip_prefix(kernel).and_then(|rest| rest.strip_prefix(' '))
            else {
                continue;
            };
            match run.share(name) {
                Some(share) if share <= *bar => {}
                Some(share) => {
                    wrong.push(format!("{name}: {share:.3} of {}, the bar is {bar}", base_of(name)))
                }
                None => wrong.push(format!("{name} has a bar and was not counted")),
            }
        }
        (wrong, notes)
    }
}

/// How a run of a scenario with `# limits: yes` that ended well ends when its counts are looked at.
pub fn gate(log: &str, kernel: &str) -> End {
    let judged = Limits::load().map(|limits| limits.judge(kernel, &Run::parse(log)).0);
    match judged {
        Ok(wrong) if wrong.is_empty() => End::Passed,
        Ok(wrong) => End::Failed(wrong.join("; ")),
        Err(why) => End::Failed(why),
    }
}

/// Prints what is to be said of a run; whether it is within its limits.
pub fn show(kernel: &str, run: &Run) -> Result<(), String> {
    print!("{}", run.table());
    let (wrong, notes) = Limits::load()?.judge(kernel, run);
    notes.iter().for_each(|note| println!("note: {note}"));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Makes the run the limits for its kernel.
pub fn bless(kernel: &str, run: &Run) -> Result<(), String> {
    let limited = |name: &str| LIMITED.iter().any(|t| name.split(' ').next() == Some(t));
    let mut kept = run.clone();
    kept.counts.retain(|name, _| limited(name));
    if kept.counts.is_empty() || kept.release.is_empty() {
        return Err("that run counted nothing; its log says why".into());
    }
    let mut limits = Limits::load()?;
    limits.kernels.insert(kernel.to_owned(), kept);
    fs::write(path(), limits.text()).map_err(|e| format!("{}: {e}", path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "VM BOOT 7.3.4 tcg memory\n\
        RESULT count null write 1000.0 least 999.0 most 1.0\n\
        RESULT count lz4 write 1040.0 least 999.0 most 1.0\n\
        RESULT count zram write 5000.0 least 1 most 2\nother\n";

    fn limits() -> Limits {
        let text = "tolerance = 0.01\n[bars]\n\"new lz4 write\" = 1.05\n\
            \"6.12 lz4 write\" = 0.5\n[new]\nrelease = \"7.3.4\"\n\
            [new.counts]\n\"null write\" = 1000\n\"lz4 write\" = 1040.0\n";
        Limits::parse(text).unwrap()
    }

    /// What is wrong when the log's counts are replaced.
    fn wrong(release: &str, null: f64, lz4: f64) -> Vec<String> {
        let mut run = Run::parse(LOG);
        run.release = release.into();
        run.counts.insert("null write".into(), null);
        run.counts.insert("lz4 write".into(), lz4);
        limits().judge("new", &run).0
    }

    #[test]
    fn a_count_above_its_limit_fails() {
        assert_eq!(limits().judge("new", &Run::parse(LOG)), (vec![], vec![]));
        assert_eq!(wrong("7.3.4", 1010.0, 1050.0), Vec::<String>::new());
        assert!(wrong("7.3.4", 1002.0, 1051.0)[0].contains("lz4 write: 1051 instructions"));
        assert!(wrong("7.3.4", 1011.0, 1040.0)[0].contains("null write: 1011"));
    }

    #[test]
    fn a_bar_counts_against_null_of_the_same_run() {
        assert!(wrong("7.3.4", 980.0, 1040.0)[0].contains("1.061 of null write, the bar is 1.05"));
    }

    #[test]
    fn on_another_kernel_limits_move_with_null() {
        assert_eq!(wrong("7.3.5", 2000.0, 2099.0), Vec::<String>::new());
        assert!(!wrong("7.3.5", 2000.0, 2101.0).is_empty());
        assert!(!wrong("7.3.5", 500.0, 530.0).is_empty());
    }

    #[test]
    fn what_was_not_counted_fails() {
        let mut run = Run::parse(LOG);
        run.counts.remove("lz4 write");
        let (wrong, _) = limits().judge("new", &run);
        assert!(wrong.iter().any(|w| w == "lz4 write was not counted"), "{wrong:?}");
        assert!(limits().judge("6.12", &Run::parse(LOG)).0[0].contains("no limits"));
        assert!(!limits().judge("new", &Run::default()).0.is_empty());
    }

    #[test]
    fn a_much_lower_count_asks_for_a_new_limit() {
        let mut run = Run::parse(LOG);
        run.counts.insert("lz4 write".into(), 1000.0);
        assert!(limits().judge("new", &run).1[0].contains("below its limit"));
    }

    #[test]
    fn the_file_reads_back_as_it_was_written_and_is_whole() {
        assert_eq!(Limits::parse(&limits().text()).unwrap(), limits());
        let stored = Limits::load().unwrap();
        for kernel in ["6.12", "new"] {
            assert!(stored.kernels[kernel].counts.contains_key("lz4 write"), "{kernel}");
        }
        assert!(stored.bars.contains_key("new lz4 write") && stored.tolerance > 0.0);
    }

    #[test]
    fn the_table_has_a_row_for_each_case() {
        let table = Run::parse(LOG).table();
        assert!(table.starts_with("| 7.3.4 | null | lz4 | zram |\n|---|--:|--:|--:|\n"), "{table}");
        assert!(table.ends_with("| write | 1000 | 1040 (1.040) | 5000 (5.000) |\n"), "{table}");
    }
}
