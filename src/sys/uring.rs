//! io_uring as ublk uses it: a control ring for commands that wait, a queue ring that owns request
//! buffers.

use super::buffers::IoBuf;
use super::file_op::FileOp;
use super::ublk_abi::{self as abi, CopyMode, CtrlCmd, IoDesc};
use crate::units::{QueueId, SECTOR_SHIFT, Tag};
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
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
    /// A file operation ended: bytes moved or a negative errno, and the tag's buffer.
    File(Tag, i32, IoBuf),
}

/// Mark of a file operation in a command's user data, above the tag.
const FILE_MARK: u64 = 1 << 16;
/// Place of the backing in the table of registered files. The char device is not there: the kernel
/// lets go of what is some tens of milliseconds after a process has ended, and only then can
/// another server take the device over.
const BACKING: Fixed = Fixed(0);

/// What a queue's ring is made of.
#[derive(Clone, Copy, Debug)]
pub struct RingParts<'a> {
    /// Tags of the queue.
    pub depth: u16,
    /// How data moves.
    pub copy: CopyMode,
    /// The file for file operations.
    pub backing: Option<&'a File>,
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
/// complete a read, inside the submission) and writes it (the next write's data). A file operation
/// takes the buffer with it too. The commands must come from the thread that made the ring.
pub struct QueueRing {
    ring: IoUring,
    copy: CopyMode,
    char_device: File,
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

/// A ring that has all it needs but a device: made while there is memory, put to use when there may
/// be none.
pub struct IdleRing {
    ring: IoUring,
    copy: CopyMode,
    depth: u16,
}

impl std::fmt::Debug for IdleRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdleRing").field("depth", &self.depth).finish_non_exhaustive()
    }
}

impl IdleRing {
    /// Makes the ring. Task work runs only when we ask for events, so that copies happen in batches
    /// and never interrupt a compression.
    pub fn new(parts: RingParts<'_>) -> io::Result<Self> {
        let RingParts { depth, copy, backing } = parts;
        let entries = u32::from(depth).next_power_of_two();
        let mut builder = IoUring::builder();
        // A completion queue of twice the tags never overflows: an overflow would allocate.
        builder.dontfork().setup_cqsize(2 * entries);
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = builder.build(entries)?;
        if let Some(backing) = backing {
            ring.submitter().register_files(&[backing.as_raw_fd()])?;
        }
        if copy == CopyMode::Zero {
            ring.submitter().register_buffers_sparse(depth.into())?;
        }
        Ok(Self { ring, copy, depth })
    }

    /// Lets the kernel make what it keeps for each command of a ring, by as many commands as there
    /// are tags, to a device that answers at once (`/dev/null`, Linux drivers/char/mem.c). Only for
    /// what it leaves behind: whether they succeed does not matter.
    pub fn warm(&mut self, null: &File) -> io::Result<()> {
        let entry = opcode::UringCmd16::new(Fd(null.as_raw_fd()), 0).build();
        for _ in 0..self.depth {
            // SAFETY: the command has no pointer, and `null` is open until it is reaped below.
            unsafe { self.ring.submission().push(&entry) }
                .expect("the ring has room for every tag");
        }
        let mut missing = usize::from(self.depth);
        while missing > 0 {
            retriable(self.ring.submit_and_wait(missing))?;
            missing -= self.ring.completion().count().min(missing);
        }
        Ok(())
    }

    /// Puts the ring to use for a queue of the char device `/dev/ublkcN`.
    pub fn attach(self, char_device: &File, queue: QueueId) -> io::Result<QueueRing> {
        let Self { ring, copy, depth } = self;
        let len = usize::from(depth) * size_of::<IoDesc>();
        let descriptors = MmapOptions::new()
            .offset(u64::from(queue.0) * abi::QUEUE_DESC_STRIDE)
            .len(len)
            .map_raw_read_only(char_device)?;
        let buffers = (0..depth).map(|_| None).collect();
        let char_device = char_device.try_clone()?;
        Ok(QueueRing { ring, copy, char_device, descriptors, queue, buffers, fetched: 0 })
    }
}

impl QueueRing {
    /// Tags that are with the driver or with a file.
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
        let result = match self.copy {
            CopyMode::User if result > 0 => self.give_data(tag, result, &buffer),
            _ => result,
        };
        self.push(abi::IO_COMMIT_AND_FETCH, tag, result, buffer);
    }

    fn push(&mut self, op: u32, tag: Tag, result: i32, buffer: IoBuf) {
        // Only the driver's own copy needs an address of ours. For automatic registration the
        // command carries the place in the table (`struct ublk_auto_buf_reg`: index, no flags).
        let (address, register) = match self.copy {
            CopyMode::Copy => (buffer.address(), None),
            CopyMode::User => (0, None),
            CopyMode::Zero => (0, Some(u64::from(tag.0))),
        };
        let cmd = abi::pack_io_cmd(self.queue.0, tag.0, result, address);
        let command =
            opcode::UringCmd16::new(Fd(self.char_device.as_raw_fd()), op).cmd(cmd).addr(register);
        self.queue_entry(&command.build().user_data(u64::from(tag.0)), tag, buffer);
    }

    /// Queues an operation on the backing file that moves data between it and the tag's request, or
    /// changes the file only. Panics if it goes beyond the buffer, or if the ring has no backing.
    pub fn file_op(&mut self, tag: Tag, op: &FileOp, buffer: IoBuf) {
        let registered = (self.copy == CopyMode::Zero).then_some(tag.0);
        let entry = op.entry(BACKING, &buffer, registered);
        self.queue_entry(&entry.user_data(u64::from(tag.0) | FILE_MARK), tag, buffer);
    }

    fn queue_entry(&mut self, entry: &squeue::Entry, tag: Tag, buffer: IoBuf) {
        let previous = self.buffers[tag.index()].replace(buffer);
        assert!(previous.is_none(), "tag {tag:?} is already with the driver");
        self.fetched += 1;
        // SAFETY: the command's only pointer is into the buffer, which `self.buffers` owns until
        // the completion.
        unsafe { self.ring.submission().push(entry) }.expect("the ring has room for every tag");
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
        loop {
            let completion = self.ring.completion().next()?;
            let tag = Tag(completion.user_data() as u16);
            let buffer = self.buffers[tag.index()].take();
            let mut buffer = buffer.expect("completions are for fetched tags");
            self.fetched -= 1;
            if completion.user_data() & FILE_MARK != 0 {
                return Some(Completion::File(tag, completion.result(), buffer));
            }
            return Some(match completion.result() {
                0 => {
                    let desc = self.descriptor(tag);
                    if self.copy == CopyMode::User && !self.take_data(tag, &desc, &mut buffer) {
                        self.push(abi::IO_COMMIT_AND_FETCH, tag, -libc::EIO, buffer);
                        continue;
                    }
                    Completion::Request(tag, desc, buffer)
                }
                // UBLK_IO_RES_ABORT
                result if result == -libc::ENODEV => Completion::Gone(tag),
                result => Completion::Refused(tag, result),
            });
        }
    }

    /// User copy: brings a write's data into the buffer; false if the driver does not give it. One
    /// that is larger than the buffer stays where it is: it will be refused for its size.
    fn take_data(&self, tag: Tag, desc: &IoDesc, buffer: &mut IoBuf) -> bool {
        let len = (desc.nr_sectors as usize) << SECTOR_SHIFT;
        let data = buffer.get_mut(..len).filter(|_| desc.op_flags as u8 == abi::op::WRITE);
        let position = abi::user_copy_position(self.queue.0, tag.0);
        data.is_none_or(|data| self.char_device.read_exact_at(data, position).is_ok())
    }

    /// User copy: gives a read's data to the driver; the result to commit.
    fn give_data(&self, tag: Tag, result: i32, buffer: &IoBuf) -> i32 {
        if self.descriptor(tag).op_flags as u8 != abi::op::READ {
            return result;
        }
        let position = abi::user_copy_position(self.queue.0, tag.0);
        let data = &buffer[..result as usize];
        self.char_device.write_all_at(data, position).map_or(-libc::EIO, |()| result)
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
