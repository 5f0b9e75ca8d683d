//! `uswap up`: a service in the background, in use as swap when this returns, or nothing left.
//!
//! mkswap and swapon run from here, not from the server, which must not fork.

use super::flags::{self, RunFlags};
use super::service::{Service, State};
use super::{doctor, note, say, swap, tune};
use crate::config::{NAME_DEFAULT, PRIORITY_DEFAULT, Settings, Target, size};
use crate::daemon::usage::swap_area;
use crate::error::{StartError, StartResult};
use clap::Args;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a service that nobody uses may take to end.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub struct Up {
    /// Name of the service [default: default]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    flags: RunFlags,
    /// Leave vm.page-cluster alone; otherwise it is set to 0 (no readahead) until `down`
    #[arg(long)]
    keep_page_cluster: bool,
    /// Switch zswap off until `down`; otherwise it stays in front of the device, with a warning
    #[arg(long)]
    disable_zswap: bool,
}

impl Up {
    /// Starts, makes and enables swap.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let name = match (&self.name, self.flags.config()) {
            (None, None) => Some(NAME_DEFAULT),
            (name, _) => name.as_deref(),
        };
        let settings = self.flags.settings(root, name, |keys| {
            keys.discard.get_or_insert(true);
            keys.swapon = Some(true);
        })?;
        if settings.target == Target::Null {
            return Err(StartError::usage(
                "the null target stores nothing, so it cannot be swap",
                "use `uswap run --target null`",
            ));
        }
        let service = Service {
            name: settings.name.clone(),
            socket: settings.socket.clone(),
            run_dir: settings.run_dir.clone(),
        };
        let running = running_device(&service)?;
        if running.is_none() {
            crate::daemon::check_for_swap(&settings)?;
            // Here, where it is seen how that gets on.
            crate::daemon::make_spill(&settings, &note)?;
        }
        self.tune(root, &settings.run_dir);
        let enabled = match running {
            Some(device) => enable(&settings, &device).map(|()| device),
            None => start_and_enable(&settings, &service),
        };
        let device = enabled.inspect_err(|_| {
            tune::restore(root, &settings.run_dir).iter().for_each(|line| note(line));
        })?;
        // swapon has succeeded; without a readable table the line is only shorter.
        let area = swap_area(root, Path::new(&device)).ok().flatten();
        let area = area.map_or_else(String::new, |area| {
            format!(" size {} priority {}", size::format(area.size_bytes), area.priority)
        });
        say(&format!("swap on {device}{area}\n"))
    }
}

impl Up {
    /// Settings of the machine: says what was changed, and what would better be.
    fn tune(&self, root: &Path, run_dir: &Path) {
        let page_cluster = (!self.keep_page_cluster).then_some(tune::PAGE_CLUSTER);
        let zswap = self.disable_zswap.then_some(tune::ZSWAP);
        for tuning in [page_cluster, zswap].into_iter().flatten() {
            if let Some(line) = tuning.apply(root, run_dir) {
                note(&line);
            }
        }
        if !self.disable_zswap
            && let Some(warning) = doctor::zswap_in_front(root)
        {
            note(&format!("{warning}; or use `uswap up --disable-zswap`"));
        }
    }
}

/// The device of a service that already runs and waits to be used; one that is in use is an error.
fn running_device(service: &Service) -> StartResult<Option<String>> {
    let State::Running(status) = service.state()? else { return Ok(None) };
    let name = &service.name;
    let Some(used) = status.swap else {
        note(&format!("{name} already runs as {}; using it as it is", status.device));
        return Ok(Some(status.device));
    };
    let used = size::format(used.used_bytes);
    Err(StartError::failure(
        format!("{name} already runs and is in use as swap on {} ({used} used)", status.device),
        format!("see `uswap status {name}`, or take it down first with `uswap down {name}`"),
    ))
}

fn enable(settings: &Settings, device: &str) -> StartResult<()> {
    let priority = settings.priority.unwrap_or(PRIORITY_DEFAULT);
    swap::enable(device, &settings.name, priority, settings.discard).map(drop)
}

fn start_and_enable(settings: &Settings, service: &Service) -> StartResult<String> {
    let log = log_path(settings);
    let mut child = start(settings, open_log(settings)?)?;
    let Some(device) = child.stdout.take().and_then(wait_ready) else {
        return Err(death(&mut child, &log));
    };
    match enable(settings, &device) {
        Ok(()) => Ok(device),
        Err(e) => Err(undo(&mut child, service, &device, &e)),
    }
}

fn log_path(settings: &Settings) -> PathBuf {
    settings.run_dir.join(format!("{}.log", settings.name))
}

/// A new, private log in place of the previous one. `create_new` never follows somebody's link.
fn open_log(settings: &Settings) -> StartResult<File> {
    let fail = |path: &Path, e: std::io::Error| {
        let remedy = if e.kind() == ErrorKind::PermissionDenied {
            "run as root, or use a --run-dir that you may write"
        } else {
            "see whether its file system is writable and has room"
        };
        StartError::failure(format!("cannot create {}: {e}", path.display()), remedy)
    };
    let dir = &settings.run_dir;
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|e| fail(dir, e))?;
    let path = log_path(settings);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(&path, e)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.map_err(|e| fail(&path, e))
}

fn start(settings: &Settings, log: File) -> StartResult<Child> {
    // swapon is done here, where its errors are.
    let served = Settings { swapon: false, ..settings.clone() };
    Command::new("/proc/self/exe")
        .arg0("uswap")
        .arg("run")
        .args(flags::to_args(&served))
        .arg("--new-session")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| StartError::failure(format!("cannot start the server: {e}"), "mount /proc"))
}

/// The device, once the server serves it; nothing if the server ends first.
fn wait_ready(out: impl std::io::Read) -> Option<String> {
    let lines = BufReader::new(out).lines().map_while(Result::ok);
    lines.into_iter().find_map(|line| line.strip_prefix("ready ").map(str::to_owned))
}

/// Why the server ended before it was ready, in its own words, with its own kind of exit code.
fn death(child: &mut Child, log: &Path) -> StartError {
    let ended = child.wait().ok();
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last = last.strip_prefix("uswap: ").unwrap_or(last);
    let code = ended.map_or_else(|| "unknown".into(), |status| status.to_string());
    let (what, remedy) = last.split_once("; ").unwrap_or((last, "see `uswap doctor`"));
    let what = format!("the server ended ({code}): {what}");
    match ended.and_then(|status| status.code()) {
        Some(2) => StartError::usage(what, remedy),
        _ => StartError::failure(what, remedy),
    }
}

/// Swap could not be enabled: ends the server again, by request and, if it is deaf, by force. Never
/// by force while the kernel uses the device after all, because the pages in it would be lost.
fn undo(child: &mut Child, service: &Service, device: &str, why: &StartError) -> StartError {
    let asked = service.stop();
    if asked.is_ok() && service.gone_within(child.id(), STOP_WAIT_MAX) {
        let _ = child.wait();
        return StartError::failure(format!("{why}"), "the service was stopped again");
    }
    // A table that cannot be read counts as "in use".
    if swap_area(Path::new("/"), Path::new(device)).map_or(true, |area| area.is_some()) {
        let remedy = format!("{device} may be in use all the same: `uswap down {}`", service.name);
        return StartError::failure(format!("{why}"), remedy);
    }
    let _ = child.kill();
    let _ = child.wait();
    crate::daemon::kill_all(&service.name, &service.run_dir);
    let left = crate::daemon::remove_leftover(&service.name, &service.run_dir, &service.socket);
    let left = left.err().map_or_else(String::new, |e| format!(" ({e})"));
    StartError::failure(format!("{why}"), format!("the service was killed{left}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_found_and_death_is_not_waited_for() {
        assert_eq!(wait_ready(&b"x\nready /dev/ublkb3\nmore"[..]), Some("/dev/ublkb3".into()));
        assert_eq!(wait_ready(&b"nothing"[..]), None);
    }
}
