//! Files that the program makes for others, and the check of those that people make for it.

#[path = "cli/program.rs"]
mod program;

use program::{accepted, refused, str, text, uswap};
use std::path::Path;
use tempfile::TempDir;
use uswap::config::load::{self, Keys};

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().expect("has one")).expect("directory");
    std::fs::write(&path, text).expect("file");
    str(&path).to_owned()
}

#[test]
fn the_generated_configuration_has_every_key_and_changes_nothing() {
    let config = accepted(&["generate", "config"]);
    assert_eq!(load::parse(Path::new("x"), &config).expect("valid"), Keys::default());
    let given = config.lines().filter_map(|line| line.strip_prefix('#'));
    let given = given.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let uncommented: String = given.map(|line| format!("{line}\n")).collect();
    let keys = load::parse(Path::new("x"), &uncommented).expect("valid without comment signs");
    assert!(Keys::WORDS.iter().all(|word| keys.says(word)));
    let help = accepted(&["run", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let comment = "# Requests a queue can have in flight, 8 to 128 [default: 64]\n#depth = 64\n";
    assert!(config.contains(comment), "{config}");
    assert!(help.contains("Requests a queue can have in flight, 8 to 128 [default: 64]"));
    assert!(config.lines().all(|line| line.len() <= 100), "{config}");
    // Explained: each key has a comment in front.
    let lines: Vec<&str> = config.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        if line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ") {
            assert!(before.len() > 3 && before.starts_with("# "), "{line} is not explained");
        }
    }
}

#[test]
fn check_config_names_file_line_and_remedy() {
    let dir = tempfile::tempdir().expect("directory");
    let good = file(&dir, "good.toml", "size = \"min(ram/2, 64M)\"\npool = \"16M\"\n");
    let said = accepted(&["check-config", &good]);
    assert_eq!(
        said,
        format!("{good}: right: service default, target swap, size 64M, pool 16M, codec lz4\n")
    );
    for (content, part) in [
        ("depth = 64\nsise = 1\n", ":2: unknown key \"sise\"; did you mean \"size\"?"),
        ("\nsize = \"50 percent\"\n", ":2: \"50 percent\" is not a size: "),
        ("\n\npool = \"ram/0\"\n", ":3: \"ram/0\" is not a size: it divides by zero; write a size"),
        ("pool = \"16M\"\n\ndepth = 7\n", ":3: depth: 7 is out of range; use a number from 8"),
        ("pool = \"16M\"\nsize = 0\n", ":2: size: is zero; use at least 2M"),
        ("metrics = \"localhost\"\n", ":1: metrics: \"localhost\" is not an address; write"),
        ("policy = \"balancd\"\n", ":1: policy: "),
        ("size = \"8G\"\nsize = \"9G\"\n", ":2: duplicate key"),
    ] {
        let path = file(&dir, "bad.toml", content);
        let line = refused(&["check-config", &path], 2);
        assert!(line.starts_with(&format!("uswap: {path}{part}")), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(refused(&["run", "--config", &path], 2), line, "run says the same");
    }
    // A drop-in wins, and is named.
    let drop_in = file(&dir, "good.toml.d/50-mine.toml", "depth = 9999\n");
    let line = refused(&["check-config", &good], 2);
    assert!(line.starts_with(&format!("uswap: {drop_in}:1: depth: 9999")), "{line}");
    let output = uswap(&["run", "--config", &good, "--depth", "1"]);
    assert!(text(&output.stderr).starts_with("uswap: depth: 1 is out of range"), "{output:?}");
    assert!(refused(&["check-config", "/nonexistent.toml"], 2).contains("cannot read"));
}

#[test]
fn the_configuration_of_zram_generator_is_taken_over() {
    let dir = tempfile::tempdir().expect("directory");
    let old = file(&dir, "z.conf", "[zram0]\nzram-size = min(ram / 4, 64)\nswap-priority=7\n");
    let flag = format!("--from-zram-generator={old}");
    let new = accepted(&["generate", "config", &flag]);
    assert!(new.contains("size = \"min(ram / 4, 64M)\"\n") && new.contains("priority = 7\n"));
    let path = file(&dir, "new.toml", &new);
    assert!(accepted(&["check-config", &path]).contains("size 64M"), "{new}");
    let bad = format!("--from-zram-generator={}", file(&dir, "bad.conf", "[zram0]\nzram-size\n"));
    let line = refused(&["generate", "config", &bad], 2);
    assert!(line.contains("bad.conf: line 2: neither [SECTION] nor KEY=VALUE; correct"), "{line}");
}

#[test]
fn dashboard_and_alerts_are_printed() {
    let dashboard = accepted(&["generate", "dashboard"]);
    let json: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = json["panels"].as_array().expect("panels");
    assert!(panels.len() > 15);
    let ids: std::collections::HashSet<_> = panels.iter().map(|p| p["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    assert!(!dashboard.contains('@') && !dashboard.contains("[#]"), "a sign was not replaced");
    assert_eq!(accepted(&["generate", "alerts"]), uswap::metrics::ALERTS);
}

#[test]
fn man_pages_and_completions_know_every_command() {
    let dir = tempfile::tempdir().expect("directory");
    let man = dir.path().join("man");
    accepted(&["generate", "man", str(&man)]);
    let page = |name: &str| std::fs::read_to_string(man.join(name)).expect(name);
    for name in ["uswap.1", "uswap-run.1", "uswap-estimate.1", "uswap-generate-config.1"] {
        assert!(page(name).contains(".TH"), "{name}");
    }
    assert!(page("uswap-run.1").contains("poll"));
    for name in ["operating", "tuning", "failures", "metrics"] {
        assert!(page(&format!("uswap-{name}.7")).contains(".SH NAME\nuswap-"), "{name}");
    }
    let listed = page("uswap-metrics.7");
    for metric in uswap::metrics::names::ALL {
        assert!(listed.contains(&format!(".TP\n.BR {} ", metric.name)), "{}", metric.name);
    }
    assert!(!listed.contains('@'));
    for shell in ["bash", "zsh", "fish"] {
        let script = accepted(&["generate", "completions", shell]);
        assert!(script.contains("check-config") && script.contains("poll-us"), "{shell}");
    }
}

#[test]
fn an_estimate_says_how_sure_it_is() {
    let dir = tempfile::tempdir().expect("directory");
    let mut pages = vec![0u8; 4096 * 64];
    pages.chunks_mut(8).zip(0u64..).for_each(|(word, n)| word.copy_from_slice(&n.to_le_bytes()));
    let path = dir.path().join("pages");
    std::fs::write(&path, &pages).expect("file");
    let path = str(&path);
    let report: serde_json::Value =
        serde_json::from_str(&accepted(&["estimate", "--json", path])).expect("JSON");
    assert_eq!((report["pages"].as_u64(), report["sampled_pages"].as_u64()), (Some(64), Some(64)));
    let codecs = report["codecs"].as_array().expect("codecs");
    assert_eq!(codecs.len(), 3);
    for codec in codecs {
        let bytes = codec["bytes"].as_u64().expect("bytes");
        assert!(bytes > 64 * 8 && bytes < 64 * 4096, "{codec}");
        assert!(codec["error_percent"].is_number());
    }
    let shown = accepted(&["estimate", path]);
    assert!(
        shown.starts_with("256K in 64 pages that could be swapped; looked at 64 of them, in 2")
    );
    let own = std::process::id().to_string();
    assert!(accepted(&["estimate", "--pid", &own]).contains("dense"));
    assert!(refused(&["estimate"], 2).contains("use --pid, --cgroup, --all or a file"));
    assert!(refused(&["estimate", "--pid", "4194305"], 1).contains("must still run"));
    assert!(refused(&["estimate", "--cgroup", "no/such"], 2).contains("below /sys/fs/cgroup"));
    std::fs::write(path, &pages[1..]).expect("file");
    assert!(refused(&["estimate", path], 2).contains("not whole pages"));
}
