//! The thread of a parent that writes, so that the parent never waits for a log.
//!
//! A log's page may be swapped out to the device that the parent looks after. Whoever writes there
//! then waits uninterruptibly for a server; if that is the parent, and server and standby have just
//! been killed, nobody makes another one and the machine stands. It happened (`kill` scenario on
//! 7.3): lines are held back until a standby is warm, and that is when somebody killed both.
//!
//! The thread has its own table of file descriptors, without the lock of the service's name: when
//! the parent is killed while this thread waits, the lock is free and another parent goes on.
//!
//! What is to be written waits in a queue of fixed size. The parent looks whether there is room
//! before it takes a line from where it is kept, so nothing is lost because the log is slow.

use super::{Tell, cannot};
use crate::error::StartResult;
use crate::sys::confine::{Duty, drop_capabilities};
use crate::sys::guard;
use crate::sys::lockfile::LockFile;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::thread::{self, Scope};

/// Lines that wait for the thread.
const WORDS_MAX: usize = 16;
/// Of the thread: what it writes is put together by others. Locked like everything, so small.
const STACK_BYTES: usize = 64 << 10;

/// What the thread is told.
#[derive(Debug)]
enum Word {
    /// A line for the administrator.
    Line(String),
    /// The service is ready, on this device.
    Ready(String),
}

/// The way to the thread, which ends when this is dropped and all is written.
#[derive(Debug)]
pub(super) struct Scribe {
    words: Sender<Word>,
}

impl Scribe {
    /// Starts the thread; returns once it has descriptors of its own. `ready` and `tell` are called
    /// by the thread alone from now on, and may wait.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        name: &'scope LockFile,
        ready: &'scope mut (dyn FnMut(&str) + Send),
        tell: Tell<'scope>,
    ) -> StartResult<Self> {
        let (words, receiver) = bounded(WORDS_MAX);
        let (begun, has_begun) = bounded(1);
        let builder = thread::Builder::new().name("uswap-scribe".into()).stack_size(STACK_BYTES);
        let work = move || {
            let alone = name.disown();
            // It is in nobody's way. A kernel that refuses leaves it as it is.
            let _ = guard::be_ordinary();
            let goes_on = alone.is_ok();
            let _ = begun.send(alone);
            if goes_on {
                write(&receiver, ready, tell);
            }
        };
        builder.spawn_scoped(scope, work).map_err(|e| cannot("start a thread", &e))?;
        let begun = has_begun.recv().unwrap_or(Ok(()));
        begun.map_err(|e| cannot("have a thread with its own descriptors", &e))?;
        Ok(Self { words })
    }

    /// Whether a word would be taken at once. It is: nobody else sends any.
    pub(super) fn has_room(&self) -> bool {
        !self.words.is_full()
    }

    /// Has a line written. Waits if there is no room.
    pub(super) fn write(&self, line: String) {
        // The thread ends after this value only.
        let _ = self.words.send(Word::Line(line));
    }

    /// Has the service called ready. Waits if there is no room.
    pub(super) fn announce(&self, device: String) {
        let _ = self.words.send(Word::Ready(device));
    }
}

fn write(words: &Receiver<Word>, ready: &mut (dyn FnMut(&str) + Send), tell: Tell<'_>) {
    for word in words {
        // It needs no right, once the limit of locked memory has been raised: then, not before,
        // this takes the last one. Refused, it stays as it is.
        let _ = drop_capabilities(Duty::Pages);
        match word {
            Word::Line(line) => tell(&line),
            Word::Ready(device) => ready(&device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// With a log that takes nothing until it is told to.
    fn with_scribe(test: impl FnOnce(&Scribe, &dyn Fn())) -> Vec<String> {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("x.lock");
        let name = LockFile::take(&path).expect("file").expect("free");
        let (go, wait) = bounded::<()>(0);
        let written = Mutex::new(Vec::new());
        let tell = |line: &str| {
            let _ = wait.recv();
            written.lock().expect("no panic").push(line.to_owned());
        };
        let mut ready = |device: &str| tell(&format!("ready {device}"));
        let mut go = Some(go);
        thread::scope(|scope| {
            let scribe = Scribe::start(scope, &name, &mut ready, &tell).expect("a thread");
            test(&scribe, &|| assert!(LockFile::take(&path).expect("file").is_none()));
            drop(go.take());
        });
        written.into_inner().expect("no panic")
    }

    #[test]
    fn a_log_that_takes_nothing_keeps_nobody_waiting_and_loses_no_line() {
        let written = with_scribe(|scribe, _| {
            (0..WORDS_MAX).for_each(|i| scribe.write(format!("line {i}")));
        });
        let expected: Vec<String> = (0..WORDS_MAX).map(|i| format!("line {i}")).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn words_come_in_order_and_the_name_stays_locked() {
        let written = with_scribe(|scribe, is_locked| {
            scribe.write("taking over".into());
            scribe.announce("/dev/ublkb0".into());
            scribe.write("after".into());
            is_locked();
        });
        assert_eq!(written, ["taking over", "ready /dev/ublkb0", "after"]);
    }

    #[test]
    fn a_full_queue_is_seen_before_a_line_is_taken() {
        let written = with_scribe(|scribe, _| {
            let mut sent = 0;
            while scribe.has_room() {
                scribe.write(format!("{sent}"));
                sent += 1;
            }
            assert!((WORDS_MAX..=WORDS_MAX + 1).contains(&sent), "{sent}");
        });
        assert!(written.len() >= WORDS_MAX);
    }
}
