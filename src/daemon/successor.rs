//! Another program for a service that runs: put beside the old one, asked whether it knows the
//! state, then left to the parent.

use super::control_page::ControlPage;
use super::program::{self, PROGRAM};
use super::{cannot, state};
use crate::error::{StartError, StartResult};
use crate::sys::lockfile::LockFile;
use crate::sys::process::Process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names of the programs in the state directory before and after theirs is the turn.
const NEXT: &str = "uswap.next";
const FORMER: &str = "uswap.former";
/// Held by whoever upgrades.
const LOCK: &str = "upgrade.lock";
/// How long a standby may take to be warm, and to take over.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Whether this program can take over the service `name`: it knows the format of its state and of
/// its control page.
pub fn check(run_dir: &Path, name: &str) -> StartResult<()> {
    let dir = state::dir_of(run_dir, name);
    ControlPage::open(&dir).map_err(|e| {
        let what = format!("cannot take over {name}: {} ({e})", dir.display());
        StartError::failure(what, "use a program of the same version, or `uswap down` first")
    })?;
    // A service that keeps its pages elsewhere has no format to know.
    if dir.join("table").exists() { super::format_of(run_dir, name).map(drop) } else { Ok(()) }
}

/// An upgrade that is under way.
#[derive(Debug)]
pub struct Upgrade {
    name: String,
    dir: PathBuf,
    page: ControlPage,
}

impl Upgrade {
    /// Looks at a service with a parent. Nothing is changed yet.
    pub fn of(run_dir: &Path, name: &str) -> StartResult<Self> {
        let dir = state::dir_of(run_dir, name);
        let page = ControlPage::open(&dir).map_err(|e| {
            let what = format!("{name} has no standby to hand over to ({}: {e})", dir.display());
            StartError::failure(what, "take it down and start it again; see --standby")
        })?;
        let parent = Process::open(page.parent()).map_err(|e| cannot("look for the parent", &e))?;
        if parent.is_none() {
            let what = format!("the parent of {name} is dead");
            let remedy = format!("run `uswap run --name {name}`, which goes on with it, first");
            return Err(StartError::failure(what, remedy));
        }
        Ok(Self { name: name.to_owned(), dir, page })
    }

    /// Hands over to `program`; how long pages waited. Refuses a program that does not know the
    /// state before anything stops. If no standby from it gets warm the old program is put back,
    /// and the server has not been told anything.
    pub fn run(&self, program: &Path) -> StartResult<Duration> {
        let lock = LockFile::take(&self.dir.join(LOCK)).map_err(|e| cannot("lock it", &e))?;
        let Some(_lock) = lock else {
            let what = format!("{} is being upgraded by somebody else", self.name);
            return Err(StartError::failure(what, "wait for that"));
        };
        let next = self.dir.join(NEXT);
        program::copy(program, &next).map_err(|e| {
            let what = format!("cannot use {} ({e})", program.display());
            StartError::failure(what, "name the new uswap program with --binary")
        })?;
        let checked = self.ask(&next);
        if checked.is_err() {
            let _ = fs::remove_file(&next);
        }
        checked?;
        let (current, former) = (self.dir.join(PROGRAM), self.dir.join(FORMER));
        // At every moment there is a program to start standbys from.
        let _ = fs::remove_file(&former);
        let swapped = fs::hard_link(&current, &former).and_then(|()| fs::rename(&next, &current));
        swapped.map_err(|e| cannot("put the program in its place", &e))?;
        let number = self.page.want_successor();
        let done = self.wait(number);
        if done.is_err() {
            self.page.note_successor(number);
            let _ = fs::rename(&former, &current);
        }
        let _ = fs::remove_file(&former);
        done
    }

    /// Asks the program itself.
    fn ask(&self, program: &Path) -> StartResult<()> {
        let run_dir = self.dir.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(program);
        command.arg("check-state").arg("--run-dir").arg(run_dir).args(["--name", &self.name]);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|e| cannot("run the new program", &e))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or("it says nothing");
        let line = line.strip_prefix("uswap: ").unwrap_or(line);
        let (what, remedy) = line.split_once("; ").unwrap_or((line, "use another program"));
        Err(StartError::failure(format!("the new program refuses: {what}"), remedy))
    }

    fn wait(&self, number: u64) -> StartResult<Duration> {
        let begin = Instant::now();
        while !self.page.is_carried_out(number) {
            if begin.elapsed() > WAIT_MAX {
                let what = format!("no standby took over within {} s", WAIT_MAX.as_secs());
                return Err(StartError::failure(
                    what,
                    "the service goes on as it was; see its log",
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(Duration::from_micros(self.page.recoveries().last_us))
    }

    /// Waits until there is a standby again.
    pub fn wait_warm(&self) -> bool {
        let begin = Instant::now();
        while !self.page.has_warm_standby() {
            if begin.elapsed() > WAIT_MAX {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}
