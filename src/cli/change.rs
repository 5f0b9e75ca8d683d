//! `uswap set` and `uswap reload`: changes to a service that runs.

use super::service::{Service, refused};
use super::{complain, note, say};
use crate::cli::flags::RunDir;
use crate::config::load::{self, Keys};
use crate::config::policy::resolved;
use crate::config::{Settings, check, size};
use crate::daemon::LIVE_KEYS;
use crate::daemon::protocol::{Reply, Request, Status, ask};
use crate::daemon::unit::restart_words;
use crate::error::StartResult;
use clap::Args;
use std::path::{Path, PathBuf};

/// Keys whose values are bytes.
const SIZES: [&str; 4] = ["size", "pool", "staging", "spill-size"];

#[derive(Args, Debug)]
#[command(after_help = "\
Keys that can change: policy, poll-us, metrics. It holds until the service ends; to keep it, set
it in /etc/uswap/NAME.toml as well.")]
pub struct Set {
    /// Key, as in the configuration file
    #[arg(value_name = "KEY")]
    key: String,
    /// Its new value
    #[arg(value_name = "VALUE")]
    value: String,
    /// Name of the service [default: the only one]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Set {
    /// Changes it.
    pub fn execute(&self) -> StartResult<()> {
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        // A file is named from where we are, not from where the service is.
        let value = match self.key.as_str() {
            "policy" => resolved(&self.value)?,
            _ => self.value.clone(),
        };
        say(&format!("{}\n", change(&service, &self.key, &value)?))
    }
}

fn change(service: &Service, key: &str, value: &str) -> StartResult<String> {
    let request = Request::Set { key: key.into(), value: value.into() };
    match ask(&service.socket, &request)? {
        Reply::Done { message } => Ok(message),
        Reply::Refused { message, usage } => Err(refused(&message, usage)),
        Reply::Status(_) | Reply::Stopping => Err(refused("an answer to another question", false)),
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Only what the file and its drop-ins say is looked at; what they do not mention stays as it is.")]
pub struct Reload {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The file to read [default: /etc/uswap/NAME.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Reload {
    /// Reads the service's file again and does what of it can be done; says what cannot.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        let status = service.status()?;
        let flags = Keys { name: Some(service.name.clone()), ..Keys::default() };
        let file = load::file_of(self.config.as_deref(), Some(&service.name));
        let keys = load::keys(root, self.config.as_deref(), flags.clone())?;
        let settings = check::settings(root, keys.clone())
            .map_err(|e| load::located(root, &file, &flags, e))?;
        let mut failed = None;
        let mut changed = false;
        for Difference { key, wanted, now } in differences(&keys, &settings, &status) {
            let (shown, was) = shown(key, &wanted, &now);
            if !LIVE_KEYS.contains(&key) {
                note(&format!(
                    "{key} is {was} and stays so until the service is started anew; to make it \
                     {shown}: {}",
                    restart_words(root, status.pid, &status.name)
                ));
                continue;
            }
            match change(&service, key, &wanted) {
                Ok(message) => {
                    say(&format!("{message} (was {was})\n"))?;
                    changed = true;
                }
                // The others are tried all the same: each says for itself what became of it.
                Err(e) => {
                    if let Some(before) = failed.replace(e) {
                        complain(&before);
                    }
                }
            }
        }
        match failed {
            Some(e) => Err(e),
            None if changed => Ok(()),
            None => say("nothing to change\n"),
        }
    }
}

/// A key that is given and not as the service runs. Values are exact.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    key: &'static str,
    wanted: String,
    now: String,
}

/// What of `keys`, with the values in `wanted`, is not so now.
fn differences(keys: &Keys, wanted: &Settings, status: &Status) -> Vec<Difference> {
    let words = wanted.words();
    let running = status.policy.as_ref().map(|policy| policy.digest.as_str());
    let same_policy = running.is_none_or(|digest| digest == wanted.policy.digest());
    // The service was found by its name.
    let given = Keys::WORDS.iter().filter(|key| **key != "name" && keys.says(key));
    // An older server does not say what it runs with.
    let silent = if status.settings.is_empty() { "not known" } else { "none" };
    let differ = given.filter_map(|&key| {
        let wanted = words.get(key)?.clone();
        let now = status.settings.get(key).cloned().unwrap_or_else(|| silent.into());
        let same = wanted == now && (key != "policy" || same_policy);
        (!same).then_some(Difference { key, wanted, now })
    });
    differ.collect()
}

/// Two values for people.
fn shown(key: &str, wanted: &str, now: &str) -> (String, String) {
    let size = |text: &str| match text.parse() {
        Ok(bytes) if SIZES.contains(&key) => size::format(bytes),
        _ => text.to_owned(),
    };
    match (size(wanted), size(now)) {
        // Rounded to the same, or the same policy file with other words in it.
        (a, b) if a == b && SIZES.contains(&key) => (wanted.to_owned(), now.to_owned()),
        (a, b) if a == b => (a, "other words in it".into()),
        both => both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Change;

    #[test]
    fn the_table_beside_the_keys_is_what_the_server_can_do() {
        let keys = Keys::WORDS.iter().zip(Keys::CHANGES);
        let mut live: Vec<&str> =
            keys.filter(|(_, change)| **change == Change::Live).map(|(key, _)| *key).collect();
        let mut can = LIVE_KEYS.to_vec();
        live.sort_unstable();
        can.sort_unstable();
        assert_eq!(live, can);
    }

    #[test]
    fn sizes_are_for_people_unless_that_hides_the_difference() {
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(shown("pool", "2147483648", "16777216"), both("2G", "16M"));
        assert_eq!(shown("pool", "2147483648", "2147487744"), both("2147483648", "2147487744"));
        assert_eq!(shown("depth", "4096", "64"), both("4096", "64"));
        assert_eq!(shown("policy", "x.toml", "x.toml"), both("x.toml", "other words in it"));
    }
}
