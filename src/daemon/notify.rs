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

/// Tells how work gets on that takes long: the manager, so that it goes on waiting, and whoever
/// reads: a bar at a terminal, a line now and then in a log.
#[derive(Debug)]
pub struct Progress {
    what: String,
    manager: Option<Manager>,
    terminal: bool,
    began: Instant,
    /// When the manager, and when a reader, was last told.
    told_at: Option<Instant>,
    said_at: Option<Instant>,
}

/// Time between two words to the manager, and for how long it is asked to wait for the next.
const TELL_EVERY: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Time between two bars, and between two lines, of which short work has none.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Columns of a bar.
const BAR: u64 = 24;

impl Progress {
    /// Of `what`.
    pub fn of(what: String) -> Self {
        let terminal = io::stderr().is_terminal();
        let (manager, began) = (Manager::of_this_process(), Instant::now());
        Self { what, manager, terminal, began, told_at: None, said_at: None }
    }

    /// So much of all is done; `note` says more.
    pub fn tell(&mut self, done: u64, all: u64, note: &str) {
        let is_due = |at: Option<Instant>, every| at.is_none_or(|at| at.elapsed() >= every);
        if let Some(manager) = self.manager.as_ref().filter(|_| is_due(self.told_at, TELL_EVERY)) {
            let (us, words) = (WAIT_MAX.as_micros(), self.words(done, all, note));
            manager.tell(&format!("EXTEND_TIMEOUT_USEC={us}\nSTATUS={words}"));
            self.told_at = Some(Instant::now());
        }
        // Nobody is there to complain to about a terminal that is gone.
        if self.terminal && is_due(self.said_at, DRAW_EVERY) {
            let _ =
                write!(io::stderr(), "\r\x1b[K{} {}", self.words(done, all, note), bar(done, all));
            self.said_at = Some(Instant::now());
        } else if !self.terminal && is_due(Some(self.said_at.unwrap_or(self.began)), LINE_EVERY) {
            let _ = writeln!(io::stderr(), "uswap: {}", self.words(done, all, note));
            self.said_at = Some(Instant::now());
        }
    }

    fn words(&self, done: u64, all: u64, note: &str) -> String {
        format!("{}: {} of {}{note}", self.what, human(done), human(all))
    }
}

/// `[######..................]  25 %`
fn bar(done: u64, all: u64) -> String {
    let share = |of: u64| (done.min(all) * of).checked_div(all).unwrap_or(of);
    let full = share(BAR) as usize;
    format!("[{}{}] {:3} %", "#".repeat(full), ".".repeat(BAR as usize - full), share(100))
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
        let mut progress = Progress::of("writing x".into());
        (progress.manager, progress.terminal) = (manager, false);
        (1..=3).for_each(|done| progress.tell(done << 20, 4 << 20, ""));
        let mut words = [0; 128];
        let count = theirs.recv(&mut words).expect("received");
        assert_eq!(&words[..count], b"EXTEND_TIMEOUT_USEC=120000000\nSTATUS=writing x: 1M of 4M");
        assert!(theirs.recv(&mut words).is_err(), "once a second is enough");
        assert_eq!(progress.said_at, None, "a log hears nothing of work that is short");
    }

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(0, 8), "[........................]   0 %");
        assert_eq!(bar(2, 8), "[######..................]  25 %");
        assert_eq!(bar(9, 8), "[########################] 100 %");
        assert_eq!(bar(0, 0), "[########################] 100 %");
    }
}
