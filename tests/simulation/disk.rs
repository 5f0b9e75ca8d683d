//! A disk that dawdles, reorders, fails, tears, forgets and lies, as often as it is told to; and
//! that may carry out a dead server's transfers later. Whoever has its lock keeps it until then;
//! of a server that never took it nobody knows.

use crate::random::Random;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use uswap::limits::SEGMENT_BYTES;
use uswap::spill::{Disk, Ended, Job, Token};
use uswap::sys::buffers::IoBuf;
use uswap::units::{PAGE_SIZE, Page};

/// Segments of the disk: few, so that they come round again.
pub const SEGMENTS: usize = 8;
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

/// A write of a dead server that the kernel has not carried out yet.
#[derive(Debug)]
struct Late {
    server: u64,
    at: u64,
    bytes: Vec<u8>,
}

/// What is on the disk, and what is on its way there whoever lives.
#[derive(Debug)]
pub struct Medium {
    blocks: BTreeMap<u64, Box<Page>>,
    late: Vec<Late>,
    /// Servers so far.
    servers: u64,
    /// Whose the lock is.
    owner: Option<u64>,
    pub faults: Faults,
    random: Random,
}

impl Medium {
    pub fn new(faults: Faults, seed: u64) -> Rc<RefCell<Self>> {
        let (blocks, late, random) = (BTreeMap::new(), Vec::new(), Random::new(seed));
        let (servers, owner) = (0, None);
        Rc::new(RefCell::new(Self { blocks, late, servers, owner, faults, random }))
    }

    fn put(&mut self, at: u64, bytes: &[u8], count: usize) {
        let first = at / PAGE_SIZE as u64;
        for (i, block) in bytes.as_chunks::<PAGE_SIZE>().0.iter().take(count).enumerate() {
            self.blocks.insert(first + i as u64, Box::new(*block));
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), i32> {
        let mut count = bytes.len() / PAGE_SIZE;
        let error = self.random.happens(self.faults.write_error);
        if error || self.random.happens(self.faults.torn) {
            count = self.random.below(count as u64) as usize;
        }
        if !error && self.random.happens(self.faults.lost) {
            return Ok(());
        }
        self.put(at, bytes, count);
        match error {
            true => Err(if self.random.happens(128) { EIO } else { ENOSPC }),
            false => Ok(()),
        }
    }

    pub fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), i32> {
        if self.random.happens(self.faults.read_error) {
            return Err(EIO);
        }
        let first = at / PAGE_SIZE as u64;
        for (i, block) in bytes.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().enumerate() {
            *block = self.blocks.get(&(first + i as u64)).map_or([0; PAGE_SIZE], |b| **b);
        }
        if self.random.happens(self.faults.flip) {
            let bit = self.random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// Carries out one of the late writes, all of it or some.
    pub fn catch_up(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let pick = self.random.below(self.late.len() as u64) as usize;
        let Late { server, at, bytes } = self.late.swap_remove(pick);
        let blocks = bytes.len() / PAGE_SIZE;
        let count = if self.random.happens(192) { blocks } else { blocks / 2 };
        self.put(at, &bytes, count);
        self.let_go(server);
    }

    /// A dead server's lock is free when its last transfer has ended.
    fn let_go(&mut self, server: u64) {
        if self.owner == Some(server) && self.late.iter().all(|late| late.server != server) {
            self.owner = None;
        }
    }
}

/// One server's transfers.
#[derive(Debug)]
pub struct SimDisk {
    medium: Rc<RefCell<Medium>>,
    server: u64,
    under_way: Vec<(Token, Job, IoBuf)>,
}

impl SimDisk {
    pub fn new(medium: &Rc<RefCell<Medium>>) -> Self {
        medium.borrow_mut().servers += 1;
        let server = medium.borrow().servers;
        Self { medium: Rc::clone(medium), server, under_way: Vec::new() }
    }
}

impl Drop for SimDisk {
    /// The server dies: what it began may be done, or come later, or never.
    fn drop(&mut self) {
        let mut medium = self.medium.borrow_mut();
        for (_, job, buffer) in self.under_way.drain(..).filter(|(_, job, _)| job.write) {
            match medium.random.below(4) {
                0 => {}
                1 => medium.put(job.at, &buffer[..job.len], job.len / PAGE_SIZE),
                _ => {
                    let bytes = buffer[..job.len].to_vec();
                    medium.late.push(Late { server: self.server, at: job.at, bytes });
                }
            }
        }
        medium.let_go(self.server);
    }
}

impl Disk for SimDisk {
    fn start(&mut self, token: Token, job: Job, buffer: IoBuf) {
        assert!(job.at.is_multiple_of(4096) && job.len.is_multiple_of(4096) && job.len > 0);
        assert!(job.at as usize + job.len <= SEGMENTS * SEGMENT_BYTES);
        let end = |job: &Job| job.at + job.len as u64;
        let meets = |other: &Job| other.at < end(&job) && job.at < end(other);
        let mut others = self.under_way.iter();
        let twice = others.any(|(_, other, _)| (job.write || other.write) && meets(other));
        assert!(!twice, "a segment is under way twice: {job:?}");
        self.under_way.push((token, job, buffer));
    }

    fn end(&mut self, wait: bool) -> Option<Ended> {
        let mut medium = self.medium.borrow_mut();
        let slow = medium.faults.slow;
        if self.under_way.is_empty() || (!wait && medium.random.happens(slow)) {
            return None;
        }
        let pick = medium.random.below(self.under_way.len() as u64) as usize;
        let (token, job, mut buffer) = self.under_way.swap_remove(pick);
        let result = match job.write {
            true => medium.write(job.at, &buffer[..job.len]),
            false => medium.read(job.at, &mut buffer[..job.len]),
        };
        Some(Ended { token, buffer, result })
    }

    fn take_lock(&mut self) -> bool {
        let mut medium = self.medium.borrow_mut();
        let others = medium.owner.is_some_and(|owner| owner != self.server);
        if others && medium.random.happens(64) {
            // Time passes.
            medium.catch_up();
        }
        *medium.owner.get_or_insert(self.server) == self.server
    }
}
