//! Other processes, held by descriptors that name them for good: a process id may be given to
//! somebody else, a descriptor is not. Watching and signalling one takes no memory.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
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
        Ok(Self { pid, began: Stat::open(pid)?.read()?.began })
    }
}

/// What the kernel says of a process in one line. Reading it again takes no memory.
#[derive(Debug)]
struct Stat(File);

/// What is in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    began: u64,
    ending: bool,
}

impl Stat {
    fn open(pid: u32) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{pid}/stat"))?))
    }

    fn read(&self) -> io::Result<Facts> {
        let mut bytes = [0; 1024];
        let len = self.0.read_at(&mut bytes, 0)?;
        Facts::of(&bytes[..len]).ok_or_else(|| io::Error::other("unreadable stat"))
    }
}

impl Facts {
    fn of(line: &[u8]) -> Option<Self> {
        /// Linux include/linux/sched.h.
        const PF_EXITING: u64 = 4;
        const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
        // proc_pid_stat(5): the name is in brackets and may hold anything; its fields 3 (state), 9
        // (flags), 22 (start) and 31 (signals that the first thread has not acted on yet).
        let name_end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&line[name_end + 1..]).ok()?;
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        let ending = matches!(field(3)?, "Z" | "X")
            || number(9)? & PF_EXITING != 0
            || number(31)? & SIGKILL != 0;
        Some(Self { began: number(22)?, ending })
    }
}

/// A process, which may be anybody's child.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    stat: Stat,
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
        // Looked at after it is held: what has this id now keeps it.
        let stat = Stat::open(identity.pid);
        let facts = stat.as_ref().map_or(Ok(None), |stat| stat.read().map(Some));
        if has_ended(&fd) {
            return Ok(None);
        }
        let (stat, began) = (stat?, facts?.map(|facts| facts.began));
        Ok((began == Some(identity.began)).then_some(Self { fd, stat }))
    }

    /// Whether all of it has ended; nothing of it is in use any more. Does not wait.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.fd)
    }

    /// Whether it is on its way out: killed, or some of it has ended. That may take: a thread that
    /// waits for memory in the kernel goes on doing so (Linux mm/page_alloc.c). Does not wait or
    /// take memory.
    pub fn is_ending(&self) -> bool {
        // Of one that has ended nothing can be read.
        self.stat.read().map_or(true, |facts| facts.ending)
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

fn has_ended(fd: &OwnedFd) -> bool {
    let ready = super::wake::wait_readable([fd.as_fd()], Duration::ZERO);
    ready.is_ok_and(|[ended]| ended)
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
        let identity = Identity::of(child.id()).expect("proc");
        let process = Process::open(identity).expect("pidfd").expect("it waits");
        assert!(!process.is_ending());
        process.ask(Ask::Die).expect("sent");
        assert!(process.is_ending());
        assert_eq!(process.reap().expect("a child"), Ended::Signal(9));
        assert!(process.has_ended() && process.is_ending());
        assert!(Process::open(identity).expect("pidfd").is_none());
        process.ask(Ask::End).expect("nobody hears it");
        assert!(child.wait().is_err(), "it is reaped");
    }

    #[test]
    fn a_process_is_ending_from_the_signal_on() {
        let line = |state: &str, flags: u64, signals: u64| {
            let rest = format!("{state} 1 7 7 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 3 0 1234 0 0 9");
            format!("7 (a) b) {rest} 0 0 0 0 0 {signals} 0 0 0\n")
        };
        let facts = |line: String| Facts::of(line.as_bytes()).expect("whole");
        let lives = Facts { began: 1234, ending: false };
        assert_eq!(facts(line("S", 0x0040_0100, 0)), lives);
        assert_eq!(facts(line("T", 0x0040_0100, 1 << 14)), lives);
        for ending in [line("Z", 0, 0), line("R", 0x0040_0104, 0), line("D", 0, 1 << 8)] {
            assert_eq!(facts(ending), Facts { ending: true, ..lives });
        }
        for broken in ["", "7 (a", "7 (a) S 1", "7 (a) \u{fffd}"] {
            assert_eq!(Facts::of(broken.as_bytes()), None);
        }
    }

    #[test]
    fn the_clock_goes_on() {
        let begin = clock_us();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock_us() >= begin + 2000);
    }
}
