//! `uswap down`: swapoff with progress, then the server ends. Also cleans up after a dead server.

use super::service::{Service, State};
use super::{note, say, swap, tune};
use crate::config::{NAME_DEFAULT, check, size};
use crate::daemon::notify::Progress;
use crate::daemon::usage::{SwapArea, swap_area};
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a stopped service may take to delete its device and give its memory back.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long another swapoff of the same area may get nowhere.
const OTHER_WAIT_MAX: Duration = Duration::from_secs(3);
/// Time between two looks at a running swapoff.
const POLL: Duration = Duration::from_millis(100);
/// Time between two questions to the server meanwhile.
const ASK_EVERY: Duration = Duration::from_secs(2);

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
        let State::Running(status) = wait_for_server(&service)? else {
            return clean_up(&service);
        };
        let area = swap_area(root, Path::new(&status.device)).map_err(|e| {
            let what = format!("cannot tell whether {} is in use as swap ({e})", status.device);
            StartError::failure(what, "see `cat /proc/swaps`, and try again")
        })?;
        if let Some(area) = area {
            room_for(root, &area, self.force)?;
            swapoff(root, &area, &service)?;
        }
        if let Err(e) = service.stop()
            && !service.gone_within(status.pid, Duration::ZERO)
        {
            return Err(e);
        }
        if !service.gone_within(status.pid, STOP_WAIT_MAX) {
            return Err(StartError::failure(
                format!("{} has not ended after {} s", self.name, STOP_WAIT_MAX.as_secs()),
                format!("its server is process {}; see `uswap status {}`", status.pid, self.name),
            ));
        }
        put_back(root, &service);
        say(&format!("{} is down\n", self.name))
    }
}

/// What answers; while a service has no server but processes that make one, later.
fn wait_for_server(service: &Service) -> StartResult<State> {
    let start = Instant::now();
    loop {
        let state = service.state()?;
        let waits = matches!(state, State::Dead)
            && crate::daemon::is_taken(&service.name, &service.run_dir)
            && start.elapsed() < STOP_WAIT_MAX;
        if !waits {
            return Ok(state);
        }
        sleep(POLL);
    }
}

/// Whether the pages in `area` have room in RAM. Its own pool is no help: it is freed only
/// afterwards.
fn room_for(root: &Path, area: &SwapArea, force: bool) -> StartResult<()> {
    let memory = check::memory(root)?;
    if force || area.used_bytes <= memory.available {
        return Ok(());
    }
    let (used, there) = (size::format(area.used_bytes), size::format(memory.available));
    let device = area.path.display();
    Err(StartError::failure(
        format!("{device} holds {used}, but only {there} of memory are available"),
        "end some programs first, or use --force and risk that the kernel kills some",
    ))
}

fn swapoff(root: &Path, area: &SwapArea, service: &Service) -> StartResult<()> {
    let mut command = swap::command("swapoff");
    command.arg(&area.path).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| {
        StartError::failure(format!("cannot run swapoff: {e}"), "install util-linux")
    })?;
    let device = area.path.display();
    let mut progress = Progress::of(format!("swapoff {device}"));
    let (mut left, mut spilled) = (area.used_bytes, Spilled::default());
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        // One that gets nowhere is nothing to be patient with.
        if let Ok(Some(now)) = swap_area(root, &area.path)
            && now.used_bytes < left
        {
            left = now.used_bytes;
            let done = area.used_bytes - left;
            progress.tell(done, area.used_bytes, &spilled.note(service));
        }
        sleep(POLL);
    }
    drop(progress);
    let output = child.wait_with_output();
    if output.as_ref().is_ok_and(|output| output.status.success()) || done_by_another(root, area) {
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
    Err(StartError::failure(format!("swapoff {device} failed: {why}"), remedy))
}

/// Whether somebody else switches this area off at the same time, as systemd does at shutdown with
/// every swap area. Waits until they are done, as long as they get on.
fn done_by_another(root: &Path, area: &SwapArea) -> bool {
    let mut used = u64::MAX;
    let mut patience = OTHER_WAIT_MAX;
    loop {
        match swap_area(root, &area.path) {
            Ok(None) => return true,
            Ok(Some(now)) if now.used_bytes < used => {
                (used, patience) = (now.used_bytes, OTHER_WAIT_MAX);
            }
            _ if patience.is_zero() => return false,
            _ => patience = patience.saturating_sub(POLL),
        }
        sleep(POLL);
    }
}

/// Settings that `up` changed, unless another service still wants them so.
fn put_back(root: &Path, service: &Service) {
    tune::restore(root, &service.run_dir).iter().for_each(|line| note(line));
}

/// What is still to be read from the spill, asked for now and then.
#[derive(Debug, Default)]
struct Spilled {
    asked: Option<Instant>,
    note: String,
}

impl Spilled {
    fn note(&mut self, service: &Service) -> String {
        if self.asked.is_none_or(|at| at.elapsed() > ASK_EVERY) {
            let pages = service.status().map_or(0, |status| status.pages.spilled);
            let left = size::format(pages * PAGE_SIZE as u64);
            self.note = if pages == 0 { String::new() } else { format!(", {left} in the spill") };
            self.asked = Some(Instant::now());
        }
        self.note.clone()
    }
}

/// No server answers: removes what one may have left.
fn clean_up(service: &Service) -> StartResult<()> {
    let name = &service.name;
    service.expect_there()?;
    crate::daemon::remove_leftover(name, &service.run_dir, &service.socket)?;
    put_back(Path::new("/"), service);
    say(&format!("{name} is down\n"))
}
