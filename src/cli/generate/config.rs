//! `uswap generate config`: every key, from the same words as `uswap run --help`.

use crate::cli::run::Run;
use crate::config::load::Keys;
use crate::config::zram_generator;
use crate::error::{StartError, StartResult};
use clap::{Args, Command};
use std::path::{Path, PathBuf};

/// Columns of a comment.
const WIDTH: usize = 98;

const HEAD: &str = "\
Settings of one uswap service, /etc/uswap/NAME.toml (NAME is \"default\" for plain `uswap up`). \
Drop-ins in /etc/uswap/NAME.toml.d/*.toml go over it, in the order of their names; flags of \
`uswap run` go over all of them. `uswap check-config` says whether it is right. A key without its \
\"#\" is set; the values here are the defaults, or examples where the default depends on the \
machine.";

/// A file with every key in a comment: valid, and changes nothing.
pub fn all_keys() -> String {
    let command = Run::augment_args(Command::new("run"));
    let mut text = comment(HEAD);
    for (word, example) in Keys::WORDS.iter().zip(Keys::EXAMPLES) {
        let argument = command.get_arguments().find(|a| a.get_long() == Some(word));
        let help = argument.and_then(|a| a.get_help()).map(ToString::to_string);
        text += &format!("\n{}#{word} = {example}\n", comment(&help.unwrap_or_default()));
    }
    text
}

/// The configuration of zram-generator in `file`, or where that looks for it, as ours.
pub fn from_zram_generator(file: &Path) -> StartResult<String> {
    let places = match file.as_os_str().is_empty() {
        true => zram_generator::FILES.map(PathBuf::from).to_vec(),
        false => vec![file.to_owned()],
    };
    let mut paths = zram_generator::files(&places);
    if paths.is_empty() && !file.as_os_str().is_empty() {
        // Reading it says what is wrong.
        paths.push(file.to_owned());
    }
    if paths.is_empty() {
        let what = "zram-generator has no configuration on this machine";
        return Err(StartError::failure(what, "name a file: --from-zram-generator=FILE"));
    }
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(e) => {
            let what = format!("cannot read {}: {e}", path.display());
            Err(StartError::usage(what, "name another file"))
        }
    };
    let files: StartResult<Vec<(PathBuf, String)>> = paths.into_iter().map(read).collect();
    zram_generator::import(&files?)
        .map_err(|e| StartError::usage(e, "correct it, or begin with `uswap generate config`"))
}

/// `text` in lines that begin with "# ".
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("one was there");
        if last.len() + 1 + word.len() > WIDTH {
            lines.push(format!("# {word}"));
        } else {
            *last += &format!(" {word}");
        }
    }
    lines.join("\n") + "\n"
}
