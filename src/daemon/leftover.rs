//! A service's name and what a server that died leaves under it.
//!
//! A server holds the lock of its name for as long as it lives, so whoever gets the lock knows that
//! none does, whatever socket it would listen on.

use super::control_page::{ControlPage, Phase};
use super::{cannot, state, usage};
use crate::error::{StartError, StartResult};
use crate::sys::lockfile::LockFile;
use crate::sys::process::{Ask, Process};
use crate::sys::statefs::StateDir;
use crate::sys::wake::wait_readable;
use crate::ublk::Controller;
use crate::ublk::ctrl::{DeviceState, block_path};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the driver may take to notice that a server died (6.12 with a request timer of 1 s:
/// measured 1.7 s).
const DEATH_WAIT_MAX: Duration = Duration::from_secs(4);
const DEATH_POLL: Duration = Duration::from_millis(50);
/// How long a killed process may take to end.
const KILL_WAIT_MAX: Duration = Duration::from_secs(5);

/// A service whose parent is dead, and which can go on.
#[derive(Debug)]
pub struct Found {
    /// Its state directory.
    pub dir: PathBuf,
    /// Its control page.
    pub page: ControlPage,
}

/// Locks a name for this server's life. Refuses if a server has it, or one died and left its state.
pub fn take_name(name: &str, run_dir: &Path) -> StartResult<LockFile> {
    let lock = take(name, run_dir)?;
    let dir = state::dir_of(run_dir, name);
    if StateDir::is_mounted(&dir) { Err(unusable(name, &dir, "")) } else { Ok(lock) }
}

/// Locks a name for this parent's life. If the former one died and left a service that can go on,
/// that is found; one that cannot is refused and left as it is.
pub fn take_or_find(
    name: &str,
    run_dir: &Path,
    controller: &mut Controller,
) -> StartResult<(LockFile, Option<Found>)> {
    let lock = take(name, run_dir)?;
    let dir = state::dir_of(run_dir, name);
    if !StateDir::is_mounted(&dir) {
        return Ok((lock, None));
    }
    let page = ControlPage::open(&dir).map_err(|e| unusable(name, &dir, &format!(" ({e})")))?;
    let info = page.device().map(|id| controller.info(id)).transpose();
    let info = info.map_err(|e| cannot("ask for the device", &e))?.flatten();
    match info {
        Some(info) if info.cookie == page.cookie() && page.phase() == Phase::Serving => {
            Ok((lock, Some(Found { dir, page })))
        }
        Some(_) if page.phase() == Phase::Serving => {
            Err(unusable(name, &dir, ", and its device's number is another's now"))
        }
        _ => Err(unusable(name, &dir, ", and it has no device")),
    }
}

/// Whether a process of the service `name` lives that answers for it: its parent, or its server if
/// that is alone.
pub fn is_taken(name: &str, run_dir: &Path) -> bool {
    lock_path(name, run_dir).exists() && matches!(lock(name, run_dir), Ok(None))
}

fn take(name: &str, run_dir: &Path) -> StartResult<LockFile> {
    lock(name, run_dir)?.ok_or_else(|| {
        StartError::failure(
            format!("a service {name} already runs"),
            format!("give another --name, or stop it with `uswap down {name}`"),
        )
    })
}

fn unusable(name: &str, dir: &Path, why: &str) -> StartError {
    StartError::failure(
        format!("{} holds the state of a server that died{why}", dir.display()),
        format!("run `uswap down {name}` to remove it"),
    )
}

fn lock_path(name: &str, run_dir: &Path) -> PathBuf {
    run_dir.join(format!("{name}.lock"))
}

fn lock(name: &str, run_dir: &Path) -> StartResult<Option<LockFile>> {
    let path = lock_path(name, run_dir);
    // As `uswap up` makes it: names are no secret, so that `uswap list` can say "run as root" to
    // others, and whatever is in there is its owner's alone.
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(run_dir);
    made.and_then(|()| LockFile::take(&path)).map_err(|e| {
        let what = format!("cannot lock {} ({e})", path.display());
        StartError::failure(what, "run as root, or give another --run-dir")
    })
}

/// Ends every process of a service, at once, whether or not its parent lives.
pub fn kill_all(name: &str, run_dir: &Path) {
    let Ok(page) = ControlPage::open(&state::dir_of(run_dir, name)) else { return };
    for ticket in page.recent_tickets() {
        if let Ok(Some(process)) = Process::open(page.holder(ticket)) {
            let _ = process.ask(Ask::Die);
            let _ = wait_readable([process.as_fd()], KILL_WAIT_MAX);
        }
    }
}

/// Removes device, state and socket of a dead service. Refuses while a server has the name, and
/// while anybody uses the device: its pages exist only in the state that would go.
pub fn remove_leftover(name: &str, run_dir: &Path, socket: &Path) -> StartResult<()> {
    let dir = state::dir_of(run_dir, name);
    if !dir.exists() && !socket.exists() {
        let what = format!("no service {name} runs");
        return Err(StartError::failure(what, "see `uswap list`"));
    }
    let Some(_lock) = lock(name, run_dir)? else {
        let what = format!("the server of {name} lives, but not behind {}", socket.display());
        return Err(StartError::failure(what, "give its --run-dir, or send it SIGTERM"));
    };
    remove(name, &dir)?;
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(cannot(&format!("remove {}", socket.display()), &e))
        }
        _ => Ok(()),
    }
}

/// Removes device and state, for whoever has the name's lock.
pub fn remove(name: &str, dir: &Path) -> StartResult<()> {
    refuse_if_alive(name, dir)?;
    if let Some(id) = state::noted_device(dir) {
        let cookie = ControlPage::open(dir).ok().map(|page| page.cookie());
        remove_device(name, id, cookie)?;
    }
    StateDir::remove(dir).map_err(|e| cannot(&format!("remove {}", dir.display()), &e))
}

/// Whether a process of the service lives, be it a server or not. What cannot be told is no.
pub fn has_process(name: &str, run_dir: &Path) -> bool {
    let Ok(page) = ControlPage::open(&state::dir_of(run_dir, name)) else { return false };
    let holders = page.recent_tickets().map(|ticket| page.holder(ticket));
    let mut all = holders.chain([page.parent()]).filter(|holder| holder.pid != 0);
    all.any(|holder| matches!(Process::open(holder), Ok(Some(_))))
}

/// Refuses while a process of the service lives although its parent does not.
fn refuse_if_alive(name: &str, dir: &Path) -> StartResult<()> {
    let Ok(page) = ControlPage::open(dir) else { return Ok(()) };
    for ticket in page.recent_tickets() {
        let holder = page.holder(ticket);
        let process = Process::open(holder).map_err(|e| cannot("look for processes", &e))?;
        if process.is_some() {
            let what = format!("process {} of {name} lives, but its parent does not", holder.pid);
            let remedy = format!("run `uswap run --name {name}`, which goes on with it");
            return Err(StartError::failure(what, remedy));
        }
    }
    Ok(())
}

/// Takes the device away that a dead server left, if it is still there and nobody's. One with
/// another cookie has got the number since.
/// Whoever has a device open that nobody serves may wait for it, and then cannot even be killed:
/// where there was a parent another server can help.
fn not_stopped(name: &str, device: &Path, goes_on: bool, error: &io::Error) -> StartError {
    if error.kind() != io::ErrorKind::ResourceBusy {
        return cannot(&format!("stop {}", device.display()), error);
    }
    let what = format!("{} is open, and its server is dead", device.display());
    let close = format!("close whatever has it open (`fuser -v {}` shows it)", device.display());
    let remedy = if goes_on {
        format!("run `uswap run --name {name}`, which serves it again, then {close}")
    } else {
        format!("{close} and try again")
    };
    StartError::failure(what, remedy)
}

fn remove_device(name: &str, id: u32, cookie: Option<u64>) -> StartResult<()> {
    let mut controller = Controller::open()?;
    let info = controller.info(id).map_err(|e| cannot("ask for the device", &e))?;
    if cookie.is_some_and(|cookie| info.is_none_or(|info| info.cookie != cookie)) {
        return Ok(());
    }
    let deadline = Instant::now() + DEATH_WAIT_MAX;
    let (found, device) = (|| loop {
        match controller.state(id)? {
            DeviceState::Live(_) if Instant::now() < deadline => std::thread::sleep(DEATH_POLL),
            other => return Ok::<_, io::Error>(other),
        }
    })()
    .map(|found| (found, block_path(id)))
    .map_err(|e| cannot("ask for the device", &e))?;
    match found {
        DeviceState::None => return Ok(()),
        DeviceState::Live(pid) => {
            let what = format!("{} is served by process {pid}, not by {name}", device.display());
            let remedy = format!("if {name} is gone for good, unmount its directory by hand");
            return Err(StartError::failure(what, remedy));
        }
        DeviceState::NeverStarted => {}
        DeviceState::Orphaned => {
            let swap = usage::swap_area(Path::new("/"), &device);
            if swap.as_ref().is_ok_and(Option::is_some) {
                let what = format!(
                    "{} is in use as swap and its server is dead: its pages wait for another one",
                    device.display()
                );
                let remedy = format!("run `uswap run --name {name}`, which takes it over");
                return Err(StartError::failure(what, remedy));
            }
            usage::refuse_if_used(Path::new("/"), name, id)?;
            controller.stop(id).map_err(|e| not_stopped(name, &device, cookie.is_some(), &e))?;
        }
    }
    controller.delete(id).map_err(|e| cannot(&format!("delete device {id}"), &e))
}
