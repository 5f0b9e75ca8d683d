//! A helper: compresses what queue threads have committed, so that they need not.

use super::grower::Growth;
use super::staging::{Hand, Staging};
use super::worker::{Readiness, ThreadState};
use crate::codec::Stream;
use crate::stats::QueueStats;
use crate::store::Store;
use crate::sys::heap;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// Pause after the pool had no room for a staged page. Staging keeps room for all of them, so this
/// only bridges the moments in which others have taken it and the pool grows.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// Everything a helper works with.
#[derive(Debug)]
pub struct Helper<'a> {
    /// Its number among the helpers.
    pub index: u16,
    /// Where pages come from.
    pub staging: &'a Staging,
    /// Where they go.
    pub store: &'a Store,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// Its counters.
    pub stats: &'a QueueStats,
}

impl Helper<'_> {
    /// The helper's life: sleeps until there is enough to do, does it, until it is sent home.
    pub fn run(self, mut stream: Stream, ready: SyncSender<Readiness>) {
        let mut hand = Hand::default();
        // The starting thread waits for exactly one message from each thread.
        let _ = ready.send(Ok(ThreadState::read()));
        drop(ready);
        heap::seal_thread();
        while !self.staging.is_ending() {
            self.staging.sleep(self.index);
            if self.index == 0 {
                self.staging.linger();
            }
            self.drain(&mut hand, &mut stream);
        }
        heap::unseal_thread();
    }

    /// Moves pages until none wait or this one is not wanted any more. The first helper takes all
    /// there are, until more arrive; the others are wanted while the backlog is past its mark.
    fn drain(&self, hand: &mut Hand, stream: &mut Stream) {
        let quiet_since = self.staging.arrived();
        let is_quiet = || self.index == 0 && self.staging.arrived() == quiet_since;
        while (is_quiet() || !hand.is_empty() || self.staging.is_busy())
            && !self.staging.is_ending()
        {
            let settled = self.staging.settle_one(hand, self.store, stream, self.stats);
            if settled == Ok(false) {
                return;
            }
            self.growth.ask_if_low(self.store);
            if settled.is_err() {
                thread::sleep(FULL_PAUSE);
            }
        }
    }
}
