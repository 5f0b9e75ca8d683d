//! io_uring as ublk uses it: a control ring for commands that wait, a queue ring that owns request
//! buffers.

use super::buffers::IoBuf;
use super::ublk_abi::{self as abi, CtrlCmd, IoDesc};
use crate::units::{QueueId, Tag};
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Ring for `/dev/ublk-control`: one command at a time, waited for.
pub struct ControlRing {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
}

impl std::fmt::Debug for ControlRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlRing").finish_non_exhaustive()
    }
}

impl ControlRing {
    /// A ring of large SQEs (the 32-byte command does not fit a small one) on the control device.
    pub fn new(control: &File) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(4)?;
        ring.submitter().register_files(&[control.as_raw_fd()])?;
        Ok(Self { ring })
    }

    /// Runs one command and returns its result. `buffer` is read and written by the driver. Blocks
    /// for as long as the driver takes: START_DEV until all tags are fetched, DEL_DEV until the
    /// device is closed.
    pub fn command(&mut self, op: u32, cmd: CtrlCmd, buffer: &mut [u8]) -> io::Result<i32> {
        let len = u16::try_from(buffer.len()).expect("control buffers are small");
        let payload = cmd.pack(buffer.as_mut_ptr() as u64, len);
        let entry = opcode::UringCmd80::new(Fixed(0), op).cmd(payload).build();
        // SAFETY: the command's only pointer is into `buffer`, which stays borrowed until its
        // completion is reaped below; this function does not return before that.
        unsafe { self.ring.submission().push(&entry) }.expect("one command at a time fits");
        loop {
            // Returning with the command still queued would leave a pointer to a dead buffer.
            retriable(self.ring.submit_and_wait(1)).expect("the control ring works");
            if let Some(completion) = self.ring.completion().next() {
                let result = completion.result();
                return if result < 0 {
                    Err(io::Error::from_raw_os_error(-result))
                } else {
                    Ok(result)
                };
            }
        }
    }
}

/// What the driver handed back for a tag.
#[derive(Debug)]
pub enum Completion {
    /// A request: its descriptor and the buffer, filled if it is a write.
    Request(Tag, IoDesc, IoBuf),
    /// The device goes away: the tag is not to be fetched again.
    Gone(Tag),
    /// The driver refused our command with this errno: a defect on our side.
    Refused(Tag, i32),
}

/// Errors that mean "ask again" are no errors: what was not sent stays queued.
fn retriable(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(e) => match e.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME) => Ok(()),
            _ => Err(e),
        },
    }
}

/// The ring of one ublk queue. Owns the buffer of every tag that is with the driver.
///
/// Contract: a buffer goes in with [`QueueRing::fetch`] or [`QueueRing::commit_and_fetch`] and
/// comes out with the tag's next [`Completion::Request`]; in between the kernel reads it (to
/// complete a read, inside the submission) and writes it (the next write's data). The commands must
/// come from the thread that made the ring.
pub struct QueueRing {
    ring: IoUring,
    descriptors: MmapRaw,
    queue: QueueId,
    buffers: Box<[Option<IoBuf>]>,
    fetched: usize,
}

impl std::fmt::Debug for QueueRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, fetched, .. } = self;
        f.debug_struct("QueueRing").field("queue", queue).field("fetched", fetched).finish()
    }
}

impl QueueRing {
    /// Makes the ring on the char device `/dev/ublkcN`. Task work runs only when we ask for events,
    /// so that copies happen in batches and never interrupt a compression.
    pub fn new(char_device: &File, queue: QueueId, depth: u16) -> io::Result<Self> {
        let entries = u32::from(depth).next_power_of_two();
        let mut builder = IoUring::builder();
        // A completion queue of twice the tags never overflows: an overflow would allocate.
        builder.dontfork().setup_cqsize(2 * entries);
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = builder.build(entries)?;
        ring.submitter().register_files(&[char_device.as_raw_fd()])?;
        let len = usize::from(depth) * size_of::<IoDesc>();
        let descriptors = MmapOptions::new()
            .offset(u64::from(queue.0) * abi::QUEUE_DESC_STRIDE)
            .len(len)
            .map_raw_read_only(char_device)?;
        let buffers = (0..depth).map(|_| None).collect();
        Ok(Self { ring, descriptors, queue, buffers, fetched: 0 })
    }

    /// Tags that are with the driver.
    pub fn fetched(&self) -> usize {
        self.fetched
    }

    /// Queues the first fetch of a tag.
    pub fn fetch(&mut self, tag: Tag, buffer: IoBuf) {
        self.push(abi::IO_FETCH, tag, 0, buffer);
    }

    /// Queues the end of a request: `result` is the full length or a negative errno, `buffer` has
    /// the data of a read and will receive the tag's next write. Nothing is sent before
    /// [`QueueRing::submit_and_wait`].
    pub fn commit_and_fetch(&mut self, tag: Tag, result: i32, buffer: IoBuf) {
        self.push(abi::IO_COMMIT_AND_FETCH, tag, result, buffer);
    }

    fn push(&mut self, op: u32, tag: Tag, result: i32, buffer: IoBuf) {
        let cmd = abi::pack_io_cmd(self.queue.0, tag.0, result, buffer.address());
        let entry =
            opcode::UringCmd16::new(Fixed(0), op).cmd(cmd).build().user_data(u64::from(tag.0));
        let previous = self.buffers[tag.index()].replace(buffer);
        assert!(previous.is_none(), "tag {tag:?} is already with the driver");
        self.fetched += 1;
        // SAFETY: the command's only pointer is the buffer's, which `self.buffers` owns until the
        // completion.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring has room for every tag");
    }

    /// Sends what is queued and sleeps until at least one completion is there, the pause is over,
    /// or the kernel wants to be asked again (a signal, or no memory for its own bookkeeping just
    /// now): what was not sent stays queued.
    pub fn submit_and_wait(&mut self, pause: Option<Duration>) -> io::Result<()> {
        let pause = pause.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(pause) = &pause {
            args = args.timespec(pause);
        }
        retriable(self.ring.submitter().submit_with_args(1, &args))
    }

    /// Sends what is queued and lets what has arrived be seen, without waiting. Calls the kernel
    /// only if there is something to send or it says that something arrived.
    pub fn submit_and_look(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let idle = queue.is_empty() && !queue.taskrun();
        drop(queue);
        if idle { Ok(()) } else { retriable(self.ring.submit()) }
    }

    /// Whether something has arrived that has not been seen. Does not call the kernel.
    pub fn has_arrived(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Sends what is queued without waiting.
    pub fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(|_| ())
    }

    /// The next completion that has arrived.
    pub fn next_completion(&mut self) -> Option<Completion> {
        let completion = self.ring.completion().next()?;
        let tag = Tag(completion.user_data() as u16);
        let buffer = self.buffers[tag.index()].take().expect("completions are for fetched tags");
        self.fetched -= 1;
        Some(match completion.result() {
            0 => Completion::Request(tag, self.descriptor(tag), buffer),
            // UBLK_IO_RES_ABORT
            result if result == -libc::ENODEV => Completion::Gone(tag),
            result => Completion::Refused(tag, result),
        })
    }

    /// Reads a tag's descriptor once; the driver does not change it before our commit.
    fn descriptor(&self, tag: Tag) -> IoDesc {
        assert!(tag.index() < self.buffers.len(), "tag beyond the queue's depth");
        let at = self.descriptors.as_ptr().cast::<IoDesc>().wrapping_add(tag.index());
        // SAFETY: `at` is inside the mapping of `depth` descriptors, aligned, and any bit pattern
        // is a valid IoDesc.
        unsafe { at.read_volatile() }
    }
}
