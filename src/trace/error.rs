//! Why a trace cannot be read or written.

use super::VERSION;
use crate::error::StartError;
use std::fmt;
use std::io;
use std::path::Path;

/// What is wrong with a trace. As text it is one line, with the remedy behind a semicolon.
#[derive(Debug)]
pub enum TraceError {
    /// Reading or writing failed.
    Io(io::Error),
    /// It does not begin as a trace does.
    NotATrace,
    /// It is a trace of another version of the format.
    Foreign {
        /// That version.
        version: u32,
    },
    /// It ends before its trailer: the recorder was killed, or the file was cut.
    Truncated,
    /// It is not as it was written.
    Damaged {
        /// Bytes from the start to the part that is damaged.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// What was to be written is not part of any trace.
    Unfit(&'static str),
}

impl TraceError {
    /// What has happened.
    pub fn what(&self) -> String {
        match self {
            Self::Io(e) => format!("{e}"),
            Self::NotATrace => "it is not a trace".to_owned(),
            Self::Foreign { version } => {
                format!("it is a trace of version {version}, and this uswap reads {VERSION}")
            }
            Self::Truncated => "the trace ends in the middle".to_owned(),
            Self::Damaged { at, what } => format!("the trace is damaged at byte {at}: {what}"),
            Self::Unfit(what) => format!("no trace can hold this: {what}"),
        }
    }

    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Io(_) => "see that the file is there, may be used, and has room",
            Self::NotATrace => "name a file that `uswap trace record` has written",
            Self::Foreign { .. } => "use the uswap that recorded it, or record it again",
            Self::Truncated => "copy it again, or record it again and end that with Ctrl-C",
            Self::Damaged { .. } => "copy it again, or record it again",
            Self::Unfit(_) => "report this",
        }
    }

    /// The same as an error of a command that was given this file.
    pub fn of(&self, path: &Path) -> StartError {
        StartError::failure(format!("{}: {}", path.display(), self.what()), self.remedy())
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

impl std::error::Error for TraceError {}

impl From<io::Error> for TraceError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}
