//! Operations on the file behind a device, as a queue's ring carries them out.

use super::buffers::IoBuf;
use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

/// A piece of a request's data and its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// First byte in the file.
    pub at: u64,
    /// First byte in the request's data.
    pub skip: u32,
    /// Bytes.
    pub len: u32,
}

impl Transfer {
    /// What is left after the first `moved` bytes; `None` when that is nothing.
    pub fn rest(&self, moved: u32) -> Option<Self> {
        let len = self.len.checked_sub(moved).filter(|&len| len > 0)?;
        Some(Self { at: self.at + u64::from(moved), skip: self.skip + moved, len })
    }
}

/// A range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
}

/// An operation on the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// From the file into the request's data.
    Read(Transfer),
    /// From the request's data into the file.
    Write(Transfer),
    /// What was written reaches the medium.
    Sync,
    /// A block device forgets the range.
    Discard(Range),
    /// A regular file gives the range's blocks back; it reads as zeros.
    Punch(Range),
    /// The range reads as zeros and keeps its blocks.
    Zero(Range),
}

/// `BLOCK_URING_CMD_DISCARD` (Linux 6.12, include/uapi/linux/blkdev.h).
const BLOCK_DISCARD: u32 = 0x1200;

impl FileOp {
    /// The command for a ring. `registered` is where the request's pages are in the ring's table of
    /// buffers, if they are; otherwise `buffer` has or takes the data. Panics if the transfer goes
    /// beyond `buffer`.
    pub(super) fn entry(
        &self,
        file: Fixed,
        buffer: &IoBuf,
        registered: Option<u16>,
    ) -> squeue::Entry {
        let pointer = |t: &Transfer| match registered {
            // Offsets into registered request pages stand where an address would; the kernel checks
            // them.
            Some(_) => t.skip as usize as *mut u8,
            None => {
                let end = (t.skip + t.len) as usize;
                assert!(end <= buffer.len(), "transfer beyond the buffer");
                (buffer.address() as usize + t.skip as usize) as *mut u8
            }
        };
        match (self, registered) {
            (Self::Read(t), None) => {
                opcode::Read::new(file, pointer(t), t.len).offset(t.at).build()
            }
            (Self::Read(t), Some(index)) => {
                opcode::ReadFixed::new(file, pointer(t), t.len, index).offset(t.at).build()
            }
            (Self::Write(t), None) => {
                opcode::Write::new(file, pointer(t), t.len).offset(t.at).build()
            }
            (Self::Write(t), Some(index)) => {
                opcode::WriteFixed::new(file, pointer(t), t.len, index).offset(t.at).build()
            }
            (Self::Sync, _) => {
                let flags = io_uring::types::FsyncFlags::DATASYNC;
                opcode::Fsync::new(file).flags(flags).build()
            }
            (Self::Discard(range), _) => {
                // Start and length travel in the SQE's addr and addr3, which is where the command's
                // payload begins.
                let mut payload = [0; 16];
                payload[..8].copy_from_slice(&range.len.to_ne_bytes());
                let command = opcode::UringCmd16::new(file, BLOCK_DISCARD).cmd(payload);
                command.addr(Some(range.at)).build()
            }
            (Self::Punch(range), _) => {
                fallocate(file, range, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE)
            }
            (Self::Zero(range), _) => {
                fallocate(file, range, libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE)
            }
        }
    }
}

fn fallocate(file: Fixed, range: &Range, mode: i32) -> squeue::Entry {
    opcode::Fallocate::new(file, range.len).offset(range.at).mode(mode).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_rests_of_a_transfer_cover_it_once(
            at in 0..1u64 << 44,
            len in 1..=131_072u32,
            steps in proptest::collection::vec(1..70_000u32, 1..300),
        ) {
            let whole = Transfer { at, skip: 0, len };
            let (mut left, mut moved) = (Some(whole), 0);
            for step in steps {
                let Some(t) = left else { break };
                prop_assert_eq!((t.at, t.skip, t.len), (at + u64::from(moved), moved, len - moved));
                let step = step.min(t.len);
                moved += step;
                left = t.rest(step);
            }
            prop_assert_eq!(left.is_none(), moved == len);
        }
    }

    #[test]
    fn more_than_was_asked_leaves_nothing() {
        assert_eq!(Transfer { at: 0, skip: 0, len: 4096 }.rest(8192), None);
    }
}
