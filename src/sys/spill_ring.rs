//! The ring of the thread that writes the spill.
//!
//! A ring and not pwrite, because the thread has a segment to seal while another is on its way to
//! the disk, and because a wait for a ring can be ended: below a device that does not answer,
//! pwrite would keep the thread, and with it the end of the service, for as long as that takes.

use super::buffers::IoBuf;
use super::file_op::{FileOp, Transfer};
use super::spill::take_lock;
use io_uring::IoUring;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Transfers that may be under way.
pub const TRANSFERS: usize = 4;

/// Longest wait for a transfer to end.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Waits before asking again when the kernel had no memory for a command.
const PAUSE: Duration = Duration::from_millis(2);

const FILE: Fixed = Fixed(0);

/// A transfer under way.
#[derive(Debug)]
struct UnderWay {
    buffer: IoBuf,
    write: bool,
    rest: Transfer,
}

/// Transfers between buffers and one file, each named by a number below [`TRANSFERS`].
///
/// Contract: it owns a buffer from its start to its end. Dropping it leaks the buffers that are
/// still with the kernel, so that nobody else gets them.
pub struct SpillRing {
    ring: IoUring,
    file: File,
    under_way: [Option<UnderWay>; TRANSFERS],
    /// The ring itself failed: what is under way never ends.
    broken: Option<i32>,
}

impl std::fmt::Debug for SpillRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpillRing").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl SpillRing {
    /// A ring on this file. Allocates.
    pub fn new(file: &File) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(TRANSFERS as u32)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let file = file.try_clone()?;
        Ok(Self { ring, file, under_way: [const { None }; TRANSFERS], broken: None })
    }

    /// Takes the file's lock: transfers of a server that died keep the file open, and so its lock,
    /// until they have ended. Does not wait.
    pub fn take_lock(&self) -> bool {
        take_lock(&self.file)
    }

    /// Begins a transfer of the first `len` bytes of `buffer` from or to byte `at` of the file.
    /// Panics if `number` is under way or the buffer is shorter.
    pub fn start(&mut self, number: usize, write: bool, at: u64, len: usize, buffer: IoBuf) {
        assert!(self.under_way[number].is_none(), "transfer {number} is under way");
        let rest = Transfer { at, skip: 0, len: len as u32 };
        self.under_way[number] = Some(UnderWay { buffer, write, rest });
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Some(UnderWay { buffer, write, rest }) = &self.under_way[number] else { return };
        let op = if *write { FileOp::Write(*rest) } else { FileOp::Read(*rest) };
        let entry = op.entry(FILE, buffer, None).user_data(number as u64);
        // SAFETY: the command's only pointer is into the buffer, which `self.under_way` owns until
        // the completion, and which is leaked if `self` goes before that.
        unsafe { self.ring.submission().push(&entry) }.expect("a place for every transfer");
        if let Err(e) = self.ring.submit() {
            self.note(&e);
        }
    }

    /// What was not sent stays queued and goes with the next call; only what will never work is an
    /// error.
    fn note(&mut self, e: &io::Error) {
        match e.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME | libc::ENOMEM) => {}
            errno => self.broken = errno.or(Some(libc::EIO)),
        }
    }

    /// A transfer that has ended: its number, its buffer, and whether all of it was moved. With
    /// `wait` it waits for one, for a second at most. Does not allocate.
    pub fn end(&mut self, wait: bool) -> Option<(usize, IoBuf, Result<(), i32>)> {
        if self.under_way.iter().all(Option::is_none) {
            return None;
        }
        if wait && self.ring.completion().is_empty() {
            let pause = Timespec::from(WAIT_MAX);
            let args = SubmitArgs::new().timespec(&pause);
            if let Err(e) = self.ring.submitter().submit_with_args(1, &args) {
                self.note(&e);
                if e.raw_os_error() != Some(libc::ETIME) {
                    std::thread::sleep(PAUSE);
                }
            }
        }
        loop {
            let Some(completion) = self.ring.completion().next() else { break };
            let number = completion.user_data() as usize;
            if let Some(ended) = self.step(number, completion.result()) {
                return Some(ended);
            }
        }
        None
    }

    /// Why the ring takes no more commands; what is under way then stays so.
    pub const fn broken(&self) -> Option<i32> {
        self.broken
    }

    /// A part of a transfer has ended with `result`; the rest is sent again.
    fn step(&mut self, number: usize, result: i32) -> Option<(usize, IoBuf, Result<(), i32>)> {
        let mut transfer = self.under_way[number].take().expect("it was started");
        let end = |buffer, result| Some((number, buffer, result));
        match transfer.rest.rest(result.max(0) as u32) {
            _ if result < 0 => end(transfer.buffer, Err(-result)),
            None => end(transfer.buffer, Ok(())),
            // The file has become shorter than it was.
            Some(_) if result == 0 => end(transfer.buffer, Err(libc::EIO)),
            Some(rest) => {
                transfer.rest = rest;
                self.under_way[number] = Some(transfer);
                self.send(number);
                None
            }
        }
    }
}

impl Drop for SpillRing {
    fn drop(&mut self) {
        for transfer in self.under_way.iter_mut().filter_map(Option::take) {
            std::mem::forget(transfer.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::buffers::{BufferArea, Search};
    use crate::units::PAGE_SIZE;
    use std::sync::Arc;

    fn area() -> Arc<BufferArea> {
        let file = tempfile::tempfile().expect("file");
        file.set_len(64 * PAGE_SIZE as u64).expect("size");
        BufferArea::new(&file, 1).expect("map")
    }

    fn wait(ring: &mut SpillRing) -> (usize, IoBuf, Result<(), i32>) {
        for _ in 0..30 {
            if let Some(ended) = ring.end(true) {
                return ended;
            }
        }
        panic!("it never ended");
    }

    #[test]
    fn what_is_written_is_read_and_the_end_of_the_file_is_an_error() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(1 << 20).expect("size");
        let (mut ring, area) = (SpillRing::new(&file).expect("ring"), area());
        assert!(ring.end(true).is_none(), "nothing is under way");
        for number in 0..3 {
            let mut buffer = area.take(8, Search::Low).expect("free");
            buffer.fill(number as u8 + 1);
            ring.start(number, true, number as u64 * 32_768, 8 * PAGE_SIZE, buffer);
        }
        let mut ended: Vec<_> = (0..3).map(|_| wait(&mut ring)).collect();
        ended.sort_by_key(|e| e.0);
        for (number, mut buffer, result) in ended {
            assert_eq!(result, Ok(()));
            buffer.fill(0);
            ring.start(number, false, number as u64 * 32_768, 8 * PAGE_SIZE, buffer);
        }
        for _ in 0..3 {
            let (number, buffer, result) = wait(&mut ring);
            assert_eq!(result, Ok(()));
            assert!(buffer.iter().all(|&b| b == number as u8 + 1));
        }
        let buffer = area.take(8, Search::Low).expect("free");
        ring.start(3, false, (1 << 20) - 4096, 8 * PAGE_SIZE, buffer);
        assert_eq!(wait(&mut ring).2, Err(libc::EIO), "half of it is behind the end");
        assert_eq!(area.free_pages(), 64);
        assert_eq!(ring.broken(), None);
    }

    #[test]
    fn a_file_that_cannot_be_written_says_so() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
        let (mut ring, area) = (SpillRing::new(&full).expect("ring"), area());
        ring.start(0, true, 0, PAGE_SIZE, area.take(1, Search::Low).expect("free"));
        assert_eq!(wait(&mut ring).2, Err(libc::ENOSPC));
        ring.start(0, false, 0, PAGE_SIZE, area.take(1, Search::Low).expect("free"));
        assert!(wait(&mut ring).2.is_err(), "not open for reading");
    }
}
