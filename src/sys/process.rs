//! Other processes, held by descriptors that name them for good: a process id may be given to
//! somebody else, a descriptor is not. Watching and signalling one takes no memory.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Name of a process that is not used again while the machine runs: its id and when it began, in
/// clock ticks after boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Process id; 0 for nobody.
    pub pid: u32,
    /// When it began.
    pub began: u64,
}

impl Identity {
    /// This process.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this id now.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, began: began(pid)? })
    }
}

/// When a process began.
fn began(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): the name is in brackets and may hold anything; 20 fields on is the start.
    let word = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    word.and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("unreadable stat"))
}

/// A process, which may be anybody's child.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
}

/// What one asks a process to do, by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To end, in its own time.
    End,
    /// To hand over to whoever is ready.
    HandOver,
    /// To be gone: nobody asks it.
    Die,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was somebody else's child.
    Unknown,
}

impl Process {
    /// Holds the process of this identity; none if it has ended. An error if that cannot be told:
    /// nobody may be thought dead because /proc could not be read.
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let process = Self { fd };
        // Looked at after it is held: what has this id now keeps it.
        let began = began(identity.pid);
        if process.has_ended() {
            return Ok(None);
        }
        Ok((began? == identity.began).then_some(process))
    }

    /// Whether all of it has ended; nothing of it is in use any more. Does not wait.
    pub fn has_ended(&self) -> bool {
        let ready = super::wake::wait_readable([self.fd.as_fd()], Duration::ZERO);
        ready.is_ok_and(|[ended]| ended)
    }

    /// Sends a signal. One that has ended is past hearing it, which is no error.
    pub fn ask(&self, what: Ask) -> io::Result<()> {
        let signal = match what {
            Ask::End => Signal::TERM,
            Ask::HandOver => Signal::USR1,
            Ask::Die => Signal::KILL,
        };
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }

    /// How it ended, and lets the kernel forget a child. Waits until it has.
    pub fn reap(&self) -> io::Result<Ended> {
        let status = rustix::process::waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED);
        match status {
            Ok(Some(status)) => Ok(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Code(code),
                (_, Some(signal)) => Ended::Signal(signal),
                _ => Ended::Unknown,
            }),
            Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(Ended::Unknown),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ends this process at once, as somebody else's SIGKILL would.
pub fn die() -> ! {
    loop {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

/// Microseconds after boot, the same in all processes; suspend does not count.
pub fn clock_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_told_from_another_with_its_number() {
        let own = Identity::own().expect("proc");
        let process = Process::open(own).expect("pidfd").expect("we live");
        assert!(!process.has_ended());
        let other = Identity { began: own.began + 1, ..own };
        assert!(Process::open(other).expect("pidfd").is_none());
        assert!(Process::open(Identity::default()).expect("nobody").is_none());
    }

    #[test]
    fn the_end_of_a_child_is_seen_and_told() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let identity = Identity { pid: child.id(), began: began(child.id()).expect("proc") };
        let process = Process::open(identity).expect("pidfd").expect("it waits");
        process.ask(Ask::Die).expect("sent");
        assert_eq!(process.reap().expect("a child"), Ended::Signal(9));
        assert!(process.has_ended());
        assert!(Process::open(identity).expect("pidfd").is_none());
        process.ask(Ask::End).expect("nobody hears it");
        assert!(child.wait().is_err(), "it is reaped");
    }

    #[test]
    fn the_clock_goes_on() {
        let begin = clock_us();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock_us() >= begin + 2000);
    }
}
