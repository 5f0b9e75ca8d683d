//! A segment being filled in memory, and the summary at its end.

use super::disk::Job;
use super::layout::{Summary, Victim};
use super::seal::{Broken, Form, Identity, Place, Seal, TAG_BYTES};
use super::segments::Segments;
use crate::limits::{SEGMENT_BYTES, SEGMENT_OBJECTS_MAX, SPILL_BLOCK_BYTES};
use crate::sys::buffers::IoBuf;
use crate::units::{Location, SlotIndex};

/// Bytes of a record in a summary.
const RECORD_BYTES: usize = 8;

const fn pack(record: Identity) -> [u8; RECORD_BYTES] {
    let ([a, b, c, d], [x, y]) = (record.slot.0.to_le_bytes(), record.len.to_le_bytes());
    [a, b, c, d, record.form.0, 0, x, y]
}

const fn unpack(bytes: [u8; RECORD_BYTES]) -> Identity {
    let [a, b, c, d, form, _, x, y] = bytes;
    Identity {
        slot: SlotIndex(u32::from_le_bytes([a, b, c, d])),
        form: Form(form),
        len: u16::from_le_bytes([x, y]),
    }
}

/// Bytes of a summary of `objects` records, with its tag.
const fn summary_bytes(objects: usize) -> usize {
    objects * RECORD_BYTES + TAG_BYTES
}

/// Byte of a segment at which it ends, summary included.
pub(super) const fn end_of(summary: Summary) -> usize {
    summary.unit as usize * Location::UNIT + summary_bytes(summary.objects)
}

impl Summary {
    /// Whether an object of `len` bytes has room in a segment that holds what this is about.
    pub const fn fits(self, len: u16) -> bool {
        let end = (self.unit + Segments::units_of(len)) as usize * Location::UNIT;
        self.objects < SEGMENT_OBJECTS_MAX && end + summary_bytes(self.objects + 1) <= SEGMENT_BYTES
    }

    /// Bytes that are written for such a segment.
    pub const fn written_bytes(self) -> usize {
        end_of(self).next_multiple_of(SPILL_BLOCK_BYTES)
    }
}

/// The transfer of all of a segment that is used.
fn job(write: bool, segment: u32, summary: Summary) -> Job {
    let at = Segments::location(segment, 0).offset() as u64;
    Job { write, at, len: summary.written_bytes() }
}

/// Authenticated with a summary: that it is one, and how long. No object is so described, because
/// an object's description has another length.
const fn about(objects: usize) -> [u8; 8] {
    (objects as u64).to_le_bytes()
}

/// A segment being filled. Everything in the buffer is sealed as it comes.
#[derive(Debug)]
pub struct Draft {
    /// Away while it is written.
    buffer: Option<IoBuf>,
    records: Box<[u8]>,
    segment: u32,
    sequence: u64,
    /// Units taken by objects.
    used: u32,
    objects: usize,
}

impl Draft {
    /// A draft in this buffer of [`SEGMENT_BYTES`]. Allocates room for the longest summary. Panics
    /// if the buffer is shorter.
    pub fn new(buffer: IoBuf) -> Self {
        assert!(buffer.len() >= SEGMENT_BYTES, "a draft is a segment");
        let records = vec![0; SEGMENT_OBJECTS_MAX * RECORD_BYTES].into_boxed_slice();
        let buffer = Some(buffer);
        Self { buffer, records, segment: 0, sequence: 0, used: 0, objects: 0 }
    }

    /// Empties it, for this write of this segment.
    pub const fn begin(&mut self, segment: u32, sequence: u64) {
        (self.segment, self.sequence, self.used, self.objects) = (segment, sequence, 0, 0);
    }

    /// The segment that it will be.
    pub const fn segment(&self) -> u32 {
        self.segment
    }

    /// Where the summary goes.
    pub const fn summary(&self) -> Summary {
        Summary { unit: self.used, objects: self.objects }
    }

    /// Whether there is room for an object of `len` bytes.
    pub const fn fits(&self, len: u16) -> bool {
        self.summary().fits(len)
    }

    /// Seals an object into it and says where in the spill that will be. Panics if it does not fit,
    /// `data` is not as long as `record` says, or the buffer is away. Does not allocate or block.
    pub fn push(&mut self, seal: &Seal, record: Identity, data: &[u8]) -> Location {
        assert!(self.fits(record.len) && data.len() == usize::from(record.len));
        let start = self.used as usize * Location::UNIT;
        let place = Place { sequence: self.sequence, unit: self.used };
        let buffer = self.buffer.as_mut().expect("nothing is added while it is written");
        seal.seal(place, record, data, &mut buffer[start..start + data.len() + TAG_BYTES]);
        let at = self.objects * RECORD_BYTES;
        self.records[at..at + RECORD_BYTES].copy_from_slice(&pack(record));
        let location = Segments::location(self.segment, self.used);
        self.used += record.units();
        self.objects += 1;
        location
    }

    /// Puts the summary behind the objects and gives the buffer away to be written; it comes back
    /// with [`Draft::put_back`].
    pub fn close(&mut self, seal: &Seal) -> (Job, IoBuf) {
        let mut buffer = self.buffer.take().expect("it is written once");
        let (start, end) = (self.used as usize * Location::UNIT, end_of(self.summary()));
        let place = Place { sequence: self.sequence, unit: self.used };
        let records = &self.records[..self.objects * RECORD_BYTES];
        seal.seal_with(place, &about(self.objects), records, &mut buffer[start..end]);
        (job(true, self.segment, self.summary()), buffer)
    }

    /// Takes the buffer back.
    pub fn put_back(&mut self, buffer: IoBuf) {
        self.buffer = Some(buffer);
    }
}

/// Opens the summary of a segment that was read to `bytes`, and puts each object's position in the
/// segment and its record into `found`. Allocates only if that has too little room.
pub fn read_summary(
    seal: &Seal,
    victim: &Victim,
    bytes: &mut [u8],
    found: &mut Vec<(u32, Identity)>,
) -> Result<(), Broken> {
    found.clear();
    let Summary { unit, objects } = victim.summary;
    let start = unit as usize * Location::UNIT;
    let sealed = bytes.get_mut(start..end_of(victim.summary)).ok_or(Broken)?;
    let place = Place { sequence: victim.sequence, unit };
    let records = seal.open_with(place, &about(objects), sealed)?;
    let mut unit = 0;
    for bytes in records.as_chunks::<RECORD_BYTES>().0 {
        let record = unpack(*bytes);
        found.push((unit, record));
        unit += record.units();
    }
    Ok(())
}

impl Victim {
    /// What to read to clean it.
    pub fn job(&self) -> Job {
        job(false, self.segment, self.summary)
    }
}
