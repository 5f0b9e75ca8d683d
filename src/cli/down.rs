//! `uswap down`: swapoff with progress, then the server ends. Also cleans up after a dead server.

use super::service::{Service, State};
use super::swap::{self, SwapArea};
use super::{note, say};
use crate::config::{NAME_DEFAULT, check, size, under};
use crate::error::{StartError, StartResult};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// How long a stopped service may take to delete its device and give its memory back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);
/// Time between two looks at a running swapoff.
const POLL: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub struct Down {
    /// Name of the service [default: default]
    #[arg(value_name = "NAME", default_value = NAME_DEFAULT, hide_default_value = true)]
    name: String,
    /// State of all services [default: the service's configuration, then /run/uswap]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Do swapoff even if its pages may not fit in the memory that is available
    #[arg(long)]
    force: bool,
}

impl Down {
    /// Takes the service down, or what is left of it.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let service = Service::named(root, &self.name, self.run_dir.as_deref())?;
        let State::Running(status) = service.state()? else {
            return clean_up(root, &service);
        };
        if let Some(area) = swap::area(root, &status.device) {
            room_for(root, &area, self.force)?;
            swapoff(root, &area)?;
        }
        service.stop()?;
        if !service.gone_within(status.pid, STOP_WAIT_MAX) {
            return Err(StartError::failure(
                format!("{} has not ended after {} s", self.name, STOP_WAIT_MAX.as_secs()),
                format!("its server is process {}; see `uswap status {}`", status.pid, self.name),
            ));
        }
        say(&format!("{} is down\n", self.name))
    }
}

/// Whether the pages in `area` have room in RAM. Its own pool is no help: it is freed only
/// afterwards.
fn room_for(root: &Path, area: &SwapArea, force: bool) -> StartResult<()> {
    let memory = check::memory(root)?;
    if force || area.used <= memory.available {
        return Ok(());
    }
    let (used, there) = (size::format(area.used), size::format(memory.available));
    Err(StartError::failure(
        format!("{} holds {used}, but only {there} of memory are available", area.path),
        "end some programs first, or use --force and risk that the kernel kills some",
    ))
}

fn swapoff(root: &Path, area: &SwapArea) -> StartResult<()> {
    let mut command = swap::command("swapoff");
    command.arg(&area.path).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| {
        StartError::failure(format!("cannot run swapoff: {e}"), "install util-linux")
    })?;
    let terminal = std::io::stderr().is_terminal();
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if let (true, Some(now)) = (terminal, swap::area(root, &area.path)) {
            progress(&format!("swapoff {}: {} left", area.path, size::format(now.used)));
        }
        sleep(POLL);
    }
    if terminal {
        progress("");
    }
    let output = child.wait_with_output();
    if output.as_ref().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let why = output.map_or_else(
        |e| e.to_string(),
        |output| {
            let text = String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", ");
            if text.is_empty() { output.status.to_string() } else { text }
        },
    );
    let again = "the service still runs and its pages are safe; free some memory and try again";
    let remedy = swap::remedy(&why).unwrap_or(again);
    Err(StartError::failure(format!("swapoff {} failed: {why}", area.path), remedy))
}

/// Replaces the terminal's current line.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
}

/// The server is gone. Says what it left, and removes that unless a device is in use.
fn clean_up(root: &Path, service: &Service) -> StartResult<()> {
    let name = &service.name;
    let state = service.run_dir.join(name);
    let left: Vec<&Path> =
        [state.as_path(), &service.socket].into_iter().filter(|path| path.exists()).collect();
    if left.is_empty() {
        return Err(StartError::failure(
            format!("no service {name} runs"),
            format!("see `uswap list`, or start it with `uswap up {name}`"),
        ));
    }
    let left = left.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let stray = stray_devices(root, service);
    let used: Vec<&SwapArea> = stray.iter().filter_map(|(_, area)| area.as_ref()).collect();
    if let Some(area) = used.first() {
        return Err(StartError::failure(
            format!(
                "the server of {name} is dead; left are {left} and a device without a server that \
                 is in use as swap: {} ({})",
                area.path,
                swap::describe(area)
            ),
            format!(
                "start the server again with `uswap run --name {name}`; if that does not take the \
                 device over, save your work and reboot (swapoff would wait for ever)"
            ),
        ));
    }
    note(&format!("the server of {name} is dead; removing {left}"));
    if stray.is_empty() {
        return remove_files(root, &state, &service.socket)
            .and_then(|()| say(&format!("{name} is down\n")));
    }
    crate::daemon::remove_leftover(name, &service.run_dir, &service.socket)?;
    say(&format!("{name} is down\n"))
}

/// ublk devices that no uswap service in the same run directory answers for, and their use as swap.
fn stray_devices(root: &Path, service: &Service) -> Vec<(String, Option<SwapArea>)> {
    let served: Vec<String> = Service::all(&service.run_dir)
        .unwrap_or_default()
        .iter()
        .filter_map(|other| match other.state() {
            Ok(State::Running(status)) => Some(status.device),
            _ => None,
        })
        .collect();
    let entries = std::fs::read_dir(under(root, Path::new("/sys/block")));
    let mut devices: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("ublkb"))
        .map(|name| format!("/dev/{name}"))
        .filter(|device| !served.contains(device))
        .collect();
    devices.sort();
    devices.into_iter().map(|device| (device.clone(), swap::area(root, &device))).collect()
}

/// No device is left, so only the names are: they cannot be in anybody's use.
fn remove_files(root: &Path, state: &Path, socket: &Path) -> StartResult<()> {
    let mounts = std::fs::read_to_string(under(root, Path::new("/proc/self/mounts")));
    let is_state = |line: &str| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == state);
    if mounts.unwrap_or_default().lines().any(is_state) {
        swap::program("umount", &[&state.to_string_lossy()])?;
    }
    let socket = std::fs::remove_file(socket);
    let state = std::fs::remove_dir_all(state);
    for done in [socket, state] {
        match done {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let remedy = "run as root; if it is a mount, use umount first";
                return Err(StartError::failure(
                    format!("cannot remove what is left: {e}"),
                    remedy,
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
