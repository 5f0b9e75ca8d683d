//! Words to the service manager, as sd_notify(3) describes them: a datagram to a socket that it
//! names in the environment.

use crate::config::size::format as human;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whoever started us and wants to hear how it goes.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// The manager that the environment names; none outside of one. Opens a socket, which must be
    /// done before memory is scarce.
    pub fn of_this_process() -> Option<Self> {
        Self::at(&std::env::var_os("NOTIFY_SOCKET")?).ok()
    }

    /// A path, or `@` and a name in the abstract namespace.
    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read keeps nobody waiting.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Tells it: assignments such as `READY=1`, one a line.
    pub fn tell(&self, state: &str) {
        // There is nowhere to complain about a manager that is not there.
        let _ = self.socket.send_to_addr(state.as_bytes(), &self.address);
    }
}

/// Tells how a start gets on that takes long: the manager, so that it goes on waiting, and whoever
/// watches at a terminal.
#[derive(Debug)]
pub struct Progress {
    what: String,
    manager: Option<Manager>,
    terminal: bool,
    said_at: Option<Instant>,
}

/// Time between two words about progress, and for how long the manager is asked to wait for the
/// next.
const SAY_EVERY: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(120);

impl Progress {
    /// Of `what`.
    pub fn of(what: String) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { what, manager: Manager::of_this_process(), terminal, said_at: None }
    }

    /// So much of all is done.
    pub fn tell(&mut self, done: u64, all: u64) {
        if self.said_at.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        self.said_at = Some(Instant::now());
        let words = format!("{}: {} of {}", self.what, human(done), human(all));
        if let Some(manager) = &self.manager {
            let us = WAIT_MAX.as_micros();
            manager.tell(&format!("EXTEND_TIMEOUT_USEC={us}\nSTATUS={words}"));
        }
        if self.terminal {
            // Nobody is there to complain to about a terminal that is gone.
            let _ = write!(io::stderr(), "\r\x1b[K{words}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.said_at.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// How often the manager wants to hear that this process is well, at least; none if it does not.
pub fn watchdog() -> Option<Duration> {
    let us = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(us)).filter(|period| !period.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        let mut words = [0; 64];
        let at_path = UnixDatagram::bind(&path).expect("bound");
        Manager::at(path.as_os_str()).expect("an address").tell("READY=1\nSTATUS=x");
        let count = at_path.recv(&mut words).expect("received");
        assert_eq!(&words[..count], b"READY=1\nSTATUS=x");
        let name = format!("uswap-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let abstracted = UnixDatagram::bind_addr(&address).expect("bound");
        Manager::at(OsStr::new(&format!("@{name}"))).expect("an address").tell("STOPPING=1");
        let count = abstracted.recv(&mut words).expect("received");
        assert_eq!(&words[..count], b"STOPPING=1");
        drop((at_path, abstracted));
        Manager::at(path.as_os_str()).expect("an address").tell("to nobody");
    }
    #[test]
    fn progress_asks_the_manager_to_wait_but_not_with_every_step() {
        let name = format!("uswap-progress-{}", std::process::id());
        let theirs = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("name"))
            .expect("bound");
        theirs.set_nonblocking(true).expect("set");
        let manager = Manager::at(OsStr::new(&format!("@{name}"))).ok();
        let mut progress =
            Progress { what: "writing x".into(), manager, terminal: false, said_at: None };
        (1..=3).for_each(|done| progress.tell(done << 20, 4 << 20));
        let mut words = [0; 128];
        let count = theirs.recv(&mut words).expect("received");
        assert_eq!(&words[..count], b"EXTEND_TIMEOUT_USEC=120000000\nSTATUS=writing x: 1M of 4M");
        assert!(theirs.recv(&mut words).is_err(), "once a second is enough");
    }
}
