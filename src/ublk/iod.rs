//! From the driver's descriptor to a checked request. Range and alignment are checked here and
//! nowhere else.

use crate::error::IoError;
use crate::limits::REQUEST_SECTORS_MAX;
use crate::sys::ublk_abi::{IoDesc, op};
use crate::units::{PAGE_SIZE, SECTORS_PER_PAGE, SlotIndex};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the buffer.
    Read,
    /// Store the buffer.
    Write,
    /// Nothing: there is no volatile cache.
    Flush,
    /// Forget the pages.
    Discard,
    /// Make the pages zero.
    WriteZeroes,
}

/// A request whose pages lie in the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// First slot.
    pub first: SlotIndex,
    /// Number of slots; 0 only for a flush.
    pub count: u32,
}

impl Request {
    /// Checks a descriptor against a device of `slots` slots.
    pub fn parse(desc: &IoDesc, slots: u64) -> Result<Self, IoError> {
        let op = match desc.op_flags as u8 {
            op::READ => Op::Read,
            op::WRITE => Op::Write,
            op::FLUSH => return Ok(Self { op: Op::Flush, first: SlotIndex(0), count: 0 }),
            op::DISCARD => Op::Discard,
            op::WRITE_ZEROES => Op::WriteZeroes,
            _ => return Err(IoError::Unsupported),
        };
        let per_page = u64::from(SECTORS_PER_PAGE);
        let (first, rest) = (desc.start_sector / per_page, desc.start_sector % per_page);
        let count = desc.nr_sectors / SECTORS_PER_PAGE;
        let whole = rest == 0 && desc.nr_sectors.is_multiple_of(SECTORS_PER_PAGE) && count > 0;
        let inside = first.checked_add(u64::from(count)).is_some_and(|end| end <= slots);
        let carries_data = matches!(op, Op::Read | Op::Write);
        let fits = !carries_data || desc.nr_sectors <= REQUEST_SECTORS_MAX;
        match u32::try_from(first) {
            Ok(first) if whole && inside && fits => Ok(Self { op, first: SlotIndex(first), count }),
            _ => Err(IoError::Invalid),
        }
    }

    /// Bytes of data that the request carries or asks for.
    pub const fn data_bytes(&self) -> usize {
        match self.op {
            Op::Read | Op::Write => self.count as usize * PAGE_SIZE,
            Op::Flush | Op::Discard | Op::WriteZeroes => 0,
        }
    }

    /// The slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        let first = self.first.0;
        (0..self.count).map(move |i| SlotIndex(first + i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn desc(op: u8, start_sector: u64, nr_sectors: u32) -> IoDesc {
        IoDesc { op_flags: u32::from(op) | 1 << 16, start_sector, nr_sectors, addr: 0 }
    }

    #[test]
    fn a_swap_write_is_a_write() {
        let request = Request::parse(&desc(op::WRITE, 16, 24), 100).expect("valid");
        assert_eq!(request, Request { op: Op::Write, first: SlotIndex(2), count: 3 });
        assert_eq!(request.slots().map(|s| s.0).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn the_last_slot_of_the_largest_device_is_a_slot() {
        let last = Request { op: Op::Read, first: SlotIndex(u32::MAX), count: 1 };
        assert_eq!(last.slots().collect::<Vec<_>>(), [SlotIndex(u32::MAX)]);
    }

    #[test]
    fn parts_of_pages_and_pages_outside_are_refused() {
        for bad in [
            desc(op::READ, 1, 8),
            desc(op::READ, 0, 7),
            desc(op::READ, 0, 0),
            desc(op::WRITE, 800, 8),
            desc(op::DISCARD, 792, 16),
            desc(op::WRITE, 0, REQUEST_SECTORS_MAX + 8),
            desc(op::DISCARD, u64::MAX - 7, 8),
        ] {
            assert_eq!(Request::parse(&bad, 100), Err(IoError::Invalid), "{bad:?}");
        }
    }

    #[test]
    fn operations_that_we_do_not_advertise_are_refused() {
        assert_eq!(Request::parse(&desc(4, 0, 8), 100), Err(IoError::Unsupported));
        assert_eq!(Request::parse(&desc(36, 0, 8), 100), Err(IoError::Unsupported));
    }

    proptest! {
        #[test]
        fn whatever_parses_lies_in_the_device(
            op_flags in any::<u32>(),
            start_sector in prop_oneof![any::<u64>(), 0..10_000u64],
            nr_sectors in prop_oneof![any::<u32>(), 0..512u32],
            slots in 1..=1u64 << 32,
        ) {
            let desc = IoDesc { op_flags, nr_sectors, start_sector, addr: 0 };
            if let Ok(request) = Request::parse(&desc, slots) {
                prop_assert!(u64::from(request.first.0) + u64::from(request.count) <= slots);
                prop_assert!(request.data_bytes() <= crate::limits::REQUEST_BYTES_MAX);
                prop_assert_eq!(request.slots().count(), request.count as usize);
            }
        }
    }
}
