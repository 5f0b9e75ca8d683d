//! What the measuring programs ask of the machine that safe code cannot: the instruction counter,
//! requests that are in flight at the same time, and child processes that share memory.

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode, squeue};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use uswap::units::PAGE_SIZE;

/// A page at an address that direct I/O accepts.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct DirectPage(pub [u8; PAGE_SIZE]);

/// The pages as one stretch of bytes.
pub fn bytes(pages: &[DirectPage]) -> &[u8] {
    // SAFETY: a DirectPage is exactly its bytes (repr(C), size equal to alignment, no padding), so
    // a slice of them is initialized memory of that length, borrowed as long as the result.
    unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), size_of_val(pages)) }
}

const _: () = assert!(size_of::<DirectPage>() == PAGE_SIZE);

/// The time stamp counter. In a guest of `tests/vm/boot -a icount` it counts instructions of the
/// whole machine exactly; elsewhere it is a clock of unknown speed.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC has no operands, and Linux lets every program execute it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Runs `child` in a forked process, which shares all memory until one of the two writes to it, and
/// waits for its end: the code that `child` returned, or none if it was killed. Only for a process
/// of one thread; others are refused.
pub fn in_child(child: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process of several threads cannot go on after a fork"));
    }
    // SAFETY: there is one thread, so the child has no lock that nobody would ever open and may do
    // what any program may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = child();
        // SAFETY: ends the process at once; nothing of ours has to be undone, and what the parent
        // has not written yet is not written twice.
        unsafe { libc::_exit(code.into()) }
    }
    let pid = Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error)?;
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(ended) => {
                let code = ended.and_then(|(_, status)| status.exit_status());
                return Ok(code.and_then(|code| u8::try_from(code).ok()));
            }
        }
    }
}

/// A ring for batches of requests on one file.
pub struct Batches {
    ring: IoUring,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

impl Batches {
    /// For at most `depth` requests at a time on `file`.
    pub fn new(file: &File, depth: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(depth)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Self { ring })
    }

    /// Writes page `i` at byte `offset(i)` of the file, all in flight at once, and waits for all.
    /// Panics if there are more pages than the ring's depth.
    pub fn write(&mut self, pages: &[DirectPage], offset: impl Fn(usize) -> u64) -> io::Result<()> {
        for (i, page) in pages.iter().enumerate() {
            let write = opcode::Write::new(Fixed(0), page.0.as_ptr(), PAGE_SIZE as u32);
            self.push(&write.offset(offset(i)).build());
        }
        self.finish(pages.len())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the request reads a page that `write` borrows, and `write` does not return while
        // the request is in flight: `finish` waits for it or ends the process.
        unsafe { self.ring.submission().push(entry) }.expect("no more pages than depth");
    }

    /// Sends what was pushed and reaps `wanted` completions; the first error among them.
    fn finish(&mut self, wanted: usize) -> io::Result<()> {
        let mut result = Ok(());
        let mut reaped = 0;
        while reaped < wanted {
            if let Err(e) = self.ring.submit_and_wait(wanted - reaped)
                && !matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
            {
                // Requests that point to our caller's pages are in flight and cannot be waited for.
                eprintln!("io_uring failed: {e}");
                std::process::abort();
            }
            for completion in self.ring.completion() {
                reaped += 1;
                let error = match completion.result() {
                    n if n == PAGE_SIZE as i32 => continue,
                    n if n < 0 => io::Error::from_raw_os_error(-n),
                    n => io::Error::other(format!("{n} bytes were written instead of a page")),
                };
                result = result.and(Err(error));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use uswap::sys::errno;

    #[test]
    fn a_batch_writes_every_page_to_its_place_and_reports_errors() {
        let path = std::env::temp_dir().join(format!("uswap-batch-{}", std::process::id()));
        let file = File::create(&path).expect("file");
        let mut batches = match Batches::new(&file, 4) {
            Err(e) if matches!(e.raw_os_error(), Some(errno::EPERM | errno::ENOSYS)) => {
                return eprintln!("NOT TESTED: io_uring is forbidden or missing here ({e})");
            }
            batches => batches.expect("a ring"),
        };
        let pages: Vec<DirectPage> = (1..=4).map(|b| DirectPage([b; PAGE_SIZE])).collect();
        batches.write(&pages, |i| (3 - i as u64) * PAGE_SIZE as u64).expect("written");
        let mut back = Vec::new();
        File::open(&path).and_then(|mut f| f.read_to_end(&mut back)).expect("read");
        let firsts: Vec<u8> = back.chunks(PAGE_SIZE).map(|page| page[0]).collect();
        assert_eq!(firsts, [4, 3, 2, 1]);
        let unwritable = File::open(&path).expect("open");
        let mut batches = Batches::new(&unwritable, 4).expect("as before");
        assert!(batches.write(&pages, |_| 0).is_err());
        std::fs::remove_file(&path).expect("removed");
    }
}
