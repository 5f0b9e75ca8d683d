//! The util-linux programs that change the kernel's list of swap areas.

use crate::config::size;
use crate::daemon::usage::{SwapArea, swap_area};
use crate::error::{StartError, StartResult};
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest label that fits in a swap header with its closing zero.
const LABEL_BYTES_MAX: usize = 15;
/// For a PATH without the system directories, as users and some units have.
const PROGRAM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes a swap header to `device` and switches it on, unless it is swap already: a service that
/// goes on where a dead one was still has the pages. A line for the person who asked comes back.
pub fn enable(device: &str, name: &str, priority: i16, discard: bool) -> StartResult<String> {
    if let Ok(Some(area)) = swap_area(Path::new("/"), Path::new(device)) {
        return Ok(format!("swap is still on {device}: {}", describe(&area)));
    }
    let mut label = format!("uswap-{name}");
    label.truncate(LABEL_BYTES_MAX);
    program("mkswap", &["-L", &label, device])?;
    let priority_word = priority.to_string();
    let mut words = vec!["-p", &priority_word];
    words.extend(discard.then_some("-d"));
    words.push(device);
    program("swapon", &words)?;
    Ok(format!("swap on {device} priority {priority}"))
}

/// What a person types to do [`enable`] by hand.
pub fn enable_by_hand(device: &str, priority: i16, discard: bool) -> String {
    let discard = if discard { " -d" } else { "" };
    format!("`mkswap {device} && swapon -p {priority}{discard} {device}`")
}

/// A program that is looked for where administrators' programs are.
pub fn command(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:{PROGRAM_PATH}")).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a system program to its end; its last line of errors is the message.
pub fn program(name: &str, words: &[&str]) -> StartResult<()> {
    let output = command(name).args(words).output().map_err(|e| {
        StartError::failure(format!("cannot run {name}: {e}"), "install util-linux")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors = errors.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>();
    let last = errors.last().map_or_else(|| output.status.to_string(), |l| (*l).to_owned());
    let last = last.strip_prefix(&format!("{name}: ")).unwrap_or(&last).to_owned();
    let remedy = remedy(&last).unwrap_or("see `uswap doctor` and the kernel log (dmesg)");
    Err(StartError::failure(format!("{name} {}: {last}", words.join(" ")), remedy))
}

/// What to do about a program's message, where that is plain.
pub fn remedy(message: &str) -> Option<&'static str> {
    let denied = ["ermission denied", "not permitted", "superuser"];
    denied.iter().any(|words| message.contains(words)).then_some("run as root")
}

/// `used of size, priority P`.
pub fn describe(area: &SwapArea) -> String {
    let (used, size) = (size::format(area.used_bytes), size::format(area.size_bytes));
    format!("{used} of {size} used, priority {}", area.priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told() {
        let error = program("uswap-no-such-program", &[]).expect_err("missing").to_string();
        assert!(error.contains("install util-linux"), "{error}");
        let error = program("false", &["x"]).expect_err("fails").to_string();
        assert!(error.contains("false x: exit status: 1"), "{error}");
        assert_eq!(remedy("swapoff: Not superuser."), Some("run as root"));
        assert_eq!(remedy("Cannot allocate memory"), None);
    }
}
