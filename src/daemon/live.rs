//! Settings that can change while the device serves.

use super::device::Context;
use super::unit::restart_words;
use super::{cannot, program, state};
use crate::config::load::{Keys, nearest};
use crate::config::policy::{self, PolicyChoice};
use crate::config::{Settings, Target, check, metrics};
use crate::error::{StartError, StartResult};
use crate::limits::POLL_US_MAX;
use crate::script::Script;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys that `set` can change.
pub const KEYS: [&str; 3] = ["policy", "poll-us", "metrics"];

/// The settings that may have changed since the start.
#[derive(Debug)]
pub struct Live {
    /// Longest polling, microseconds: queue threads look at it before each.
    pub poll_us: Arc<AtomicU32>,
    policy: Mutex<PolicyChoice>,
    /// Times that a script was given up, or a new version of it refused.
    script_errors: AtomicU64,
    /// Why the latest version of the script's file was refused, until another policy holds.
    script_refused: Mutex<Option<String>>,
}

impl Live {
    /// As the service was started.
    pub fn new(settings: &Settings) -> Self {
        Self {
            poll_us: Arc::new(AtomicU32::new(settings.poll_us)),
            policy: Mutex::new(settings.policy.clone()),
            script_errors: AtomicU64::new(0),
            script_refused: Mutex::new(None),
        }
    }

    /// The policy now.
    pub fn policy(&self) -> PolicyChoice {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The policy's file and script, if it is one.
    pub fn script(&self) -> Option<(String, Script)> {
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy.script.clone().map(|script| (policy.name.clone(), script))
    }

    /// Notes that a script was given up, or a new version of it refused, and why that.
    pub fn note_script_error(&self, refused: Option<String>) {
        self.script_errors.fetch_add(1, Ordering::Relaxed);
        if refused.is_some() {
            *self.script_refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        }
    }

    /// How often that was, and why the latest version was refused.
    pub fn script_errors(&self) -> (u64, Option<String>) {
        let refused = self.script_refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.script_errors.load(Ordering::Relaxed), refused)
    }
}

impl Live {
    fn adopt(&self, context: &Context<'_>, choice: PolicyChoice) {
        context.movement.change(choice.policy());
        *self.script_refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = choice;
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
            take(context, policy::named(Path::new("/"), value)?)?;
        }
        "poll-us" => context.live.poll_us.store(poll_us(value)?, Ordering::Relaxed),
        "metrics" => context.scrape.move_to(metrics::parse(Some(value))?.address)?,
        _ => return Err(fixed(&context.settings.name, key)),
    }
    keep(context, |dir| program::change_word(dir, &format!("--{key}"), value))?;
    Ok(format!("{key} is {value}"))
}

/// Has the mover guided by another policy from its next step on, and those know it that take over.
pub fn take(context: &Context<'_>, choice: PolicyChoice) -> StartResult<()> {
    keep(context, |dir| program::keep_policy(dir, &choice))?;
    context.live.adopt(context, choice);
    Ok(())
}

/// Whoever takes over was started before something was set: takes what is kept, and says the
/// policy's name if it is another one. The metrics' own thread finds out where they are.
/// Reads the state directory only.
pub fn adopt_kept(context: &Context<'_>) -> StartResult<Option<String>> {
    let Settings { run_dir, name, target, .. } = context.settings;
    if context.seat.is_none() {
        return Ok(None);
    }
    let dir = state::dir_of(run_dir, name);
    let fail = |e| cannot("read the settings of the service", &e);
    if let Some(value) = program::read_word(&dir, "--poll-us").map_err(fail)? {
        context.live.poll_us.store(poll_us(&value)?, Ordering::Relaxed);
    }
    let policy = program::read_word(&dir, "--policy").map_err(fail)?;
    match policy.filter(|_| *target == Target::Swap) {
        Some(policy) => adopt_policy(context, &dir, policy),
        None => Ok(None),
    }
}

fn adopt_policy(context: &Context<'_>, dir: &Path, name: String) -> StartResult<Option<String>> {
    let fail = |e| cannot("read the policy of the service", &e);
    let kept = program::kept_policy(dir, &name).map(std::fs::read_to_string);
    let text = kept.transpose().map_err(fail)?;
    let now = context.live.policy();
    if now.name == name && now.text == text {
        return Ok(None);
    }
    let choice = match text {
        Some(text) => policy::of_text(name.clone(), &name, text)?,
        None => policy::named(Path::new("/"), &name)?,
    };
    context.live.adopt(context, choice);
    Ok(Some(name))
}

fn poll_us(value: &str) -> StartResult<u32> {
    let us = value.parse().map_err(|_| {
        let remedy = format!("use a number from 0 to {POLL_US_MAX}");
        StartError::usage(format!("poll-us: \"{value}\" is not a whole number"), remedy)
    })?;
    check::between("poll-us", us, 0, POLL_US_MAX)?;
    Ok(us)
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
