//! The loop target: requests become operations on a file or device, page for page at the same
//! place.

use super::backing::{Backing, Forget};
use super::worker::count;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::sys::errno;
use crate::sys::file_op::{FileOp, Range, Transfer};
use crate::ublk::queue::{Handler, Job, Outcome};
use crate::ublk::{Op, Request};
use crate::units::PAGE_SHIFT;

/// Sends requests on.
#[derive(Debug)]
pub struct LoopHandler<'a> {
    /// Where they go.
    pub backing: &'a Backing,
    /// The queue's counters.
    pub stats: &'a QueueStats,
}

impl Handler for LoopHandler<'_> {
    fn handle(&mut self, job: &mut Job) -> Outcome {
        count(&job.request, self.stats);
        let op = first(&job.request, self.backing.forget, self.backing.zeroes);
        op.map_or(Outcome::Failed(IoError::Unsupported), Outcome::File)
    }

    fn finish(&mut self, _job: &mut Job, op: &FileOp, result: i32) -> Outcome {
        let outcome = next(op, result);
        match outcome {
            Outcome::Failed(_) => self.stats.backing_errors.add(1),
            Outcome::File(_) => self.stats.backing_short.add(1),
            _ => {}
        }
        outcome
    }
}

/// The operation that a request begins with; `None` if it was not offered.
fn first(request: &Request, forget: Forget, zeroes: bool) -> Option<FileOp> {
    let at = u64::from(request.first.0) << PAGE_SHIFT;
    let range = Range { at, len: u64::from(request.count) << PAGE_SHIFT };
    let whole = Transfer { at, skip: 0, len: request.data_bytes() as u32 };
    Some(match (request.op, forget) {
        (Op::Read, _) => FileOp::Read(whole),
        (Op::Write, _) => FileOp::Write(whole),
        (Op::Flush, _) => FileOp::Sync,
        (Op::Discard, Forget::Discard) => FileOp::Discard(range),
        (Op::Discard | Op::WriteZeroes, Forget::Punch) => FileOp::Punch(range),
        (Op::WriteZeroes, _) if zeroes => FileOp::Zero(range),
        (Op::Discard | Op::WriteZeroes, _) => return None,
    })
}

/// What follows an operation that ended with `result`. A transfer goes on until all of it is moved;
/// each step moves something, so that it ends.
fn next(op: &FileOp, result: i32) -> Outcome {
    let failed = |errno| Outcome::Failed(IoError::Backing(errno));
    let (transfer, again): (_, fn(Transfer) -> FileOp) = match op {
        _ if result < 0 => return failed(-result),
        FileOp::Read(t) => (t, FileOp::Read),
        FileOp::Write(t) => (t, FileOp::Write),
        FileOp::Sync | FileOp::Discard(_) | FileOp::Punch(_) | FileOp::Zero(_) => {
            return Outcome::Done;
        }
    };
    match transfer.rest(result as u32) {
        None => Outcome::Done,
        // The file has become shorter than the device.
        Some(_) if result == 0 => failed(errno::EIO),
        Some(rest) => Outcome::File(again(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotIndex;

    fn request(op: Op) -> Request {
        Request { op, first: SlotIndex(3), count: if op == Op::Flush { 0 } else { 2 } }
    }

    const WHOLE: Transfer = Transfer { at: 3 << 12, skip: 0, len: 8192 };
    const RANGE: Range = Range { at: 3 << 12, len: 8192 };

    #[test]
    fn a_request_goes_to_the_same_place_of_the_file() {
        let op = |op, forget, zeroes| first(&request(op), forget, zeroes);
        assert_eq!(op(Op::Read, Forget::No, false), Some(FileOp::Read(WHOLE)));
        assert_eq!(op(Op::Write, Forget::No, false), Some(FileOp::Write(WHOLE)));
        assert_eq!(op(Op::Flush, Forget::No, false), Some(FileOp::Sync));
        assert_eq!(op(Op::Discard, Forget::Discard, true), Some(FileOp::Discard(RANGE)));
        assert_eq!(op(Op::Discard, Forget::Punch, true), Some(FileOp::Punch(RANGE)));
        assert_eq!(op(Op::WriteZeroes, Forget::Punch, true), Some(FileOp::Punch(RANGE)));
        assert_eq!(op(Op::WriteZeroes, Forget::No, true), Some(FileOp::Zero(RANGE)));
        assert_eq!(op(Op::Discard, Forget::No, true), None);
        assert_eq!(op(Op::WriteZeroes, Forget::No, false), None);
        let last = Request { op: Op::Read, first: SlotIndex(u32::MAX), count: 1 };
        let end = Transfer { at: ((1 << 32) - 1) << 12, skip: 0, len: 4096 };
        assert_eq!(first(&last, Forget::No, false), Some(FileOp::Read(end)));
    }

    #[test]
    fn a_short_transfer_goes_on_and_an_empty_one_fails() {
        for op in [FileOp::Read, FileOp::Write] {
            assert_eq!(next(&op(WHOLE), 8192), Outcome::Done);
            let rest = Transfer { at: WHOLE.at + 512, skip: 512, len: 8192 - 512 };
            assert_eq!(next(&op(WHOLE), 512), Outcome::File(op(rest)));
            assert_eq!(next(&op(rest), 8192 - 512), Outcome::Done);
            assert_eq!(next(&op(rest), 0), Outcome::Failed(IoError::Backing(errno::EIO)));
        }
    }

    #[test]
    fn an_error_is_handed_on_with_its_errno() {
        for op in [FileOp::Read(WHOLE), FileOp::Sync, FileOp::Punch(RANGE)] {
            let outcome = next(&op, -errno::ENOMEM);
            assert_eq!(outcome, Outcome::Failed(IoError::Backing(errno::ENOMEM)));
        }
        assert_eq!(IoError::Backing(errno::ENOMEM).errno(), -errno::ENOMEM);
        assert_eq!(next(&FileOp::Sync, 0), Outcome::Done);
    }
}
