//! A disk that fails, dawdles, tears, lies and forgets, as often as it is told to.

use std::sync::{Arc, Mutex};
use uswap::limits::SEGMENT_BYTES;
use uswap::spill::{Disk, Ended, Job, Token};
use uswap::sys::buffers::IoBuf;
use uswap::units::{PAGE_SIZE, Page};

/// Segments of the disk.
pub const SEGMENTS: usize = 16;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How often, of 256 times, the disk does what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A write fails and may have written some of it.
    pub write_error: u8,
    /// A read fails.
    pub read_error: u8,
    /// A write is said to be done, and only its beginning is.
    pub torn: u8,
    /// A write is said to be done, and nothing is.
    pub lost: u8,
    /// A bit is wrong in what was read.
    pub flip: u8,
    /// A transfer takes longer.
    pub slow: u8,
}

impl Faults {
    /// Whether pages that reached the disk may be unreadable.
    pub fn may_lose(&self) -> bool {
        [self.read_error, self.torn, self.lost, self.flip].iter().any(|&rate| rate > 0)
    }
}

/// What is on the disk, block by block, so that a reader may see a write half done.
pub struct Medium {
    blocks: Vec<Mutex<Page>>,
    pub faults: Mutex<Faults>,
    random: Mutex<u64>,
}

impl Medium {
    pub fn new(faults: Faults, seed: u64) -> Arc<Self> {
        let count = SEGMENTS * SEGMENT_BYTES / PAGE_SIZE;
        let blocks = (0..count).map(|_| Mutex::new([0; PAGE_SIZE])).collect();
        let (faults, random) = (Mutex::new(faults), Mutex::new(seed | 1));
        Arc::new(Self { blocks, faults, random })
    }

    fn random(&self) -> u64 {
        let mut state = self.random.lock().expect("unpoisoned");
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state >> 8
    }

    fn happens(&self, rate: impl Fn(&Faults) -> u8) -> bool {
        let rate = rate(&self.faults.lock().expect("unpoisoned"));
        self.random() % 256 < u64::from(rate)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), i32> {
        let mut count = bytes.len() / PAGE_SIZE;
        let error = self.happens(|f| f.write_error);
        if error || self.happens(|f| f.torn) {
            count = self.random() as usize % count;
        }
        if self.happens(|f| f.lost) {
            return Ok(());
        }
        let first = at as usize / PAGE_SIZE;
        for (i, block) in bytes.as_chunks::<PAGE_SIZE>().0.iter().take(count).enumerate() {
            *self.blocks[first + i].lock().expect("unpoisoned") = *block;
        }
        if error { Err(if self.random().is_multiple_of(2) { EIO } else { ENOSPC }) } else { Ok(()) }
    }

    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), i32> {
        if self.happens(|f| f.read_error) {
            return Err(EIO);
        }
        let first = at as usize / PAGE_SIZE;
        for (i, block) in bytes.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().enumerate() {
            *block = *self.blocks[first + i].lock().expect("unpoisoned");
        }
        if self.happens(|f| f.flip) {
            let bit = self.random() as usize % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(())
    }
}

/// A disk whose transfers end when they like.
pub struct Sim {
    pub medium: Arc<Medium>,
    pub under_way: Vec<(Token, Job, IoBuf)>,
}

impl Disk for Sim {
    fn start(&mut self, token: Token, job: Job, buffer: IoBuf) {
        assert!(job.at.is_multiple_of(4096) && job.len.is_multiple_of(4096) && job.len > 0);
        assert!(job.at as usize + job.len <= SEGMENTS * SEGMENT_BYTES);
        self.under_way.push((token, job, buffer));
    }

    fn end(&mut self, wait: bool) -> Option<Ended> {
        if self.under_way.is_empty() || (!wait && self.medium.happens(|f| f.slow)) {
            return None;
        }
        let pick = self.medium.random() as usize % self.under_way.len();
        let (token, job, mut buffer) = self.under_way.swap_remove(pick);
        let result = match job.write {
            true => self.medium.write(job.at, &buffer[..job.len]),
            false => self.medium.read(job.at, &mut buffer[..job.len]),
        };
        Some(Ended { token, buffer, result })
    }

    fn take_lock(&mut self) -> bool {
        true
    }
}
