//! Settings that can change while the device serves.

use super::device::Context;
use super::unit::restart_words;
use super::{cannot, program, state};
use crate::config::load::{Keys, nearest};
use crate::config::policy::{self, PolicyChoice};
use crate::config::{Settings, Target, check, metrics};
use crate::error::{StartError, StartResult};
use crate::limits::POLL_US_MAX;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys that `set` can change.
pub const KEYS: [&str; 3] = ["policy", "poll-us", "metrics"];

/// The settings that may have changed since the start.
#[derive(Debug)]
pub struct Live {
    /// Longest polling, microseconds: queue threads look at it before each.
    pub poll_us: Arc<AtomicU32>,
    policy: Mutex<PolicyChoice>,
}

impl Live {
    /// As the service was started.
    pub fn new(settings: &Settings) -> Self {
        Self {
            poll_us: Arc::new(AtomicU32::new(settings.poll_us)),
            policy: Mutex::new(settings.policy.clone()),
        }
    }

    /// The policy now.
    pub fn policy(&self) -> PolicyChoice {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Changes `key` to `value`, until the service ends, whoever serves it. Says what is so now, or why
/// not and what to do instead. May wait for the address of the metrics, not for requests.
pub fn set(context: &Context<'_>, key: &str, value: &str) -> StartResult<String> {
    match key {
        "policy" => {
            if context.settings.target != Target::Swap {
                let what = format!("the {} target has no policy", context.settings.target.name());
                return Err(StartError::usage(what, "it is for --target swap"));
            }
            let choice = policy::named(Path::new("/"), value)?;
            keep(context, |dir| program::keep_policy(dir, &choice))?;
            context.movement.change(choice.settings.clone());
            *context.live.policy.lock().unwrap_or_else(PoisonError::into_inner) = choice;
        }
        "poll-us" => {
            let us = value.parse().map_err(|_| {
                let remedy = format!("use a number from 0 to {POLL_US_MAX}");
                StartError::usage(format!("poll-us: \"{value}\" is not a whole number"), remedy)
            })?;
            check::between(key, us, 0, POLL_US_MAX)?;
            context.live.poll_us.store(us, Ordering::Relaxed);
        }
        "metrics" => context.scrape.move_to(metrics::parse(Some(value))?.address)?,
        _ => return Err(fixed(&context.settings.name, key)),
    }
    keep(context, |dir| program::change_word(dir, &format!("--{key}"), value))?;
    Ok(format!("{key} is {value}"))
}

/// Has those know it that take over.
fn keep(context: &Context<'_>, write: impl FnOnce(&Path) -> io::Result<()>) -> StartResult<()> {
    if context.seat.is_none() {
        return Ok(());
    }
    let Settings { run_dir, name, .. } = context.settings;
    write(&state::dir_of(run_dir, name)).map_err(|e| cannot("note it for who takes over", &e))
}

/// Why another key cannot be changed.
fn fixed(name: &str, key: &str) -> StartError {
    if Keys::WORDS.contains(&key) {
        let restart = restart_words(Path::new("/"), std::process::id(), name);
        return StartError::failure(
            format!("{key} cannot change while the service runs"),
            format!("set it in /etc/uswap/{name}.toml, then {restart}"),
        );
    }
    let live = KEYS.join(", ");
    let remedy = match nearest(key) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("these can change while the service runs: {live}"),
    };
    StartError::usage(format!("unknown key \"{key}\""), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_is_told_with_what_to_do() {
        assert!(KEYS.iter().all(|key| Keys::WORDS.contains(key)));
        let text = fixed("x", "pool").to_string();
        assert!(text.starts_with("pool cannot change while") && text.contains("`uswap down x`"));
        assert!(fixed("x", "polling-us").to_string().contains("these can change"));
        assert!(fixed("x", "poll_us").to_string().contains("did you mean \"poll-us\"?"));
    }
}
