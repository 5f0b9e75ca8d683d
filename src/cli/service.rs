//! Finding services: one control socket each in the run directory.

use super::flags::RunDir;
use super::say;
use crate::config::load::{self, Keys};
use crate::config::{RUN_DIR_DEFAULT, check};
use crate::daemon::protocol::{Reply, Request, Status, ask};
use crate::daemon::usage::swap_area;
use crate::daemon::{device_of, has_process};
use crate::error::{StartError, StartResult};
use crate::ublk::ctrl::block_path;
use clap::Args;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time between two looks at something that is going away.
const POLL: Duration = Duration::from_millis(50);

/// One service as it can be found from outside.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its control socket, which may not be there.
    pub socket: PathBuf,
    /// Directory with its state and log.
    pub run_dir: PathBuf,
}

/// What answers at a service's socket.
#[derive(Debug)]
pub enum State {
    /// A server.
    Running(Box<Status>),
    /// Nothing: no socket, or one that a dead server left.
    Dead,
}

impl Service {
    /// The service `name`. Without a run directory from the flags, its configuration file decides.
    pub fn named(root: &Path, name: &str, run_dir: Option<&Path>) -> StartResult<Self> {
        check::name(name)?;
        let flags = Keys { name: Some(name.into()), ..Keys::default() };
        // A broken file must not keep anybody from stopping a service: then the usual places have
        // to do.
        let file = load::keys(root, None, flags).unwrap_or_default();
        let given = run_dir.map(Path::to_owned);
        let socket = if given.is_some() { None } else { file.socket };
        let run_dir = given.or(file.run_dir).unwrap_or_else(|| RUN_DIR_DEFAULT.into());
        let socket = socket.unwrap_or_else(|| run_dir.join(format!("{name}.sock")));
        Ok(Self { name: name.into(), socket, run_dir })
    }

    /// That there is anything of it, alive or dead.
    pub fn expect_there(&self) -> StartResult<()> {
        let name = &self.name;
        if self.run_dir.join(name).exists() || self.socket.exists() {
            return Ok(());
        }
        Err(StartError::failure(
            format!("no service {name} runs"),
            format!("see `uswap list`, or start it with `uswap up {name}`"),
        ))
    }

    /// All services with a socket or a state in `run_dir`, by name. No directory means no services.
    pub fn all(run_dir: &Path) -> StartResult<Vec<Self>> {
        let entries = match std::fs::read_dir(run_dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                let what = format!("cannot read {}: {e}", run_dir.display());
                return Err(StartError::failure(what, "run as root or name another --run-dir"));
            }
        };
        let names: BTreeSet<String> =
            entries.flatten().filter_map(|entry| service_of(&entry.path())).collect();
        Ok(names.into_iter().map(|name| Self::in_dir(name, run_dir)).collect())
    }

    /// A service that has something in `run_dir`. Its socket can be elsewhere: then its file says.
    fn in_dir(name: String, run_dir: &Path) -> Self {
        let socket = run_dir.join(format!("{name}.sock"));
        let elsewhere = || {
            let service = Self::named(Path::new("/"), &name, None).ok()?;
            (service.run_dir == run_dir).then_some(service.socket)
        };
        let socket = if socket.exists() { socket } else { elsewhere().unwrap_or(socket) };
        Self { name, socket, run_dir: run_dir.into() }
    }

    /// The service of this name; without one, the only one there is.
    pub fn chosen(name: Option<&str>, run_dir: &RunDir) -> StartResult<Self> {
        if let Some(name) = name {
            return Self::named(Path::new("/"), name, run_dir.given.as_deref());
        }
        let mut all = Self::all(run_dir.path())?;
        if all.iter().any(Self::answers) {
            // Nobody means a dead one while another lives.
            all.retain(Self::answers);
        }
        if all.len() > 1 {
            let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
            let what = format!("there are several services: {}", names.join(", "));
            return Err(StartError::usage(what, "name one of them"));
        }
        all.pop().ok_or_else(|| {
            let what = format!("no service in {}", run_dir.path().display());
            StartError::failure(what, "start one with `uswap up`")
        })
    }

    /// Whether somebody listens, which may be busy.
    fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// What a service is that has no server, and what to do about that.
    pub fn why_dead(&self) -> (&'static str, String) {
        let name = &self.name;
        if has_process(name, &self.run_dir) {
            return ("its server is being replaced", "ask again in a moment".into());
        }
        let device = device_of(&self.run_dir, name).map(block_path);
        // A table that cannot be read counts as "in use".
        let wanted = device.is_some_and(|at| !matches!(swap_area(Path::new("/"), &at), Ok(None)));
        if wanted {
            let remedy = format!("`uswap run --name {name}` serves them again");
            return ("its server is dead and programs wait for their pages", remedy);
        }
        ("its server is dead", format!("clean up with `uswap down {name}`"))
    }

    /// What the service says of itself; an error if no server answers.
    pub fn status(&self) -> StartResult<Box<Status>> {
        match self.state()? {
            State::Running(status) => Ok(status),
            State::Dead => Err(StartError::failure(
                format!("no server answers for {}", self.name),
                "see `uswap list`, or start it with `uswap up NAME`",
            )),
        }
    }

    /// Asks the service to describe itself. A server that is there but does not answer is an error.
    pub fn state(&self) -> StartResult<State> {
        match UnixStream::connect(&self.socket) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(State::Dead);
            }
            Err(e) => {
                let what = format!("cannot talk to {}: {e}", self.socket.display());
                return Err(StartError::failure(what, "run as root"));
            }
        }
        match ask(&self.socket, &Request::Status)? {
            Reply::Status(status) => Ok(State::Running(status)),
            Reply::Refused { message, usage } => Err(refused(&message, usage)),
            Reply::Stopping | Reply::Done { .. } => {
                Err(refused(&format!("{} is stopping; wait", self.name), false))
            }
        }
    }

    /// Asks the server to end.
    pub fn stop(&self) -> StartResult<()> {
        match ask(&self.socket, &Request::Stop)? {
            Reply::Refused { message, usage } => Err(refused(&message, usage)),
            Reply::Stopping | Reply::Status(_) | Reply::Done { .. } => Ok(()),
        }
    }

    /// Waits until socket and process are gone; whether they went in time.
    pub fn gone_within(&self, pid: u32, limit: Duration) -> bool {
        let start = Instant::now();
        while self.socket.exists() || process_runs(pid) {
            if start.elapsed() > limit {
                return false;
            }
            sleep(POLL);
        }
        true
    }
}

/// The service whose socket or state directory `path` is.
fn service_of(path: &Path) -> Option<String> {
    let name = match path.extension().is_some_and(|end| end == "sock") {
        true => path.file_stem()?,
        false => path.file_name().filter(|_| path.is_dir())?,
    };
    name.to_str().filter(|name| check::name(name).is_ok()).map(str::to_owned)
}

/// Finds a service by its device.
#[derive(Args, Debug)]
pub struct UdevName {
    /// Kernel name of the device, such as ublkb0
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    run_dir: RunDir,
}

impl UdevName {
    /// Prints the name. From files alone: while udev waits, the server may not answer yet.
    pub fn execute(&self) -> StartResult<()> {
        let id = self.device.strip_prefix("ublkb").and_then(|id| id.parse::<u32>().ok());
        let entries = std::fs::read_dir(self.run_dir.path()).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let found = names.find(|name| id.is_some() && device_of(self.run_dir.path(), name) == id);
        match found {
            Some(name) => say(&format!("{name}\n")),
            None => Err(StartError::failure(
                format!("no service in {} has {}", self.run_dir.path().display(), self.device),
                "see `uswap list`",
            )),
        }
    }
}

/// Whether `pid` is a process that has not ended; one that only waits to be reaped has.
fn process_runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// A server's refusal, which is one line with the remedy in it.
/// `usage`: the same words would have been wrong here.
pub fn refused(message: &str, usage: bool) -> StartError {
    let (what, remedy) = message.split_once("; ").unwrap_or((message, "see `uswap status`"));
    if usage { StartError::usage(what, remedy) } else { StartError::failure(what, remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_services_and_dead_ones_are_told() {
        let dir = tempfile::tempdir().expect("directory");
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("b.sock")).expect("bind"));
        std::fs::write(dir.path().join("b.log"), "").expect("log");
        std::fs::create_dir(dir.path().join("a")).expect("state");
        std::fs::create_dir(dir.path().join(".hidden")).expect("no state");
        let all = Service::all(dir.path()).expect("readable");
        assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(all.iter().all(|one| matches!(one.state(), Ok(State::Dead))));
        let run_dir = RunDir { given: Some(dir.path().into()) };
        let several = Service::chosen(None, &run_dir).expect_err("none lives").to_string();
        assert!(several.contains("several services: a, b"), "{several}");
        let _lives = std::os::unix::net::UnixListener::bind(dir.path().join("c.sock"));
        assert_eq!(Service::chosen(None, &run_dir).expect("the one that lives").name, "c");
        assert!(Service::all(&dir.path().join("none")).expect("no directory").is_empty());
    }

    #[test]
    fn a_configured_socket_is_found() {
        let root = tempfile::tempdir().expect("directory");
        let etc = root.path().join("etc/uswap");
        std::fs::create_dir_all(&etc).expect("etc");
        std::fs::write(etc.join("x.toml"), "socket = \"/run/elsewhere\"").expect("file");
        let found = Service::named(root.path(), "x", None).expect("named");
        assert_eq!(found.socket, Path::new("/run/elsewhere"));
        let found = Service::named(root.path(), "x", Some(Path::new("/r"))).expect("named");
        assert_eq!(found.socket, Path::new("/r/x.sock"));
    }
}
