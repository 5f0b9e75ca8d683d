//! A memory cgroup (v2) of our own.

use super::counters::{unreadable, value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uswap::error::{StartError, StartResult};

const ROOT: &str = "/sys/fs/cgroup";

/// A child of the root cgroup; removed when dropped, if it is empty by then.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes `/sys/fs/cgroup/NAME`.
    pub fn new(name: &str) -> StartResult<Self> {
        let path = Path::new(ROOT).join(name);
        let fail = |e: io::Error| unreadable(&path.display().to_string(), &e);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(fail)?,
        }
        let found = path.join("memory.reclaim").exists();
        if !found {
            let what = format!("{} has no memory.reclaim", path.display());
            let remedy =
                format!("Linux 5.19 or newer; `echo +memory >{ROOT}/cgroup.subtree_control`");
            return Err(StartError::failure(what, remedy));
        }
        Ok(Self { path })
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.path.join(file), text)
    }

    fn set(&self, file: &str, text: &str) -> StartResult<()> {
        let path = self.path.join(file).display().to_string();
        self.write(file, text).map_err(|e| unreadable(&path, &e))
    }

    /// Moves this process in: what it touches first from now on is counted here.
    pub fn enter(&self) -> StartResult<()> {
        self.set("cgroup.procs", &std::process::id().to_string())
    }

    /// Moves this process back to the root. What was counted here stays so.
    pub fn leave(&self) -> StartResult<()> {
        let path = format!("{ROOT}/cgroup.procs");
        fs::write(&path, std::process::id().to_string()).map_err(|e| unreadable(&path, &e))
    }

    /// A value of `memory.stat`.
    pub fn stat(&self, name: &str) -> StartResult<u64> {
        let path = self.path.join("memory.stat");
        let text =
            fs::read_to_string(&path).map_err(|e| unreadable(&path.display().to_string(), &e))?;
        Ok(value(&text, name).unwrap_or(0))
    }

    /// Bytes of anonymous memory that are in RAM, whether mapped or only cached on the way to or
    /// from swap. Exact to some 64 pages a CPU.
    pub fn resident_bytes(&self) -> StartResult<u64> {
        let path = self.path.join("memory.stat");
        let text =
            fs::read_to_string(&path).map_err(|e| unreadable(&path.display().to_string(), &e))?;
        // Anonymous pages that no table maps are not in "anon", whose name notwithstanding counts
        // mapped ones; all of them are on a list of the page reclaim.
        let lists = ["inactive_anon", "active_anon"];
        Ok(lists.iter().map(|list| value(&text, list).unwrap_or(0)).sum())
    }

    /// Asks the kernel to free `bytes`, anonymous memory only. False if it freed less.
    pub fn reclaim(&self, bytes: u64) -> StartResult<bool> {
        match self.write("memory.reclaim", &format!("{bytes} swappiness=200")) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(unreadable(&self.path.join("memory.reclaim").display().to_string(), &e)),
        }
    }

    /// Sets `memory.max`, or takes it away.
    pub fn limit(&self, bytes: Option<u64>) -> StartResult<()> {
        self.set("memory.max", &bytes.map_or_else(|| "max".into(), |b| b.to_string()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that is not empty stays for the next round, which uses it again.
        let _ = self.leave();
        let _ = fs::remove_dir(&self.path);
    }
}
