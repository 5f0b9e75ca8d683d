//! Rules about the source that the compiler does not hold: layers, sizes, words. Each rule is a
//! function from files to complaints, with a test that it is silent about the tree and one that it
//! speaks about a planted violation.

use std::path::Path;

/// Longest file, function and line of code, after TigerBeetle's tidy.zig.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// Modules by level, bottom-up; a module imports from lower levels only. See src/lib.rs.
const LAYERS: [&[&str]; 8] = [
    &["units", "limits", "error", "stats", "chaos"],
    &["sys"],
    &["ublk", "codec", "pool", "script", "spill", "table", "trace"],
    &["store"],
    &["config", "metrics", "simulate"],
    &["daemon", "experiment"],
    &["cli"],
    &["main"],
];
/// Within level 0: who may also import whom.
const LEVEL_0: [(&str, &[&str]); 2] =
    [("limits", &["units"]), ("stats", &["units", "limits", "error"])];

/// Crates and the only places (path prefixes) that may name them.
const CONFINED: [(&str, &[&str]); 17] = [
    ("rhai", &["src/script"]),
    ("rlsf", &["src/sys"]),
    ("ring", &["src/spill"]),
    ("io_uring", &["src/sys"]),
    ("memmap2", &["src/sys"]),
    ("libc", &["src/sys", "src/error.rs"]),
    // config and cli where std has no way, such as setsid.
    ("rustix", &["src/sys", "src/config", "src/cli"]),
    ("lz4_flex", &["src/codec"]),
    ("zstd_safe", &["src/codec", "src/sys/zdict.rs", "src/trace/frame.rs"]),
    ("clap", &["src/cli"]),
    ("clap_complete", &["src/cli"]),
    ("clap_mangen", &["src/cli"]),
    ("ratatui", &["src/cli"]),
    ("plotters", &["src/simulate"]),
    ("prometheus", &["src/metrics"]),
    ("httparse", &["src/metrics"]),
    ("toml", &["src/config"]),
];

/// A file of the tree.
struct Source {
    path: String,
    text: String,
    /// `text` with comments and the insides of literals blanked, line by line the same.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), code: blank(text) }
    }

    /// Code in front of the unit tests, which by convention end a file. Nothing of integration
    /// tests.
    fn product(&self) -> &str {
        let tests = self.path.starts_with("tests/") || self.path.contains("/tests/");
        let end = self.code.find("#[cfg(test)]").unwrap_or(self.code.len());
        if tests { "" } else { &self.code[..end] }
    }

    /// `cli/doctor/memory.rs` as `["cli", "doctor", "memory"]`; nothing outside src/ and for the
    /// crate root.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs"));
        let mut parts: Vec<&str> = path.map_or_else(Vec::new, |path| path.split('/').collect());
        parts.pop_if(|last| *last == "mod");
        if parts == ["lib"] { Vec::new() } else { parts }
    }

    fn complain(&self, offset: usize, what: impl std::fmt::Display) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

/// Blanks comments, strings and character literals, so that rules see code only.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text.as_bytes()[i..];
        let before = i.checked_sub(1).map_or(b' ', |p| bytes[p]);
        let len = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            find(rest, b"*/", 2)
        } else if rest[0] == b'r' && !is_word(before) && raw_hashes(rest).is_some() {
            let hashes = raw_hashes(rest).expect("just seen");
            find(rest, &[b"\"".as_slice(), &b"#".repeat(hashes)].concat(), hashes + 2)
        } else if rest[0] == b'"' {
            quoted(rest, b'"')
        } else if rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || char_literal(&text[i..])) {
            quoted(rest, b'\'')
        } else {
            i += 1;
            continue;
        };
        out[i..i + len].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        i += len;
    }
    String::from_utf8(out).unwrap_or_default()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn find(rest: &[u8], end: &[u8], from: usize) -> usize {
    let found = rest[from..].windows(end.len()).position(|w| w == end);
    found.map_or(rest.len(), |at| from + at + end.len())
}

fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

/// `'x'` and not the lifetime `'x`.
fn char_literal(rest: &str) -> bool {
    rest.chars().nth(2) == Some('\'')
}

/// Offsets of `word` in `code`, not as part of a longer word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let end = at + word.len();
        let open = at == 0 || !is_word(bytes[at - 1]) || !is_word(word.as_bytes()[0]);
        let last = word.as_bytes()[word.len() - 1];
        open && (end == bytes.len() || !is_word(bytes[end]) || !is_word(last))
    })
}

/// The modules a path prefix such as `crate::` is followed by, groups included, and where.
fn imports<'a>(code: &'a str, prefix: &'a str) -> Vec<(usize, &'a str)> {
    let first = |text: &'a str| {
        let text = text.trim_start();
        &text[..text.bytes().position(|b| !is_word(b)).unwrap_or(text.len())]
    };
    let mut found = Vec::new();
    for at in words(code, prefix) {
        let rest = code[at + prefix.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            found.push((at, first(rest)));
            continue;
        };
        let mut depth = 0;
        let mut item = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.push((at, first(&group[item..i])));
                    item = i + 1;
                }
                _ => {}
            }
            if c == '}' && depth == 0 && item == i + 1 {
                break;
            }
        }
    }
    found.retain(|(_, module)| !module.is_empty());
    found
}

fn level(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn layers(source: &Source) -> Vec<String> {
    let path = source.module();
    let Some(&own) = path.first() else { return Vec::new() };
    let Some(own_level) = level(own) else {
        return vec![source.complain(0, format!("module {own} is not in the layer table"))];
    };
    let also = LEVEL_0.iter().find(|(module, _)| *module == own).map_or(&[][..], |(_, also)| also);
    let prefix = if own == "main" { "uswap::" } else { "crate::" };
    let mut complaints = Vec::new();
    for (at, module) in imports(source.product(), prefix) {
        let below = level(module).is_some_and(|level| level < own_level);
        if module != own && !below && !also.contains(&module) {
            complaints.push(source.complain(at, format!("{own} may not import {module}")));
        }
    }
    let climb = "super::".repeat(path.len());
    for at in words(source.product(), &climb) {
        complaints.push(source.complain(at, "super:: out of the module; say crate::"));
    }
    complaints
}

fn no_unsafe(source: &Source) -> Vec<String> {
    let counting_allocator = source.module().is_empty() && source.code.contains("GlobalAlloc");
    let place = ["src/sys/", "bench/src/sys.rs"].iter().any(|p| source.path.starts_with(p));
    if place || counting_allocator {
        return Vec::new();
    }
    let word = ["un", "safe"].concat();
    words(&source.code, &word).map(|at| source.complain(at, "only src/sys may say this")).collect()
}

fn sizes(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let count = source.text.lines().count();
    if count > FILE_LINES_MAX {
        complaints.push(format!("{}: {count} lines, at most {FILE_LINES_MAX}", source.path));
    }
    for (i, line) in source.text.lines().enumerate() {
        if line.chars().count() > LINE_COLUMNS_MAX {
            let what = format!("longer than {LINE_COLUMNS_MAX} columns");
            complaints.push(format!("{}:{}: {what}", source.path, i + 1));
        }
    }
    for at in words(&source.code, "fn ") {
        let lines = source.code[at..at + body_len(&source.code[at..])].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            let what = format!("function of {lines} lines, at most {FUNCTION_LINES_MAX}");
            complaints.push(source.complain(at, what));
        }
    }
    complaints
}

/// Bytes from `fn` to the end of its body, or of its declaration.
fn body_len(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return i + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return i,
            _ => {}
        }
    }
    code.len()
}

fn silence(source: &Source) -> Vec<String> {
    let path = source.module();
    if path.is_empty() || ["cli", "main"].contains(&path[0]) {
        return Vec::new();
    }
    let loud = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "log::"];
    let found =
        loud.iter().flat_map(|word| words(source.product(), word).map(move |at| (at, word)));
    found.map(|(at, word)| source.complain(at, format!("{word} outside cli and main"))).collect()
}

fn no_unwrap(source: &Source) -> Vec<String> {
    let found = source.product().match_indices(".unwrap()");
    found.map(|(at, _)| source.complain(at, "unwrap: handle it, or expect with a reason")).collect()
}

fn no_machine_paths(source: &Source) -> Vec<String> {
    let homes = [["/", "work/"].concat(), ["/", "home/"].concat()];
    let lines = source.text.lines().enumerate().filter(|(_, line)| {
        homes.iter().any(|home| {
            line.match_indices(home.as_str())
                .any(|(at, _)| at == 0 || !is_word(line.as_bytes()[at - 1]))
        })
    });
    lines.map(|(i, _)| format!("{}:{}: path of one machine", source.path, i + 1)).collect()
}

fn confinement(source: &Source) -> Vec<String> {
    if source.module().is_empty() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (name, places) in CONFINED {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let (path, import) = (format!("{name}::"), format!("use {name};"));
        let code = source.product();
        for at in words(code, &path).chain(words(code, &import)) {
            complaints
                .push(source.complain(at, format!("{name} belongs in {}", places.join(", "))));
        }
    }
    complaints
}

/// Counters of src/stats/mod.rs that nothing outside it touches. Only for a tree with code
/// that bumps them.
fn orphan_counters(sources: &[Source]) -> Vec<String> {
    let Some(stats) = sources.iter().find(|s| s.path == "src/stats/mod.rs") else {
        return Vec::new();
    };
    let block = stats.code.split("\ncounters! {").nth(1).and_then(|rest| rest.split("\n}").next());
    let names = block.unwrap_or_default().lines().filter_map(|l| l.trim().strip_suffix(','));
    let bumped = |name: &str| {
        let field = format!(".{name}");
        let others = sources.iter().filter(|s| s.path.starts_with("src/") && s.path != stats.path);
        others.into_iter().any(|s| words(s.product(), &field).next().is_some())
    };
    names
        .filter(|name| !bumped(name))
        .map(|name| format!("counter {name} is never bumped"))
        .collect()
}

/// Every text file of the project with one of these endings.
fn tree(endings: &[&str]) -> Vec<Source> {
    fn walk(root: &Path, dir: &Path, endings: &[&str], found: &mut Vec<Source>) {
        for entry in std::fs::read_dir(dir).expect("readable directory").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != ".git" && name != "target" {
                    walk(root, &path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = std::fs::read_to_string(&path).expect("text");
                let relative = path.strip_prefix(root).expect("below the root");
                found.push(Source::new(&relative.to_string_lossy(), &text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(root, root, endings, &mut found);
    assert!(found.len() > 10, "the tree was not found");
    found
}

#[track_caller]
fn silent(rule: fn(&Source) -> Vec<String>, sources: &[Source]) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rule says `part` about `text` at `path`, once.
#[track_caller]
fn caught(rule: fn(&Source) -> Vec<String>, path: &str, text: &str, part: &str) {
    let complaints = rule(&Source::new(path, text));
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains(part), "{complaints:?}");
}

#[track_caller]
fn accepted(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(rule(&Source::new(path, text)), Vec::<String>::new());
}

#[test]
fn imports_point_down() {
    silent(layers, &tree(&[".rs"]));
    caught(layers, "src/pool/mod.rs", "use crate::store::Store;", "pool may not import store");
    caught(layers, "src/pool/mod.rs", "use crate::{units, table::{A, B}};", "import table");
    caught(layers, "src/pool/mod.rs", "\nfn f() { crate::daemon::x() }", "mod.rs:2: pool");
    caught(layers, "src/units.rs", "use crate::limits;", "units may not import limits");
    caught(layers, "src/novel.rs", "", "not in the layer table");
    caught(layers, "src/ublk/queue.rs", "use super::super::store;", "say crate::");
    caught(layers, "src/main.rs", "use uswap::cli;\nuse uswap::novel;", "may not import novel");
    accepted(layers, "src/daemon/mod.rs", "use crate::{config::{A}, store, sys::map};");
    accepted(layers, "src/pool/mod.rs", "// crate::daemon\n#[cfg(test)]\nuse crate::store;");
}

#[test]
fn dangerous_code_is_in_one_place() {
    silent(no_unsafe, &tree(&[".rs"]));
    let code = ["fn f() { un", "safe { g() } }"].concat();
    caught(no_unsafe, "src/pool/mod.rs", &code, "only src/sys");
    caught(no_unsafe, "tests/x.rs", &code, "only src/sys");
    caught(no_unsafe, "bench/src/corpus.rs", &code, "only src/sys");
    accepted(no_unsafe, "src/sys/map.rs", &code);
    accepted(no_unsafe, "bench/src/sys.rs", &code);
    accepted(no_unsafe, "tests/no_alloc.rs", &format!("impl GlobalAlloc for X {{}} {code}"));
}

#[test]
fn files_functions_and_lines_are_small() {
    silent(sizes, &tree(&[".rs"]));
    caught(sizes, "src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1), "501 lines");
    let function = format!("\nfn f() {{{}}}", "\n".repeat(FUNCTION_LINES_MAX));
    caught(sizes, "src/a.rs", &function, "a.rs:2: function of 71 lines");
    caught(sizes, "src/a.rs", &"x".repeat(LINE_COLUMNS_MAX + 1), "longer than 100");
    let comment = format!("// {}", "x".repeat(LINE_COLUMNS_MAX));
    caught(sizes, "src/a.rs", &comment, "longer than 100");
    let two = format!("fn f();\nfn g() {{ \"{{\"; '{{' }}\n{}", "\n".repeat(100));
    accepted(sizes, "src/a.rs", &two);
}

#[test]
fn lower_levels_do_not_talk() {
    silent(silence, &tree(&[".rs"]));
    caught(silence, "src/daemon/mod.rs", "fn f() { eprintln!() }", "eprintln! outside");
    caught(silence, "src/store/mod.rs", "fn f() { log::warn!() }", "log:: outside");
    accepted(silence, "src/cli/mod.rs", "fn f() { println!() }");
    accepted(silence, "src/store/mod.rs", "fn f() { catalog::x(); \"println!\"; }");
}

#[test]
fn nothing_unwraps() {
    silent(no_unwrap, &tree(&[".rs"]));
    caught(no_unwrap, "src/a.rs", "fn f() { x.unwrap() }", "unwrap");
    accepted(no_unwrap, "src/a.rs", "#[cfg(test)]\nfn f() { x.unwrap() }");
    accepted(no_unwrap, "tests/a.rs", "fn f() { x.unwrap() }");
}

#[test]
fn no_path_of_one_machine() {
    silent(no_machine_paths, &tree(&[".rs", ".toml", ".sh", ".service", ".conf", ".md", ".yml"]));
    caught(no_machine_paths, "src/a.rs", &["\"/", "home/me/x\""].concat(), "a.rs:1: path of one");
    accepted(no_machine_paths, "src/a.rs", &["\"home", "/wor", "k/x\""].concat());
}

#[test]
fn crates_stay_where_they_belong() {
    silent(confinement, &tree(&[".rs"]));
    caught(confinement, "src/daemon/mod.rs", "use rustix::process;", "rustix belongs in src/sys");
    caught(confinement, "src/pool/mod.rs", "fn f() { libc::getpid() }", "libc belongs");
    caught(confinement, "src/daemon/mod.rs", "use clap;", "clap belongs in src/cli");
    accepted(confinement, "src/error.rs", "const E: i32 = libc::EIO;");
    accepted(confinement, "tests/x.rs", "use lz4_flex::block;");
}

#[test]
fn every_counter_is_bumped() {
    let sources = tree(&[".rs"]);
    if sources.iter().any(|s| s.path.starts_with("src/store/")) {
        assert_eq!(orphan_counters(&sources), Vec::<String>::new());
    }
    let stats =
        Source::new("src/stats/mod.rs", "\ncounters! {\n    /// X.\n    used,\n    idle,\n}\n");
    let user = Source::new("src/store/mod.rs", "fn f(s: &S) { s.used.add(1); s.idle_not.add(1) }");
    assert_eq!(orphan_counters(&[stats, user]), ["counter idle is never bumped"]);
}

#[test]
fn blanking_keeps_code_and_lines() {
    let text = "a /* x\ny */ b \"q\\\"//\" 'c' '\\'' <'a> r#\"z\"z\"# // end\nd";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "<'a>", "d"]);
}
