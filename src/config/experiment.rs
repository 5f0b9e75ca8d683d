//! A file that describes an experiment: what `uswap experiment` reads.
//!
//! Everything that can be judged without the machine that is measured is judged here, with the line
//! it is about.

use super::load::{line_of, nearest_of, refused};
use crate::error::{StartError, StartResult};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

/// Kernels of the harness.
pub const KERNELS: [&str; 2] = ["6.12", "new"];
/// Workloads, and keys that each of them must have.
pub const WORKLOADS: [&str; 5] = ["collector", "forks", "phases", "scan", "zipf"];
/// Keys of the file, of a workload (besides its own flags) and of a variant.
const KEYS: [&str; 9] = [
    "title",
    "kernel",
    "memory-mib",
    "cpus",
    "repetitions",
    "trace",
    "flags",
    "workload",
    "variant",
];
const VARIANT_KEYS: [&str; 3] = ["name", "policy", "flags"];
/// Fewest runs of a variant: one has no spread. Most: a day should be enough.
const REPETITIONS: (i64, i64) = (2, 50);
/// RAM of the guest, MiB: what boots, and what a test machine has.
const MEMORY_MIB: (i64, i64) = (256, 65536);
const CPUS: (i64, i64) = (1, 64);
/// Most of each, so that a report can be read.
const VARIANTS_MAX: usize = 16;
const NAME_LEN_MAX: usize = 40;

/// A checked description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// What it is about; the file's name where it does not say.
    pub title: String,
    /// One of [`KERNELS`].
    pub kernel: String,
    /// RAM of the guest.
    pub memory_mib: u32,
    /// CPUs of the guest.
    pub cpus: u32,
    /// Runs of each variant.
    pub repetitions: u32,
    /// Record what happens to the swap area.
    pub trace: bool,
    /// What swaps.
    pub workload: Workload,
    /// What is compared; the first is what the others are compared with.
    pub variants: Vec<Variant>,
}

/// A program of `bench`, with its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// One of [`WORKLOADS`].
    pub kind: String,
    /// Memory it holds.
    pub mib: u32,
    /// How long it works.
    pub seconds: u32,
    /// All of its flags but the kind, `--mib` and `--seconds` included.
    pub flags: Vec<String>,
    /// The line of the file where it begins.
    pub line: usize,
}

/// A way to run uswap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For the report.
    pub name: String,
    /// As for `uswap run --policy`; a file is seen from the directory of the experiment's.
    pub policy: Option<String>,
    /// Flags of `uswap run`, those for all variants first.
    pub flags: Vec<String>,
    /// The line of the file where it begins.
    pub line: usize,
}

/// The file, word for word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Words {
    title: Option<String>,
    kernel: Option<Spanned<String>>,
    memory_mib: Option<Spanned<i64>>,
    cpus: Option<Spanned<i64>>,
    repetitions: Option<Spanned<i64>>,
    trace: Option<bool>,
    #[serde(default)]
    flags: Vec<String>,
    workload: Option<Spanned<BTreeMap<String, Spanned<toml::Value>>>>,
    variant: Option<Vec<Spanned<VariantWords>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VariantWords {
    name: Option<Spanned<String>>,
    policy: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
}

/// The text with its path, for messages.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, at: usize) -> usize {
        line_of(self.text, at)
    }

    fn wrong<T>(
        &self,
        of: &Spanned<T>,
        what: impl std::fmt::Display,
        remedy: impl Into<String>,
    ) -> StartError {
        let line = self.line(of.span().start);
        StartError::usage(format!("{}:{line}: {what}", self.path.display()), remedy)
    }

    fn lacks(&self, what: &str, remedy: &str) -> StartError {
        StartError::usage(format!("{}: {what}", self.path.display()), remedy)
    }

    /// A number in its range, or what it is when nothing is said.
    fn number(
        &self,
        key: &str,
        given: Option<&Spanned<i64>>,
        default: u32,
        (least, most): (i64, i64),
    ) -> StartResult<u32> {
        let Some(given) = given else { return Ok(default) };
        let number = *given.get_ref();
        if (least..=most).contains(&number) {
            return Ok(number as u32);
        }
        let what = format!("{key} is {number}");
        Err(self.wrong(given, what, format!("give {least} to {most}")))
    }
}

/// Reads the description in `text`; `path` is for messages and the title.
pub fn parse(path: &Path, text: &str) -> StartResult<Experiment> {
    let known: Vec<&str> = KEYS.iter().chain(&VARIANT_KEYS).copied().collect();
    let remedy = "correct this line; README.md, \"Experiment\", shows a whole file";
    let words: Words = toml::from_str(text).map_err(|e| refused(path, text, &e, &known, remedy))?;
    let file = File { path, text };
    let kernel = match &words.kernel {
        None => "new".to_owned(),
        Some(kernel) => {
            one_of(&file, "kernel", kernel, kernel.get_ref(), &KERNELS)?;
            kernel.get_ref().clone()
        }
    };
    let title = words
        .title
        .unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    Ok(Experiment {
        title,
        kernel,
        memory_mib: file.number("memory-mib", words.memory_mib.as_ref(), 700, MEMORY_MIB)?,
        cpus: file.number("cpus", words.cpus.as_ref(), 2, CPUS)?,
        repetitions: file.number("repetitions", words.repetitions.as_ref(), 5, REPETITIONS)?,
        trace: words.trace.unwrap_or(false),
        workload: workload(&file, words.workload)?,
        variants: variants(&file, &words.flags, words.variant.unwrap_or_default())?,
    })
}

/// Refuses a word that is none of `known`.
fn one_of<T>(
    file: &File<'_>,
    key: &str,
    place: &Spanned<T>,
    word: &str,
    known: &[&'static str],
) -> StartResult<()> {
    if known.contains(&word) {
        return Ok(());
    }
    let remedy = nearest_of(word, known).map_or_else(
        || format!("give one of {}", known.join(", ")),
        |near| format!("did you mean \"{near}\"?"),
    );
    Err(file.wrong(place, format!("no {key} \"{word}\""), remedy))
}

/// A value as it is written behind a flag; none for a list or table.
fn flag_value(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

fn workload(
    file: &File<'_>,
    words: Option<Spanned<BTreeMap<String, Spanned<toml::Value>>>>,
) -> StartResult<Workload> {
    let example = "write `[workload]`, `kind = \"zipf\"`, `mib = 500` and `seconds = 20`";
    let words = words.ok_or_else(|| file.lacks("no [workload]", example))?;
    let line = file.line(words.span().start);
    let mut kind = None;
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let mut flags = Vec::new();
    for (key, value) in words.get_ref() {
        let Some(text) = flag_value(value.get_ref()) else {
            let what = format!("{key} is neither a word nor a number");
            return Err(file.wrong(value, what, "give one"));
        };
        match key.as_str() {
            "kind" => {
                one_of(file, "workload", value, &text, &WORKLOADS)?;
                kind = Some(text);
                continue;
            }
            "mib" | "seconds" => {
                let number = text.parse().ok().filter(|number| *number > 0);
                let what = format!("{key} is {text}");
                let remedy = "give a whole number above 0";
                numbers.insert(key, number.ok_or_else(|| file.wrong(value, what, remedy))?);
            }
            "pages" | "check" => {
                return Err(file.wrong(value, format!("{key} is not for you to give"), "drop it"));
            }
            _ => {}
        }
        flags.extend([format!("--{}", key.replace('_', "-")), text]);
    }
    let needs = |key: &str| {
        let number = numbers.get(key).copied();
        number.ok_or_else(|| file.wrong(&words, format!("the workload has no {key}"), example))
    };
    Ok(Workload {
        mib: needs("mib")?,
        seconds: needs("seconds")?,
        kind: kind.ok_or_else(|| file.wrong(&words, "the workload has no kind", example))?,
        flags,
        line,
    })
}

fn variants(
    file: &File<'_>,
    common: &[String],
    words: Vec<Spanned<VariantWords>>,
) -> StartResult<Vec<Variant>> {
    let example = "write two or more of `[[variant]]`, each with a name and a policy or flags";
    if words.len() < 2 {
        return Err(file.lacks("fewer than two variants: nothing to compare", example));
    }
    let mut variants: Vec<Variant> = Vec::new();
    for one in words {
        if variants.len() == VARIANTS_MAX {
            let what = format!("more than {VARIANTS_MAX} variants");
            return Err(file.wrong(&one, what, "make two experiments of it"));
        }
        let line = file.line(one.span().start);
        let Some(name) = &one.get_ref().name else {
            return Err(file.wrong(&one, "a variant without a name", example));
        };
        let word = name.get_ref().clone();
        let letter = |c: char| c.is_ascii_alphanumeric() || "_.-+ /".contains(c);
        if word.is_empty() || word.len() > NAME_LEN_MAX || !word.chars().all(letter) {
            let remedy = format!("use up to {NAME_LEN_MAX} of A-Z a-z 0-9 _ . - + / and space");
            return Err(file.wrong(name, format!("name {word:?} cannot be shown"), remedy));
        }
        // Log files have the name with other letters in it.
        if variants.iter().any(|other| other.file_name() == file_name(&word)) {
            return Err(file.wrong(name, format!("a second variant {word:?}"), "rename one"));
        }
        let flags = common.iter().chain(&one.get_ref().flags).cloned().collect();
        variants.push(Variant { name: word, policy: one.into_inner().policy, flags, line });
    }
    Ok(variants)
}

impl Variant {
    /// Its name as part of a file's.
    pub fn file_name(&self) -> String {
        file_name(&self.name)
    }
}

fn file_name(name: &str) -> String {
    name.replace(['/', ' ', '+'], "-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
memory-mib = 500
flags = [\"--pool\", \"200M\"]
[workload]
kind = \"zipf\"
mib = 400
seconds = 10
theta = 0.9
[[variant]]
name = \"a\"
[[variant]]
name = \"b/c\"
policy = \"mine.toml\"
flags = [\"--codec\", \"zstd\"]
";

    #[test]
    fn a_good_file_says_what_to_run() {
        let found = parse(Path::new("x/cache.toml"), GOOD).expect("good");
        assert_eq!((found.title.as_str(), found.kernel.as_str()), ("cache", "new"));
        assert_eq!((found.memory_mib, found.cpus, found.repetitions), (500, 2, 5));
        let workload = &found.workload;
        assert_eq!((workload.kind.as_str(), workload.mib, workload.seconds), ("zipf", 400, 10));
        assert_eq!(workload.flags.join(" "), "--mib 400 --seconds 10 --theta 0.9");
        let [a, b] = &found.variants[..] else { panic!("two variants") };
        assert_eq!((a.flags.join(" ").as_str(), a.policy.as_deref()), ("--pool 200M", None));
        assert_eq!(b.flags.join(" "), "--pool 200M --codec zstd");
        assert_eq!((b.policy.as_deref(), b.file_name().as_str()), (Some("mine.toml"), "b-c"));
        assert_eq!((workload.line, a.line, b.line), (3, 8, 10));
    }

    #[track_caller]
    fn refuses(text: &str, wanted: &str) {
        let message = parse(Path::new("x.toml"), text).expect_err(text).to_string();
        assert_eq!(message, wanted);
    }

    #[test]
    fn mistakes_have_their_line_and_what_to_write() {
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        refuses(
            &with("memory-mib", "memroy-mib"),
            "x.toml:1: unknown key \"memroy-mib\"; did you mean \"memory-mib\"?",
        );
        refuses(&with("= 500", "= 5"), "x.toml:1: memory-mib is 5; give 256 to 65536");
        refuses(&with("zipf", "zpif"), "x.toml:4: no workload \"zpif\"; did you mean \"zipf\"?");
        refuses(&with("mib = 400", "mib = 0"), "x.toml:5: mib is 0; give a whole number above 0");
        refuses(
            &with("theta = 0.9", "theta = []"),
            "x.toml:7: theta is neither a word nor a number; give one",
        );
        refuses(
            &with("name = \"b/c\"", "name = \"A\""),
            "x.toml:11: a second variant \"A\"; rename one",
        );
        refuses(
            &with("policy", "polcy"),
            "x.toml:12: unknown key \"polcy\"; did you mean \"policy\"?",
        );
        refuses(
            &format!("kernel = \"7\"\n{GOOD}"),
            "x.toml:1: no kernel \"7\"; give one of 6.12, new",
        );
        let text = parse(Path::new("x.toml"), "").expect_err("empty").to_string();
        assert!(text.starts_with("x.toml: no [workload]; write"), "{text}");
        let one = GOOD.split("[[variant]]\nname = \"b").next().expect("first part");
        let text = parse(Path::new("x.toml"), one).expect_err("one").to_string();
        assert!(text.starts_with("x.toml: fewer than two variants"), "{text}");
    }
}
