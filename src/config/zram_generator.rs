//! zram-generator's configuration as one of ours.
//!
//! Read from its own documentation (zram-generator.conf.example.md): an INI file with a section for
//! each device; sizes are expressions in MiB of `ram`, which is in MiB too.

use super::amount::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where zram-generator looks for its file, first to last. Drop-ins are in `FILE.d/*.conf`, and of
/// those with one name that in the first place counts.
pub const FILES: [&str; 4] = [
    "/etc/systemd/zram-generator.conf",
    "/run/systemd/zram-generator.conf",
    "/usr/local/lib/systemd/zram-generator.conf",
    "/usr/lib/systemd/zram-generator.conf",
];

/// The files that count of those named in `places`: the first that is there, then drop-ins by name.
pub fn files(places: &[PathBuf]) -> Vec<PathBuf> {
    let mut drop_ins = BTreeMap::new();
    for place in places.iter().rev() {
        let entries = std::fs::read_dir(format!("{}.d", place.display()));
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let ours = paths.filter(|path| path.extension().is_some_and(|end| end == "conf"));
        drop_ins.extend(ours.filter_map(|path| Some((path.file_name()?.to_owned(), path))));
    }
    let first = places.iter().find(|path| path.exists()).cloned();
    first.into_iter().chain(drop_ins.into_values()).collect()
}

/// What zram-generator takes if its file does not say.
const SIZE_DEFAULT: &str = "min(ram / 2, 4096)";

/// Keys and values of one section, and where each stands.
#[derive(Debug, Default)]
struct Section<'a> {
    name: &'a str,
    keys: Vec<(String, &'a str, &'a str)>,
}

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.keys.iter().find(|(_, word, _)| *word == key).map(|(_, _, value)| *value)
    }

    /// What is said later counts.
    fn set(&mut self, place: String, key: &'a str, value: &'a str) {
        self.keys.retain(|(_, word, _)| *word != key);
        self.keys.push((place, key, value));
    }
}

/// The configuration that these files amount to, those that win last, as TOML, with what cannot be
/// taken over in comments. An error says the file, the line and what is wrong with it.
pub fn import(files: &[(PathBuf, String)]) -> Result<String, String> {
    let mut sections = Vec::new();
    for (path, text) in files {
        read(&mut sections, path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let devices: Vec<&Section<'_>> =
        sections.iter().filter(|s| s.name.starts_with("zram")).collect();
    let Some((first, others)) = devices.split_first() else {
        return Err("there is no section [zram0]; name a file of zram-generator".into());
    };
    let mut toml = one(first);
    for other in others {
        let name = shown(other.name);
        let _ = write!(
            toml,
            "\n# [{name}] was left out: a second device is a service with a file of its own,\n\
             # /etc/uswap/{name}.toml. It would say:\n"
        );
        one(other).lines().for_each(|line| toml += format!("# {line}\n").as_str());
    }
    for section in sections.iter().filter(|s| !s.name.starts_with("zram")) {
        let _ = writeln!(toml, "\n# [{}] was left out.", shown(section.name));
    }
    Ok(toml)
}

/// Adds what one file says.
fn read<'a>(sections: &mut Vec<Section<'a>>, path: &Path, text: &'a str) -> Result<(), String> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut current = None;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or(format!("line {number}: \"]\" is missing"))?;
            let name = name.trim();
            current = Some(sections.iter().position(|s| s.name == name).unwrap_or_else(|| {
                sections.push(Section { name, keys: Vec::new() });
                sections.len() - 1
            }));
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or(format!("line {number}: neither [SECTION] nor KEY=VALUE"))?;
        let at = current.ok_or(format!("line {number}: a key before any [SECTION]"))?;
        sections[at].set(format!("line {number} of {file}"), key.trim(), value.trim());
    }
    Ok(())
}

/// One section as TOML.
fn one(section: &Section<'_>) -> String {
    let mut toml = format!("# From [{}] of zram-generator.\n", shown(section.name));
    if let Some(place) = section.get("mount-point") {
        toml += &format!(
            "# It was no swap but a file system, mounted on {}: that is not for uswap.\n",
            shown(place)
        );
    }
    size(section, &mut toml);
    pool(section, &mut toml);
    for (place, key, value) in &section.keys {
        let taken = match *key {
            "zram-size" | "zram-fraction" | "max-zram-size" | "zram-resident-limit" => continue,
            "mount-point" => continue,
            "compression-algorithm" => codec(value),
            "swap-priority" => priority(value),
            "writeback-device" => format!(
                "# Pages that leave RAM go there, packed and sealed; what was on it is gone.\n\
                 spill = {}\n",
                quoted(value)
            ),
            "options" => format!("discard = {}\n", value.contains("discard")),
            "fs-type" if *value == "swap" => continue,
            "host-memory-limit" if *value == "none" => continue,
            "host-memory-limit" => format!(
                "# With more than {} MiB of RAM there was to be no device: then do not enable the \
                 service.\n",
                shown(value)
            ),
            _ => format!("# Left out, {}: {} = {}\n", shown(place), shown(key), shown(value)),
        };
        toml += &taken;
    }
    if section.get("options").is_none() {
        toml += "discard = true\n";
    }
    toml
}

fn size(section: &Section<'_>, toml: &mut String) {
    let old = section.get("zram-fraction").or(section.get("max-zram-size"));
    let said = match (section.get("zram-size"), old) {
        (Some(size), _) => size.to_owned(),
        (None, Some(_)) => {
            let fraction = section.get("zram-fraction").unwrap_or("0.5");
            match section.get("max-zram-size").unwrap_or("4096") {
                "none" => format!("ram * {fraction}"),
                most => format!("min(ram * {fraction}, {most})"),
            }
        }
        (None, None) => SIZE_DEFAULT.to_owned(),
    };
    match in_bytes(&said) {
        Some(size) => *toml += &format!("size = {}\n", quoted(&size)),
        None => {
            *toml += &format!("# Its size could not be understood: {}\n", shown(&said));
        }
    }
}

fn pool(section: &Section<'_>, toml: &mut String) {
    match section.get("zram-resident-limit").map(|limit| (limit, in_bytes(limit))) {
        None | Some(("0", _)) => {
            *toml += "# Without a limit of its own the pool may take a quarter of RAM (pool).\n";
        }
        Some((_, Some(limit))) => *toml += &format!("pool = {}\n", quoted(&limit)),
        Some((limit, None)) => {
            *toml += &format!("# zram-resident-limit was not understood: {}\n", shown(limit));
        }
    }
}

/// An expression in MiB as one in bytes; nothing if it is none.
fn in_bytes(expression: &str) -> Option<String> {
    // Plain numbers are sizes where they stand alone or in a list; elsewhere they are factors.
    let parts = |text: &str| -> Option<String> {
        let text = text.trim();
        let number = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
        let share = ["/", "*"].iter().any(|sign| {
            let two = text.split_once(sign);
            two.is_some_and(|(ram, by)| ram.trim() == "ram" && by.trim().parse::<f64>().is_ok())
        });
        match (number, share || text == "ram") {
            (true, _) => Some(format!("{text}M")),
            (_, true) => Some(text.to_owned()),
            _ => None,
        }
    };
    let list = || {
        let (of, rest) = expression.trim().split_once('(')?;
        let inside = rest.strip_suffix(')').filter(|_| ["min", "max"].contains(&of.trim()))?;
        let parts: Option<Vec<String>> = inside.split(',').map(parts).collect();
        Some(format!("{}({})", of.trim(), parts?.join(", ")))
    };
    let general = || format!("({}) * 1M", words(expression, "ram", "(ram / 1M)"));
    let said = parts(expression).or_else(list).unwrap_or_else(general);
    Bytes::parse(&said).ok().map(|_| said)
}

/// `text` with every word `from` replaced.
fn words(text: &str, from: &str, to: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        done += before;
        done += if whole { to } else { from };
        rest = after;
    }
    done + rest
}

fn codec(value: &str) -> String {
    let first = value.split([' ', '(', ',']).next().unwrap_or_default();
    let (codec, note) = match first {
        "zstd" => ("zstd", ""),
        "lz4" => ("lz4", ""),
        _ => ("lz4", " instead of what zram had"),
    };
    let note = if value == first && note.is_empty() {
        String::new()
    } else {
        format!(
            "# lz4{note}; pages that stay become zstd by themselves. It said: {}\n",
            shown(value)
        )
    };
    let note = if codec == "zstd" { note.replacen("lz4;", "zstd;", 1) } else { note };
    format!("{note}codec = \"{codec}\"\n")
}

fn priority(value: &str) -> String {
    match value.parse::<i16>() {
        Ok(priority) if priority >= 0 => format!("priority = {priority}\n"),
        Ok(-1) => "# It said -1: that the kernel chooses, below every area with a number.\n\
                   priority = 0\n"
            .to_owned(),
        _ => format!("# A priority of {} is not taken: use 0 to 32767.\n", shown(value)),
    }
}

/// Text that may stand in a comment.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use std::path::Path;

    fn import_one(text: &str) -> Result<String, String> {
        import(&[("z.conf".into(), text.into())])
    }

    fn imported(text: &str) -> (String, load::Keys) {
        let toml = import_one(text).expect(text);
        let keys = load::parse(Path::new("x"), &toml).expect(&toml);
        (toml, keys)
    }

    #[test]
    fn the_usual_files() {
        let (_, keys) = imported("[zram0]\n");
        assert_eq!(keys.size, Some(Bytes::Of("min(ram / 2, 4096M)".into())));
        assert_eq!((keys.pool, keys.discard), (None, Some(true)));
        let text = "# Fedora\n[zram0]\nzram-size = min(ram, 8192)\n";
        assert_eq!(imported(text).1.size, Some(Bytes::Of("min(ram, 8192M)".into())));
        let text = "[zram0]\nzram-size=ram / 2\ncompression-algorithm = zstd\nswap-priority=60\n\
                    fs-type = swap\noptions=\n";
        let (toml, keys) = imported(text);
        assert_eq!(keys.size, Some(Bytes::Of("ram / 2".into())));
        assert_eq!((keys.priority, keys.discard), (Some(60), Some(false)));
        assert_eq!(keys.codec.map(|codec| codec.name()), Some("zstd"), "{toml}");
        let text = "[zram0]\nzram-size = 2048\nzram-resident-limit = 512\n";
        let (_, keys) = imported(text);
        assert_eq!(
            (keys.size, keys.pool),
            (Some(Bytes::Exact(2 << 30)), Some(Bytes::Exact(512 << 20)))
        );
        let text = "[zram0]\nzram-fraction = 0.25\nmax-zram-size = none\n";
        assert_eq!(imported(text).1.size, Some(Bytes::Of("ram * 0.25".into())));
    }

    #[test]
    fn sizes_mean_the_same() {
        let ram = 8u64 << 30;
        for (expression, mib) in [
            ("ram", 8192),
            ("max(ram / 10, 100)", 819),
            ("(ram - 1024) / 2 + 512", 4096),
            ("min(min(ram, 4096) + max(ram - 4096, 0) / 2, 32 * 1024)", 6144),
        ] {
            let text = in_bytes(expression).expect(expression);
            let bytes = Bytes::parse(&text).and_then(|b| b.on(ram)).expect(&text);
            assert_eq!(bytes >> 20, mib, "{expression} as {text}");
        }
        assert_eq!(in_bytes("ram ^ 2"), None);
    }

    #[test]
    fn what_cannot_be_taken_over_is_said() {
        let text = "[zram0]\ncompression-algorithm = lzo-rle zstd(level=3) (type=idle)\n\
                    zram-size = ram ^ 2\nwriteback-device = /dev/sdb1\nswap-priority = -3\n\
                    new-key = 5\nhost-memory-limit = 9048\n[zram1]\nmount-point = /var/tmp\n\
                    [other]\n";
        let (toml, keys) = imported(text);
        assert_eq!(keys.spill.as_deref(), Some(Path::new("/dev/sdb1")));
        for part in [
            "could not be understood: ram ^ 2",
            "It said: lzo-rle zstd(level=3) (type=idle)",
            "A priority of -3 is not taken",
            "Left out, line 6 of z.conf: new-key = 5",
            "more than 9048 MiB",
            "[zram1] was left out",
            "# # It was no swap but a file system, mounted on /var/tmp",
            "[other] was left out",
        ] {
            assert!(toml.contains(part), "{part} in\n{toml}");
        }
    }

    #[test]
    fn what_may_not_stand_in_a_comment_is_left_out() {
        let (toml, _) = imported("[zram0\x07]\n[zram\x01]\n[o\x17ther]\n");
        assert!(toml.contains("# [other] was left out"), "{toml}");
    }

    #[test]
    fn drop_ins_go_over_the_file_wherever_they_are() {
        let dir = tempfile::tempdir().expect("directory");
        let places = ["etc", "run", "usr"].map(|name| dir.path().join(name).join("z.conf"));
        let write = |place: &Path, name: &str, text: &str| {
            let drop_ins = PathBuf::from(format!("{}.d", place.display()));
            let path = if name.is_empty() { place.to_owned() } else { drop_ins.join(name) };
            std::fs::create_dir_all(path.parent().expect("has one")).expect("directory");
            std::fs::write(path, text).expect("file");
        };
        write(&places[2], "", "[zram0]\nzram-size = 512\nswap-priority = 5\n");
        write(&places[0], "20-b.conf", "[zram0]\nzram-size = 1024\n");
        write(&places[2], "20-b.conf", "[zram0]\nzram-size = 2048\n");
        write(&places[1], "10-a.conf", "[zram0]\nswap-priority = -1\nzram-size = 4096\n");
        write(&places[1], "30-c.conf~", "[zram0]\nzram-size = 8192\n");
        let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).expect("file"));
        let all: Vec<_> = files(&places).into_iter().map(read).collect();
        assert_eq!(all.len(), 3);
        let toml = import(&all).expect("right");
        let keys = load::parse(Path::new("x"), &toml).expect(&toml);
        assert_eq!((keys.size, keys.priority), (Some(Bytes::Exact(1 << 30)), Some(0)));
        let toml = import_one("[zram0]\nhost-memory-limit = none\n").expect("right");
        assert!(!toml.contains("none"), "{toml}");
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_the_line() {
        for (text, part) in [
            ("", "no section [zram0]"),
            ("[zram0\n", "line 1: \"]\" is missing"),
            ("[zram0]\n\nsize\n", "line 3: neither"),
            ("zram-size = 1\n", "line 1: a key before"),
        ] {
            let error = import_one(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
