//! Which pages of the pool go first.
//!
//! A victim policy sees pages as a hand passes over the slot table and has no memory of its own for
//! each of them but the mark in the slot ([`Mark`]: three bits), which it may change. What needs an
//! order that the table does not have (the oldest first, say) gets it from a histogram of the pool:
//! [`Victim::aim`] finds where to draw the line, [`Victim::meet`] draws it.
//!
//! To add one: a file here with a type that is `Default` and [`Victim`], and its line in the
//! registry below.

use crate::histogram::{Histogram, typical};
use crate::page::Page;
use crate::touch::Mark;
use alloc::boxed::Box;
use core::fmt::Debug;

macro_rules! registry {
    ($($name:literal $module:ident::$type:ident, $summary:literal;)*) => {
        $(mod $module;)*

        /// Every victim policy: name, and what it does in a few words.
        pub const VICTIMS: &[(&str, &str)] = &[$(($name, $summary)),*];

        /// The victim policy of that name, if there is one.
        pub fn victim(name: &str) -> Option<Box<dyn Victim>> {
            match name {
                $($name => Some(Box::new($module::$type::default())),)*
                _ => None,
            }
        }
    };
}

registry! {
    "fifo" fifo::Fifo, "in the order of the slot table";
    "clock" clock::Clock, "in the order of the slot table; read pages get a second chance";
    "lru" lru::Lru, "longest untouched first";
    "sieve" sieve::Sieve, "oldest unread first, then on towards the new ones (NSDI'24)";
    "s3-fifo" s3_fifo::S3Fifo, "new pages first unless read twice (SOSP'23)";
    "size-aware" size_aware::SizeAware, "most bytes for each read to be expected first";
    "swap-aware" swap_aware::SwapAware, "pages just read, which are in RAM too, first";
}

/// What a victim policy is told before the hand moves.
#[derive(Clone, Copy, Debug)]
pub struct Aim<'a> {
    /// The pool's pages.
    pub slots: &'a Histogram,
    /// Bytes that the pages up to the line should have: what is wanted, more when the hand cannot
    /// pass all pages in a step or would have to for little.
    pub bytes: u64,
    /// Younger pages are not presented, ticks.
    pub age_min_ticks: u8,
    /// The age tick now.
    pub age_tick: u64,
}

/// Answer to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// It goes.
    pub demote: bool,
    /// What to remember of its use from now on. A page that goes without one has its reads
    /// forgotten, so that reads in the spill count from 1.
    pub mark: Option<Mark>,
}

impl Choice {
    /// It stays as it is.
    pub const KEEP: Self = Self { demote: false, mark: None };
    /// It goes.
    pub const DEMOTE: Self = Self { demote: true, mark: None };

    /// It stays, and this is remembered of it.
    pub const fn keep(mark: Mark) -> Self {
        Self { demote: false, mark: Some(mark) }
    }

    /// It goes, and this is remembered of it.
    pub const fn demote(mark: Mark) -> Self {
        Self { demote: true, mark: Some(mark) }
    }
}

/// A victim policy. It must be deterministic: same aims and pages, same choices.
pub trait Victim: Debug + Send {
    /// Room is wanted. Called in every step in which it is, before pages are presented.
    fn aim(&mut self, aim: &Aim<'_>) {
        _ = aim;
    }

    /// The hand meets a page that may go. Whoever never lets one go is overruled after two laps
    /// when room is needed badly.
    fn meet(&mut self, page: &Page) -> Choice;

    /// Whether a page has been idle long enough to be made denser, without being asked to go.
    fn idle(&self, page: &Page, age_min_ticks: u8) -> bool {
        page.age_ticks >= age_min_ticks
    }
}

const RANKS: usize = 256;

/// A line through a ranking: which ranks go when so many bytes are wanted.
#[derive(Clone, Debug, Default)]
pub struct Threshold {
    rank_min: u8,
}

impl Threshold {
    /// Draws the line. Pages with higher ranks go first; if all of them do not have the bytes, all
    /// of them go.
    pub fn aim(&mut self, aim: &Aim<'_>, rank: impl Fn(&Page) -> Option<u8>) {
        let mut bytes = [0_u64; RANKS];
        let old = |page: &Page| page.age_ticks >= aim.age_min_ticks;
        for (page, pages) in aim.slots.cells().filter(|(page, _)| old(page)) {
            if let Some(rank) = rank(&page) {
                bytes[usize::from(rank)] += pages * u64::from(page.bytes);
            }
        }
        let mut sum = 0;
        let enough = (0..=u8::MAX).rev().find(|rank| {
            sum += bytes[usize::from(*rank)];
            sum >= aim.bytes
        });
        self.rank_min = enough.unwrap_or(0);
    }

    /// Whether the page goes, by the same ranking. Its rank is that of its cell, by which it was
    /// counted: pages of a cell that the line goes through would else stay, and count as if they
    /// were about to go, so that the line is never drawn further.
    #[inline]
    pub fn admits(&self, page: &Page, rank: impl Fn(&Page) -> Option<u8>) -> bool {
        rank(&typical(page)).is_some_and(|rank| rank >= self.rank_min)
    }
}
