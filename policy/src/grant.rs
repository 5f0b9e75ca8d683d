//! Writes to the spill that are granted ahead of knowing whether they will come.
//!
//! What is not used stays granted: a budget is not eaten up by writes that never were.

/// Least quota of incompressible pages, bytes.
const LEAST: u64 = 256 << 10;
/// Most of it, bytes: a step's work.
const MOST: u64 = 64 << 20;

/// What is granted and not used yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    granted: u64,
}

impl Standing {
    /// The quota now, and how much of it is granted in addition, `left` at most. `used` bytes were
    /// written since the last step.
    pub(crate) fn plan(&mut self, wanted: u64, used: u64, left: u64) -> (u64, u64) {
        self.granted = self.granted.saturating_sub(used);
        let more = wanted.saturating_sub(self.granted).min(left);
        self.granted += more;
        (self.granted.min(wanted), more)
    }
}

/// Incompressible pages that go although there is room. The quota grows with what is used of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Straight {
    standing: Standing,
    size: u64,
}

impl Straight {
    /// As [`Standing::plan`].
    pub(crate) fn plan(&mut self, wanted: bool, used: u64, left: u64) -> (u64, u64) {
        self.size = (2 * used).max(self.size - self.size / 8).clamp(LEAST, MOST);
        self.standing.plan(if wanted { self.size } else { 0 }, used, left)
    }
}
