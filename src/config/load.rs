//! Words from the configuration file and its drop-ins, and how flags go over them.

pub use super::amount::Bytes;
use super::{CodecChoice, CopyChoice, NAME_DEFAULT, Target, under};
use crate::error::{StartError, StartResult};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How a key of a service that runs can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At once, by `uswap set` and `uswap reload`.
    Live,
    /// When the service is started anew.
    Restart,
}

macro_rules! keys {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $word:literal: $type:ty = $example:literal, $change:ident;
    )+) => {
        /// What one source (the file or the flags) says; silence is `None`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Keys {
            $($(#[doc = $doc])+ #[serde(rename = $word)] pub $field: Option<$type>,)+
        }

        impl Keys {
            /// Every key, as it is written in a file and, with two dashes, as a flag.
            pub const WORDS: &[&str] = &[$($word),+];

            /// A value for each of them, as it is written in a file: the default where there is
            /// one that does not depend on the machine.
            pub const EXAMPLES: &[&str] = &[$($example),+];

            /// How each of them can change while the service runs.
            pub const CHANGES: &[Change] = &[$(Change::$change),+];

            /// Whether something is said about this key.
            pub fn says(&self, word: &str) -> bool {
                match word {
                    $($word => self.$field.is_some(),)+
                    _ => false,
                }
            }

            /// These words where they say something, `below` elsewhere.
            pub fn over(self, below: Self) -> Self {
                Self { $($field: self.$field.or(below.$field),)+ }
            }
        }
    };
}

keys! {
    /// Name of the service.
    name "name": String = "\"default\"", Restart;
    /// Device number.
    id "id": u32 = "0", Restart;
    /// Size of the device.
    size "size": Bytes = "\"3 * min(ram / 4, 4G)\"", Restart;
    /// RAM for stored pages.
    pool "pool": Bytes = "\"min(ram / 4, 4G)\"", Restart;
    /// Hardware queues.
    queues "queues": u16 = "1", Restart;
    /// Requests in flight per queue.
    depth "depth": u16 = "64", Restart;
    /// Room for pages that are committed and not yet compressed.
    staging "staging": Bytes = "\"8M\"", Restart;
    /// Threads that compress for the queues.
    helpers "helpers": u16 = "1", Restart;
    /// Longest time that a queue thread polls before it sleeps.
    poll_us "poll-us": u32 = "200", Live;
    /// Codec.
    codec "codec": CodecChoice = "\"lz4\"", Restart;
    /// What becomes of pages that stay.
    policy "policy": String = "\"balanced\"", Live;
    /// What the device does with pages.
    target "target": Target = "\"swap\"", Restart;
    /// File or block device of the loop target, or where pages go that leave RAM.
    spill "spill": PathBuf = "\"/var/lib/uswap/spill\"", Restart;
    /// How much of it is used for that.
    spill_size "spill-size": Bytes = "\"16G\"", Restart;
    /// How the loop target moves data.
    copy "copy": CopyChoice = "\"auto\"", Restart;
    /// Swap to a spill file or device that is known to be unsafe for it.
    unsafe_spill "unsafe-spill": bool = "false", Restart;
    /// Control socket.
    socket "socket": PathBuf = "\"/run/uswap/default.sock\"", Restart;
    /// Where metrics are served.
    metrics "metrics": String = "\"127.0.0.1:10847\"", Live;
    /// State of all services.
    run_dir "run-dir": PathBuf = "\"/run/uswap\"", Restart;
    /// mkswap and swapon once the device serves.
    swapon "swapon": bool = "false", Restart;
    /// Priority for swapon.
    priority "priority": i16 = "100", Restart;
    /// swapon with discards.
    discard "discard": bool = "true", Restart;
    /// Keep a standby that takes over when the server dies.
    standby "standby": bool = "true", Restart;
    /// Development only: go on without locked memory.
    unsafe_no_lock "unsafe-no-lock": bool = "false", Restart;
}

/// The file a service has when nobody names another.
pub fn default_file(name: &str) -> PathBuf {
    PathBuf::from(format!("/etc/uswap/{name}.toml"))
}

/// Where a service's words are: `config` if given, else its default file.
pub fn file_of(config: Option<&Path>, name: Option<&str>) -> PathBuf {
    config.map_or_else(|| default_file(name.unwrap_or(NAME_DEFAULT)), Path::to_owned)
}

/// Flags over the file: `config` if given (it must exist), else the service's default file if there
/// is one. Its drop-ins, `FILE.d/*.toml` by name, go over it. The name is settled here, because it
/// decides which file that is.
pub fn keys(root: &Path, config: Option<&Path>, flags: Keys) -> StartResult<Keys> {
    let Some(path) = config else {
        let name = flags.name.clone().unwrap_or_else(|| NAME_DEFAULT.into());
        super::check::name(&name)?;
        let path = default_file(&name);
        let file = with_drop_ins(root, &path, false)?;
        if file.name.as_ref().is_some_and(|other| *other != name) {
            return Err(StartError::usage(
                format!("{}: is for service {name} but has another name in it", path.display()),
                "remove the key \"name\" or rename the file",
            ));
        }
        return Ok(Keys { name: Some(name), ..flags }.over(file));
    };
    let file = with_drop_ins(root, path, true)?;
    let default = Keys { name: Some(NAME_DEFAULT.into()), ..Keys::default() };
    Ok(flags.over(file).over(default))
}

/// A file's words with its drop-ins over them.
fn with_drop_ins(root: &Path, path: &Path, needed: bool) -> StartResult<Keys> {
    let mut keys = read(root, path, needed)?;
    for path in drop_ins(root, path)? {
        keys = read(root, &path, true)?.over(keys);
    }
    Ok(keys)
}

/// The drop-ins of `path`, those that win last.
pub fn drop_ins(root: &Path, path: &Path) -> StartResult<Vec<PathBuf>> {
    let dir = PathBuf::from(format!("{}.d", path.display()));
    let entries = match std::fs::read_dir(under(root, &dir)) {
        Ok(entries) => entries,
        Err(e) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind()) => {
            return Ok(Vec::new());
        }
        Err(e) => {
            let remedy = "run as root or make the directory readable";
            return Err(StartError::usage(format!("cannot read {}: {e}", dir.display()), remedy));
        }
    };
    let names = entries.flatten().map(|entry| dir.join(entry.file_name()));
    let mut found: Vec<PathBuf> =
        names.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    found.sort();
    Ok(found)
}

/// `error` with the file and line of the key that it is about, if it is about one of `path` or its
/// drop-ins that no flag has overruled.
pub fn located(root: &Path, path: &Path, flags: &Keys, error: StartError) -> StartError {
    let Some(key) = error.key().filter(|key| Keys::WORDS.contains(key) && !flags.says(key)) else {
        return error;
    };
    let drop_ins = drop_ins(root, path).unwrap_or_default();
    let mut files = drop_ins.iter().map(PathBuf::as_path).rev().chain([path]);
    let place =
        files.find_map(|file| Some(format!("{}:{}", file.display(), line(root, file, key)?)));
    match place {
        Some(place) => error.at(&place),
        None => error,
    }
}

/// The line of `file` that sets `key`.
fn line(root: &Path, file: &Path, key: &str) -> Option<usize> {
    let text = std::fs::read_to_string(under(root, file)).ok()?;
    let sets = |line: &str| {
        let word = line.split_once('=').map(|(word, _)| word.trim().trim_matches('"'));
        word == Some(key)
    };
    text.lines().position(sets).map(|at| at + 1)
}

/// One file's words. A file that is not there is an error only if it is `needed`.
fn read(root: &Path, path: &Path, needed: bool) -> StartResult<Keys> {
    match std::fs::read_to_string(under(root, path)) {
        Ok(text) => parse(path, &text),
        Err(e) if e.kind() == ErrorKind::NotFound && !needed => Ok(Keys::default()),
        Err(e) => {
            let remedy = match e.kind() {
                ErrorKind::NotFound => "create it or drop --config",
                ErrorKind::PermissionDenied => "run as root or make the file readable",
                ErrorKind::InvalidData => "save it as UTF-8 text",
                ErrorKind::IsADirectory => "name a file in it",
                _ => "name a readable TOML file with --config",
            };
            Err(StartError::usage(format!("cannot read {}: {e}", path.display()), remedy))
        }
    }
}

/// The words of `text`; `path` is for messages only.
pub fn parse(path: &Path, text: &str) -> StartResult<Keys> {
    let remedy = "correct this line; `uswap run --help` explains every key";
    toml::from_str(text).map_err(|e| refused(path, text, &e, Keys::WORDS, remedy))
}

/// The line, from 1 on, of byte `at` of `text`.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

/// A parser's error about `text` of `path`, whose keys are `known`, as a line for a person.
pub(super) fn refused(
    path: &Path,
    text: &str,
    error: &toml::de::Error,
    known: &[&'static str],
    remedy: &str,
) -> StartError {
    let line = line_of(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim().replace('\n', ", ");
    let (what, remedy) = word(&message, known, remedy);
    StartError::usage(format!("{}:{line}: {what}", path.display()), remedy)
}

/// A parser's message as what is wrong and what to do.
fn word(message: &str, known: &[&'static str], otherwise: &str) -> (String, String) {
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.split('`').next();
    if let Some(key) = quoted("unknown field `") {
        let all = format!("known keys are {}", known.join(", "));
        let remedy = nearest_of(key, known).map_or(all, |near| format!("did you mean \"{near}\"?"));
        return (format!("unknown key \"{key}\""), remedy);
    }
    if let Some((what, remedy)) = message.split_once("; ") {
        return (what.into(), remedy.into());
    }
    let mut what = message.to_owned();
    for number in ["u16", "u32", "i16"] {
        what = what.replace(&format!("expected {number}"), "expected a whole number in range");
    }
    (what, otherwise.into())
}

/// The known key that `key` was probably meant to be: at most two letters away, and not a different
/// word.
pub fn nearest(key: &str) -> Option<&'static str> {
    nearest_of(key, Keys::WORDS)
}

/// The same among other words.
pub(super) fn nearest_of(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.replace('_', "-").to_ascii_lowercase();
    let scored = known.iter().map(|&word| (distance(&key, word), word));
    let (steps, word) = scored.min_by_key(|&(steps, _)| steps)?;
    (steps <= 2 && steps < word.len() / 2 + 1).then_some(word)
}

/// Edit distance (insert, delete, replace) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(Path::new("/etc/uswap/x.toml"), text).expect_err(text).to_string()
    }

    #[test]
    fn unknown_key_names_line_and_neighbour() {
        let text = refusal("size = \"8G\"\n\nsise = 4\n");
        assert_eq!(text, "/etc/uswap/x.toml:3: unknown key \"sise\"; did you mean \"size\"?");
        assert!(refusal("run_dir = 1").contains("did you mean \"run-dir\""));
        assert!(refusal("compression = 1").contains("known keys are name, id, size"));
    }

    #[test]
    fn wrong_values_name_the_line() {
        for text in
            ["\nsize = \"1.5Q\"", "\ndepth = \"x\"", "\nqueues = 70000", "\ncodec = \"lzo\""]
        {
            let message = refusal(text);
            assert!(message.starts_with("/etc/uswap/x.toml:2: "), "{message}");
            assert!(message.contains("; ") && !message.contains('\n'), "{message}");
        }
        assert!(refusal("size = -5").contains("negative"));
        assert!(refusal("size = 1.5").contains("a size such as"));
        assert!(refusal("[run]\nsize = 1").contains("unknown key \"run\""));
    }

    #[test]
    fn drop_ins_go_over_the_file_and_mistakes_are_located() {
        let root = tempfile::tempdir().expect("directory");
        let dir = root.path().join("etc/uswap/x.toml.d");
        std::fs::create_dir_all(&dir).expect("directory");
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).expect("file");
        write(root.path().join("etc/uswap/x.toml"), "depth = 16\nqueues = 2\nhelpers = 1\n");
        write(dir.join("10-a.toml"), "depth = 32\n\nqueues = 3\n");
        write(dir.join("20-b.toml"), "queues = 4\n");
        write(dir.join("30-c.toml~"), "queues = 5\n");
        let flags = Keys { name: Some("x".into()), ..Keys::default() };
        let found = keys(root.path(), None, flags.clone()).expect("readable");
        assert_eq!((found.depth, found.queues, found.helpers), (Some(32), Some(4), Some(1)));
        let path = file_of(None, Some("x"));
        let place = |key: &str, flags: &Keys| {
            let error = StartError::usage(format!("{key}: bad"), "mend it");
            located(root.path(), &path, flags, error).to_string()
        };
        assert_eq!(
            place("queues", &flags),
            "/etc/uswap/x.toml.d/20-b.toml:1: queues: bad; mend it"
        );
        assert_eq!(place("depth", &flags), "/etc/uswap/x.toml.d/10-a.toml:1: depth: bad; mend it");
        assert_eq!(place("helpers", &flags), "/etc/uswap/x.toml:3: helpers: bad; mend it");
        let helpers = Keys { helpers: Some(9), ..flags.clone() };
        assert_eq!(place("helpers", &helpers), "helpers: bad; mend it", "said by a flag");
        assert_eq!(place("pool", &flags), "pool: bad; mend it", "said by nobody");
        write(dir.join("40-d.toml"), "\nsise = 1\n");
        let error = keys(root.path(), None, flags).expect_err("unknown").to_string();
        assert!(error.starts_with("/etc/uswap/x.toml.d/40-d.toml:2: unknown key"), "{error}");
    }

    #[test]
    fn flags_go_over_the_file() {
        let file = parse(Path::new("f"), "depth = 16\nswapon = true\nsize = 4096").expect("file");
        let flags = Keys { depth: Some(32), swapon: Some(false), ..Keys::default() };
        let both = flags.over(file);
        assert_eq!(
            (both.depth, both.swapon, both.size),
            (Some(32), Some(false), Some(Bytes::Exact(4096)))
        );
    }
}
