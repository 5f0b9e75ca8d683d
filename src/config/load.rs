//! Words from the configuration file, and how flags go over them.

use super::{CodecChoice, CopyChoice, NAME_DEFAULT, Target, size, under};
use crate::error::{StartError, StartResult};
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bytes: in a file a plain number or a string such as `"8G"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"8G\"")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bytes, E> {
        size::parse(&value.to_string()).map(Bytes).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        size::parse(text).map(Bytes).map_err(E::custom)
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BytesVisitor)
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $field:ident $word:literal: $type:ty,)+) => {
        /// What one source (the file or the flags) says; silence is `None`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Keys {
            $($(#[doc = $doc])+ #[serde(rename = $word)] pub $field: Option<$type>,)+
        }

        impl Keys {
            /// Every key, as it is written in a file and, with two dashes, as a flag.
            pub const WORDS: &[&str] = &[$($word),+];

            /// These words where they say something, `below` elsewhere.
            pub fn over(self, below: Self) -> Self {
                Self { $($field: self.$field.or(below.$field),)+ }
            }
        }
    };
}

keys! {
    /// Name of the service.
    name "name": String,
    /// Device number.
    id "id": u32,
    /// Size of the device.
    size "size": Bytes,
    /// RAM for stored pages.
    pool "pool": Bytes,
    /// Hardware queues.
    queues "queues": u16,
    /// Requests in flight per queue.
    depth "depth": u16,
    /// Room for pages that are committed and not yet compressed.
    staging "staging": Bytes,
    /// Threads that compress for the queues.
    helpers "helpers": u16,
    /// Longest time that a queue thread polls before it sleeps.
    poll_us "poll-us": u32,
    /// Codec.
    codec "codec": CodecChoice,
    /// What becomes of pages that stay.
    policy "policy": String,
    /// What the device does with pages.
    target "target": Target,
    /// File or block device of the loop target, or where pages go that leave RAM.
    spill "spill": PathBuf,
    /// How much of it is used for that.
    spill_size "spill-size": Bytes,
    /// How the loop target moves data.
    copy "copy": CopyChoice,
    /// Swap to a spill file or device that is known to be unsafe for it.
    unsafe_spill "unsafe-spill": bool,
    /// Control socket.
    socket "socket": PathBuf,
    /// State of all services.
    run_dir "run-dir": PathBuf,
    /// mkswap and swapon once the device serves.
    swapon "swapon": bool,
    /// Priority for swapon.
    priority "priority": i16,
    /// swapon with discards.
    discard "discard": bool,
    /// Keep a standby that takes over when the server dies.
    standby "standby": bool,
    /// Development only: go on without locked memory.
    unsafe_no_lock "unsafe-no-lock": bool,
}

/// The file a service has when nobody names another.
pub fn default_file(name: &str) -> PathBuf {
    PathBuf::from(format!("/etc/uswap/{name}.conf"))
}

/// Flags over the file: `config` if given (it must exist), else the service's default file if there
/// is one. The name is settled here, because it decides which file that is.
pub fn keys(root: &Path, config: Option<&Path>, flags: Keys) -> StartResult<Keys> {
    let Some(path) = config else {
        let name = flags.name.clone().unwrap_or_else(|| NAME_DEFAULT.into());
        super::check::name(&name)?;
        let path = default_file(&name);
        let file = read(root, &path, false)?;
        if file.name.as_ref().is_some_and(|other| *other != name) {
            return Err(StartError::usage(
                format!("{}: is for service {name} but has another name in it", path.display()),
                "remove the key \"name\" or rename the file",
            ));
        }
        return Ok(Keys { name: Some(name), ..flags }.over(file));
    };
    let file = read(root, path, true)?;
    let default = Keys { name: Some(NAME_DEFAULT.into()), ..Keys::default() };
    Ok(flags.over(file).over(default))
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
    toml::from_str(text).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count() + 1;
        let message = e.message().trim().replace('\n', ", ");
        let (what, remedy) = word(&message);
        StartError::usage(format!("{}:{line}: {what}", path.display()), remedy)
    })
}

/// A parser's message as what is wrong and what to do.
fn word(message: &str) -> (String, String) {
    let quoted = |prefix: &str| message.strip_prefix(prefix)?.split('`').next();
    if let Some(key) = quoted("unknown field `") {
        let known = format!("known keys are {}", Keys::WORDS.join(", "));
        let remedy = nearest(key).map_or(known, |near| format!("did you mean \"{near}\"?"));
        return (format!("unknown key \"{key}\""), remedy);
    }
    if let Some((what, remedy)) = message.split_once("; ") {
        return (what.into(), remedy.into());
    }
    let mut what = message.to_owned();
    for number in ["u16", "u32", "i16"] {
        what = what.replace(&format!("expected {number}"), "expected a whole number in range");
    }
    (what, "correct this line; `uswap run --help` explains every key".into())
}

/// The known key that `key` was probably meant to be: at most two letters away, and not a different
/// word.
fn nearest(key: &str) -> Option<&'static str> {
    let key = key.replace('_', "-").to_ascii_lowercase();
    let scored = Keys::WORDS.iter().map(|&word| (distance(&key, word), word));
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
        parse(Path::new("/etc/uswap/x.conf"), text).expect_err(text).to_string()
    }

    #[test]
    fn unknown_key_names_line_and_neighbour() {
        let text = refusal("size = \"8G\"\n\nsise = 4\n");
        assert_eq!(text, "/etc/uswap/x.conf:3: unknown key \"sise\"; did you mean \"size\"?");
        assert!(refusal("run_dir = 1").contains("did you mean \"run-dir\""));
        assert!(refusal("compression = 1").contains("known keys are name, id, size"));
    }

    #[test]
    fn wrong_values_name_the_line() {
        for text in
            ["\nsize = \"1.5Q\"", "\ndepth = \"x\"", "\nqueues = 70000", "\ncodec = \"lzo\""]
        {
            let message = refusal(text);
            assert!(message.starts_with("/etc/uswap/x.conf:2: "), "{message}");
            assert!(message.contains("; ") && !message.contains('\n'), "{message}");
        }
        assert!(refusal("size = -5").contains("negative"));
        assert!(refusal("size = 1.5").contains("a size such as"));
        assert!(refusal("[run]\nsize = 1").contains("unknown key \"run\""));
    }

    #[test]
    fn flags_go_over_the_file() {
        let file = parse(Path::new("f"), "depth = 16\nswapon = true\nsize = 4096").expect("file");
        let flags = Keys { depth: Some(32), swapon: Some(false), ..Keys::default() };
        let both = flags.over(file);
        assert_eq!(
            (both.depth, both.swapon, both.size),
            (Some(32), Some(false), Some(Bytes(4096)))
        );
    }
}
