//! Frames: what a trace consists of, each with its length and its checksum.

use super::TraceError;
use crate::sys::map::checksum;
use std::io::{Read, Write};
use zstd_safe::{CCtx, CParameter, DCtx};

/// Level of zstd for blocks.
const LEVEL: i32 = 3;

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 24;

/// Longest header or trailer: they are a few hundred bytes.
pub(super) const JSON_BYTES_MAX: usize = 16 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum FrameKind {
    /// The header.
    Header = 1,
    /// Events.
    Block = 2,
    /// The trailer.
    Trailer = 3,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub kind: FrameKind,
    pub events: u32,
    pub plain_bytes: u32,
    pub stored_bytes: u32,
    sum: u64,
}

fn sum_of(numbers: [u32; 4], stored: &[u8]) -> u64 {
    let words = stored.chunks(8).map(|part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    });
    checksum(numbers.map(u64::from).into_iter().chain(words))
}

/// Writes a frame.
pub(super) fn write(
    out: &mut impl Write,
    kind: FrameKind,
    events: usize,
    plain_bytes: usize,
    stored: &[u8],
) -> Result<(), TraceError> {
    let numbers = [kind as u32, events as u32, plain_bytes as u32, stored.len() as u32];
    let mut head = [0; HEAD_BYTES];
    for (bytes, number) in head.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
    head[16..].copy_from_slice(&sum_of(numbers, stored).to_le_bytes());
    out.write_all(&head)?;
    out.write_all(stored)?;
    Ok(())
}

impl Head {
    /// Reads a head; `Err` with what is wrong with it.
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Self, &'static str> {
        let words = bytes.as_chunks::<4>().0;
        let word = |i: usize| u32::from_le_bytes(words[i]);
        let kind = match word(0) {
            1 => FrameKind::Header,
            2 => FrameKind::Block,
            3 => FrameKind::Trailer,
            _ => return Err("no such kind of frame"),
        };
        let sum = u64::from(word(4)) | u64::from(word(5)) << 32;
        let (events, plain_bytes, stored_bytes) = (word(1), word(2), word(3));
        Ok(Self { kind, events, plain_bytes, stored_bytes, sum })
    }

    /// Reads what follows into `stored`, which must not be longer than `most` bytes. `None` if it
    /// is, or not what was written.
    pub(super) fn read(
        &self,
        input: &mut impl Read,
        most: usize,
        stored: &mut Vec<u8>,
    ) -> Result<Option<()>, TraceError> {
        let len = self.stored_bytes as usize;
        if len > most {
            return Ok(None);
        }
        stored.resize(len, 0);
        input.read_exact(stored)?;
        let numbers = [self.kind as u32, self.events, self.plain_bytes, self.stored_bytes];
        Ok((sum_of(numbers, stored) == self.sum).then_some(()))
    }
}

/// Compresses blocks.
pub(super) struct Packer(CCtx<'static>);

impl Packer {
    /// Allocates. Panics without memory.
    pub(super) fn new() -> Self {
        let mut context = CCtx::create();
        let level = context.set_parameter(CParameter::CompressionLevel(LEVEL));
        level.expect("a level that zstd knows");
        Self(context)
    }

    /// `plain` compressed, into `packed`.
    pub(super) fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) {
        packed.resize(zstd_safe::compress_bound(plain.len()), 0);
        let len = self.0.compress2(&mut packed[..], plain);
        packed.truncate(len.expect("there is room for whatever it is"));
    }
}

/// Decompresses blocks.
pub(super) struct Unpacker(DCtx<'static>);

impl Unpacker {
    /// Allocates. Panics without memory.
    pub(super) fn new() -> Self {
        Self(DCtx::create())
    }

    /// What `packed` was made of, into `plain`; `None` if that is not zstd, or not exactly so many
    /// bytes.
    pub(super) fn unpack(
        &mut self,
        packed: &[u8],
        bytes: usize,
        plain: &mut Vec<u8>,
    ) -> Option<()> {
        plain.resize(bytes, 0);
        (self.0.decompress(&mut plain[..], packed) == Ok(bytes)).then_some(())
    }
}
