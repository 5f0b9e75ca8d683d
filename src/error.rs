//! Two kinds of error. [`IoError`] is what a request completes with: small, `Copy`, an errno,
//! counted, never worded. [`StartError`] is what a person reads: one line that names the remedy.

use std::fmt;

/// Why a request failed. The block layer sees the errno; swap treats all of them alike:
/// a failed write leaves the page in RAM, a failed read kills the reader with SIGBUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// The pool has no room for the page. Only ever the answer to a write.
    Full,
    /// A stored object does not decode to its page, or belongs to another slot.
    Corrupt,
    /// The request is outside the device or not in whole pages.
    Invalid,
    /// The operation is not one that we advertise.
    Unsupported,
    /// The file or device behind ours failed with this errno.
    Backing(i32),
}

impl IoError {
    /// The negative errno to commit.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Full => -libc::ENOSPC,
            Self::Corrupt => -libc::EIO,
            Self::Invalid => -libc::EINVAL,
            Self::Unsupported => -libc::EOPNOTSUPP,
            Self::Backing(errno) => -errno,
        }
    }
}

/// Why the service, or a command, could not do what it was asked: what happened, and what to do
/// about it.
#[derive(Debug)]
pub struct StartError {
    /// Wrong words on the command line or in a file, rather than a machine that refuses.
    usage: bool,
    what: String,
    remedy: String,
}

/// Result of set-up work.
pub type StartResult<T> = Result<T, StartError>;

impl StartError {
    /// The machine refused: exit code 1.
    pub fn failure(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { usage: false, what: what.into(), remedy: remedy.into() }
    }

    /// The words were wrong: exit code 2.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { usage: true, what: what.into(), remedy: remedy.into() }
    }

    /// The first word of what happened, where that is one word and a colon: often a key.
    pub fn key(&self) -> Option<&str> {
        self.what.split_once(": ").map(|(key, _)| key)
    }

    /// The same, with `place` (a file and a line) in front.
    pub fn at(self, place: &str) -> Self {
        Self { what: format!("{place}: {}", self.what), ..self }
    }

    /// Whether the words were wrong.
    pub const fn is_usage(&self) -> bool {
        self.usage
    }

    /// Exit code for the process: 2 for usage, 1 for failure.
    pub const fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for StartError {}
