//! What the control thread sleeps on: signals, the end of a queue thread, clients.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a signal asks of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To end: SIGTERM, and what a terminal sends.
    End,
    /// To let a standby take over: SIGUSR1.
    HandOver,
}

/// Every signal but the ones that mean a defect, as a file descriptor.
///
/// By default most signals kill or stop a process: a terminal that closes (SIGHUP) or Ctrl-Z
/// (SIGTSTP) would take the memory of the whole machine with it.
#[derive(Debug)]
pub struct Signals {
    file: File,
}

impl Signals {
    /// Blocks the signals in this thread, and all threads it makes, and opens a descriptor that
    /// reports them.
    pub fn open() -> io::Result<Self> {
        Self::open_for(all_but_defects())
    }

    /// The same with those alone that end a program: for one that has something to put back first.
    pub fn open_ends() -> io::Result<Self> {
        Self::open_for(set_of(&[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]))
    }

    fn open_for(set: libc::sigset_t) -> io::Result<Self> {
        // SAFETY: `set` is initialised; the previous mask is not asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd: RawFd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd just made the descriptor and nobody else has it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: File::from(owned) })
    }

    /// Takes one signal; what it asks for, if anything. Blocks unless the descriptor is readable.
    pub fn take(&mut self) -> io::Result<Option<Told>> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        self.file.read_exact(&mut info)?;
        // The number is the first field (signalfd(2)).
        let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        Ok(match number {
            libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => Some(Told::End),
            libc::SIGUSR1 => Some(Told::HandOver),
            _ => None,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, and sigemptyset gives it its value.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: `set` is a valid sigset_t.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        // SAFETY: `set` is a valid sigset_t and the signal numbers exist.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

fn all_but_defects() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, and sigfillset gives it its value.
    let mut set = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: `set` is a valid sigset_t.
    unsafe { libc::sigfillset(&mut set) };
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    for signal in [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP] {
        // SAFETY: `set` is a valid sigset_t and the signal numbers exist.
        unsafe { libc::sigdelset(&mut set, signal) };
    }
    set
}

/// A counter that one thread raises and another sleeps on. Raising does not allocate.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// A silent bell.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: rustix::event::eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    /// Rings it; every later wait returns at once.
    pub fn ring(&self) {
        // An eventfd write fails only when the counter would overflow, and then the bell rings
        // already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Sleeps until it rings, and silences it.
    pub fn wait(&self) -> io::Result<()> {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&self.fd, &mut count) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sleeps until one of the descriptors is readable, or for `most`; says which are.
pub fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    most: Duration,
) -> io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    poll(&mut polls, most)?;
    Ok(polls.map(|p| !p.revents().is_empty()))
}

/// Sleeps until one of the descriptors is ready, or for `most`; says which are. Those with `true`
/// are to be written, the others to be read.
pub fn wait_ready(fds: &[(BorrowedFd<'_>, bool)], most: Duration) -> io::Result<Vec<bool>> {
    let flags = |write: bool| if write { PollFlags::OUT } else { PollFlags::IN };
    let mut polls: Vec<PollFd<'_>> =
        fds.iter().map(|&(fd, write)| PollFd::from_borrowed_fd(fd, flags(write))).collect();
    poll(&mut polls, most)?;
    Ok(polls.iter().map(|p| !p.revents().is_empty()).collect())
}

fn poll(polls: &mut [PollFd<'_>], most: Duration) -> io::Result<()> {
    let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    loop {
        match rustix::event::poll(polls, Some(&most)) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_rung_once_stays_readable() {
        let (quiet, rung) = (Bell::new().expect("eventfd"), Bell::new().expect("eventfd"));
        rung.ring();
        let ready = wait_readable([quiet.as_fd(), rung.as_fd()], Duration::from_secs(9));
        assert_eq!(ready.expect("poll"), [false, true]);
        let ready = wait_readable([quiet.as_fd()], Duration::from_millis(1));
        assert_eq!(ready.expect("poll"), [false]);
    }
}
