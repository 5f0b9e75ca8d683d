//! The loop of a queue thread: reap a batch, handle each request, commit all of it with one submit.

use super::iod::{Op, Request};
use super::poll::Poll;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::sys::buffers::IoBuf;
use crate::sys::file_op::FileOp;
use crate::sys::uring::{Completion, QueueRing};
use crate::units::Tag;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Time between tries of a throttled request.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// How long after a read the queue counts as being read from.
const READS_RECENT: Duration = Duration::from_millis(1);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out in full.
    Done,
    /// Not carried out.
    Failed(IoError),
    /// Not now: to be handled again in a moment. The handler bounds how long.
    Throttled,
    /// Not before this operation on the backing file has ended, which [`Handler::finish`] is told.
    File(FileOp),
}

/// A request in our hands.
#[derive(Debug)]
pub struct Job {
    tag: Tag,
    /// What to do.
    pub request: Request,
    /// A write's data, or where a read's data goes. It may be exchanged for another one of the same
    /// size.
    pub buffer: IoBuf,
    /// Pages already carried out: by a try that was throttled, or before a file operation.
    pub done: u32,
    /// When it arrived.
    pub at: Instant,
    /// Since when it is throttled.
    throttled_at: Option<Instant>,
}

impl Job {
    /// A request that nobody has tried to carry out yet.
    pub const fn new(tag: Tag, request: Request, buffer: IoBuf, at: Instant) -> Self {
        Self { tag, request, buffer, done: 0, at, throttled_at: None }
    }

    /// Its tag: a request has it to itself.
    pub const fn tag(&self) -> Tag {
        self.tag
    }

    /// How long it has been throttled.
    pub fn waited(&self) -> Duration {
        self.throttled_at.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// A job while the ring has its buffer for a file operation.
#[derive(Debug)]
struct InFile {
    request: Request,
    done: u32,
    at: Instant,
    throttled_at: Option<Instant>,
    op: FileOp,
}

/// What requests are handed to.
pub trait Handler {
    /// Carries a request out. Must not allocate, wait for I/O, or panic.
    fn handle(&mut self, job: &mut Job) -> Outcome;

    /// Goes on with a request whose file operation has ended, with the number of bytes moved or a
    /// negative errno. The same rules.
    fn finish(&mut self, _job: &mut Job, _op: &FileOp, _result: i32) -> Outcome {
        Outcome::Failed(IoError::Unsupported)
    }
}

/// Why a queue thread ended.
#[derive(Debug)]
pub enum QueueEnd {
    /// The device was stopped: every tag came back.
    Stopped,
    /// The ring failed.
    Ring(io::Error),
    /// The driver refused a command for this tag with this errno.
    Refused(Tag, i32),
}

/// One queue and its ring.
#[derive(Debug)]
pub struct Queue<'a> {
    ring: QueueRing,
    /// Slots of the device.
    slots: u64,
    /// Throttled requests, oldest first. Room for every tag, so that it never grows.
    throttled: VecDeque<Job>,
    /// When to try the oldest of them again.
    retry_at: Instant,
    poll: Poll,
    /// When the last read arrived.
    read_at: Option<Instant>,
    /// When the requests of this batch arrived.
    batch_at: Instant,
    /// When the last commits were sent.
    sent_at: Instant,
    /// Commits that are queued and not yet sent.
    commits: u64,
    /// For every tag the request that a file operation is under way for.
    in_file: Box<[Option<InFile>]>,
    stats: &'a QueueStats,
}

impl<'a> Queue<'a> {
    /// Gives every tag its buffer and sends the first fetches. Allocates what the loop needs.
    pub fn fetch_all(
        mut ring: QueueRing,
        buffers: Vec<IoBuf>,
        slots: u64,
        poll: Poll,
        stats: &'a QueueStats,
    ) -> io::Result<Self> {
        let throttled = VecDeque::with_capacity(buffers.len());
        let in_file = buffers.iter().map(|_| None).collect();
        for (tag, buffer) in buffers.into_iter().enumerate() {
            ring.fetch(Tag(tag as u16), buffer);
        }
        ring.submit()?;
        let now = Instant::now();
        Ok(Self {
            ring,
            slots,
            throttled,
            retry_at: now,
            poll,
            read_at: None,
            batch_at: now,
            sent_at: now,
            commits: 0,
            in_file,
            stats,
        })
    }

    /// Serves until the device is stopped.
    pub fn serve(&mut self, handler: &mut impl Handler) -> QueueEnd {
        while self.ring.fetched() > 0 || !self.throttled.is_empty() {
            self.note_commits();
            let sent = if self.throttled.is_empty() {
                self.pause()
            } else {
                self.stats.waits.add(1);
                self.ring.submit_and_wait(Some(RETRY_PAUSE))
            };
            if let Err(e) = sent {
                return QueueEnd::Ring(e);
            }
            if let Err(end) = self.take_batch(handler) {
                return end;
            }
            self.retry(handler);
        }
        QueueEnd::Stopped
    }

    /// Sends what is queued and waits for the next completion: awake for a while, where that has
    /// been worth it, then asleep. Only while somebody swaps in: nobody waits for a write, so when
    /// there is nothing else the CPU is better left to reclaim and compression.
    fn pause(&mut self) -> io::Result<()> {
        if self.read_at.is_none_or(|at| self.sent_at - at >= READS_RECENT) {
            self.stats.waits.add(1);
            return self.ring.submit_and_wait(None);
        }
        let (begin, budget) = (Instant::now(), self.poll.budget());
        if !budget.is_zero() {
            self.ring.submit_and_look()?;
            while !self.ring.has_arrived() && begin.elapsed() < budget {
                std::hint::spin_loop();
            }
            if self.ring.has_arrived() {
                self.stats.polls_hit.add(1);
                self.poll.learn(begin.elapsed());
                return self.ring.submit_and_look();
            }
            self.stats.polls_missed.add(1);
        }
        self.stats.waits.add(1);
        self.ring.submit_and_wait(None)?;
        self.poll.learn(begin.elapsed());
        Ok(())
    }

    /// Counts how long the requests took that are committed with the next call into the kernel.
    fn note_commits(&mut self) {
        if self.commits > 0 {
            self.sent_at = Instant::now();
            let took = (self.sent_at - self.batch_at).as_nanos() as u64;
            self.stats.times.commit.record(took, self.commits);
            self.commits = 0;
        }
    }

    fn commit(&mut self, job: Job, result: i32) {
        if job.at == self.batch_at {
            self.commits += 1;
        } else {
            self.stats.times.commit.record(job.at.elapsed().as_nanos() as u64, 1);
        }
        self.ring.commit_and_fetch(job.tag, result, job.buffer);
    }

    /// Handles every completion that has arrived.
    fn take_batch(&mut self, handler: &mut impl Handler) -> Result<(), QueueEnd> {
        let mut count = 0;
        while let Some(completion) = self.ring.next_completion() {
            if count == 0 {
                self.batch_at = Instant::now();
            }
            count += 1;
            match completion {
                Completion::Request(tag, desc, buffer) => match Request::parse(&desc, self.slots) {
                    Ok(request) => {
                        if request.op == Op::Read {
                            self.read_at = Some(self.batch_at);
                        }
                        self.step(handler, Job::new(tag, request, buffer, self.batch_at));
                    }
                    Err(e) => {
                        self.stats.refused_requests.add(1);
                        self.ring.commit_and_fetch(tag, e.errno(), buffer);
                    }
                },
                Completion::File(tag, result, buffer) => {
                    self.go_on(handler, tag, result, buffer);
                }
                Completion::Gone(_) => {}
                Completion::Refused(tag, errno) => return Err(QueueEnd::Refused(tag, errno)),
            }
        }
        if count > 0 {
            self.stats.batches.add(1);
        }
        Ok(())
    }

    /// Handles one request. If it is throttled it waits behind those that already are.
    fn step(&mut self, handler: &mut impl Handler, mut job: Job) {
        let outcome = handler.handle(&mut job);
        self.act_or_queue(outcome, job);
    }

    fn act_or_queue(&mut self, outcome: Outcome, job: Job) {
        if let Some(job) = self.act(outcome, job) {
            self.throttled.push_back(job);
        }
    }

    /// Goes on with a request whose file operation has ended.
    fn go_on(&mut self, handler: &mut impl Handler, tag: Tag, result: i32, buffer: IoBuf) {
        self.stats.file_ended.add(1);
        let waiting = self.in_file[tag.index()].take();
        let InFile { request, done, at, throttled_at, op } =
            waiting.expect("only such a tag has a file operation");
        let mut job = Job { tag, request, buffer, done, at, throttled_at };
        let outcome = handler.finish(&mut job, &op, result);
        self.act_or_queue(outcome, job);
    }

    /// Commits a request, or starts its file operation, or gives it back if it is throttled.
    fn act(&mut self, outcome: Outcome, mut job: Job) -> Option<Job> {
        let result = match outcome {
            Outcome::Done => job.request.data_bytes() as i32,
            Outcome::Failed(e) => e.errno(),
            Outcome::Throttled => {
                job.throttled_at.get_or_insert_with(Instant::now);
                self.stats.throttled_tries.add(1);
                return Some(job);
            }
            Outcome::File(op) => {
                let Job { tag, request, buffer, done, at, throttled_at } = job;
                self.in_file[tag.index()] = Some(InFile { request, done, at, throttled_at, op });
                self.stats.file_begun.add(1);
                self.ring.file_op(tag, &op, buffer);
                return None;
            }
        };
        self.commit(job, result);
        None
    }

    /// Handles throttled requests again, oldest first, until one still is; now and then.
    fn retry(&mut self, handler: &mut impl Handler) {
        if self.throttled.is_empty() || Instant::now() < self.retry_at {
            return;
        }
        while let Some(mut job) = self.throttled.pop_front() {
            let outcome = handler.handle(&mut job);
            if let Some(job) = self.act(outcome, job) {
                self.throttled.push_front(job);
                self.retry_at = Instant::now() + RETRY_PAUSE;
                return;
            }
        }
    }
}
