//! How much may be written to the spill: flash wears out.
//!
//! Bytes are spent when they are granted. What the device reports as written beyond the grants
//! (padding, headers) is spent when it is reported, and paid off before anything else is granted.

/// A token bucket: a rate with a bounded burst, and debt.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_second: u64,
    burst_bytes: u64,
    /// Thousandths of a byte, so that no rate is lost to rounding.
    tokens: i128,
}

impl Bucket {
    /// A full bucket that fills at `bytes_per_second` up to what `burst_seconds` give.
    pub const fn new(bytes_per_second: u64, burst_seconds: u64) -> Self {
        let burst_bytes = bytes_per_second.saturating_mul(burst_seconds);
        Self { bytes_per_second, burst_bytes, tokens: burst_bytes as i128 * 1000 }
    }

    /// Most bytes it holds.
    pub const fn burst_bytes(&self) -> u64 {
        self.burst_bytes
    }

    fn advance(&mut self, elapsed_ms: u64) {
        let full = i128::from(self.burst_bytes) * 1000;
        let gained = i128::from(self.bytes_per_second) * i128::from(elapsed_ms);
        self.tokens = (self.tokens + gained).min(full);
    }

    fn left(&self) -> u64 {
        u64::try_from(self.tokens / 1000).unwrap_or(0)
    }

    fn spend(&mut self, bytes: u64) {
        self.tokens -= i128::from(bytes) * 1000;
    }
}

const HOUR_MS: u64 = 3_600_000;
/// The hour that runs and the 24 before it: any 24 hours lie in so many.
const HOURS: usize = 25;

/// Bytes spent in the last hours. Kept across restarts by whoever wants the day's budget to hold
/// across them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    hour: u64,
    bytes: [u64; HOURS],
}

impl Spent {
    fn advance(&mut self, now_ms: u64) {
        let hour = now_ms / HOUR_MS;
        let passed = hour.saturating_sub(self.hour);
        for i in 0..passed.min(HOURS as u64) {
            self.bytes[((self.hour + 1 + i) % HOURS as u64) as usize] = 0;
        }
        self.hour = self.hour.max(hour);
    }

    /// Bytes in the last 24 to 25 hours.
    pub fn total(&self) -> u64 {
        self.bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn add(&mut self, bytes: u64) {
        let now = &mut self.bytes[(self.hour % HOURS as u64) as usize];
        *now = now.saturating_add(bytes);
    }
}

/// Both budgets of the spill and what was spent of them.
#[derive(Clone, Debug)]
pub struct Budget {
    rate: Option<Bucket>,
    day_bytes: Option<u64>,
    /// Of the day's bytes, those kept for urgent writes.
    reserve_bytes: u64,
    spent: Spent,
    /// Payload that was reported before the writing of it.
    ahead: u64,
    written: Option<u64>,
}

impl Budget {
    /// A budget without limits where `None` is given. `reserve_bytes` of a day are left alone by
    /// what is not urgent.
    pub fn new(rate: Option<Bucket>, day_bytes: Option<u64>, reserve_bytes: u64) -> Self {
        Self { rate, day_bytes, reserve_bytes, spent: Spent::default(), ahead: 0, written: None }
    }

    /// Other limits, the same past. The bucket is full only if it was.
    pub fn limit(&mut self, other: Self) {
        let debt = match (&self.rate, &other.rate) {
            (Some(old), Some(_)) => i128::from(old.burst_bytes) * 1000 - old.tokens,
            _ => 0,
        };
        (self.day_bytes, self.reserve_bytes) = (other.day_bytes, other.reserve_bytes);
        self.rate = other.rate;
        if let Some(rate) = &mut self.rate {
            rate.tokens -= debt;
        }
    }

    /// What was spent of the day.
    pub const fn spent(&self) -> Spent {
        self.spent
    }

    /// Continues after a restart with what had been spent.
    pub const fn resume(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// Time passes. All that the device ever wrote, and how much of what it wrote since the last
    /// time was granted: the rest is overhead, and is spent now.
    pub fn advance(&mut self, now_ms: u64, elapsed_ms: u64, written_bytes: u64, payload: u64) {
        self.spent.advance(now_ms);
        if let Some(rate) = &mut self.rate {
            rate.advance(elapsed_ms);
        }
        let before = self.written.unwrap_or(written_bytes);
        let new = written_bytes.saturating_sub(before);
        self.written = Some(written_bytes.max(before));
        let granted = payload.saturating_add(self.ahead);
        self.ahead = granted.saturating_sub(new);
        self.take(new.saturating_sub(granted));
    }

    /// Bytes that may be granted now. What is not urgent leaves the day's reserve alone.
    pub fn left(&self, urgent: bool) -> u64 {
        let rate = self.rate.as_ref().map_or(u64::MAX, Bucket::left);
        let kept = if urgent { 0 } else { self.reserve_bytes };
        let day = self
            .day_bytes
            .map_or(u64::MAX, |day| day.saturating_sub(kept).saturating_sub(self.spent.total()));
        rate.min(day)
    }

    /// Whether it is the day's bytes that limit what is left.
    pub fn is_day_spent(&self, urgent: bool) -> bool {
        let rate = self.rate.as_ref().map_or(u64::MAX, Bucket::left);
        self.left(urgent) < rate
    }

    /// Grants bytes; the caller has asked [`Budget::left`].
    pub fn grant(&mut self, bytes: u64) {
        self.take(bytes);
    }

    fn take(&mut self, bytes: u64) {
        self.spent.add(bytes);
        if let Some(rate) = &mut self.rate {
            rate.spend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_rate_is_not_lost_to_rounding() {
        let mut budget = Budget::new(Some(Bucket::new(10, 2)), None, 0);
        budget.grant(20);
        for ms in 1..=100 {
            budget.advance(ms, 1, 0, 0);
        }
        assert_eq!(budget.left(true), 1);
    }

    #[test]
    fn overhead_is_paid_off_first() {
        let mut budget = Budget::new(Some(Bucket::new(100, 1)), None, 0);
        budget.advance(0, 0, 5000, 0);
        budget.grant(100);
        budget.advance(1000, 1000, 5150, 100);
        assert_eq!(budget.left(true), 50);
        budget.advance(1500, 500, 5400, 50);
        assert_eq!(budget.left(true), 0);
    }

    #[test]
    fn a_day_is_any_24_hours_and_keeps_a_reserve() {
        let mut budget = Budget::new(None, Some(1000), 250);
        budget.advance(HOUR_MS - 1, 0, 0, 0);
        budget.grant(750);
        assert_eq!((budget.left(false), budget.left(true)), (0, 250));
        budget.advance(24 * HOUR_MS + HOUR_MS / 2, 0, 750, 750);
        assert_eq!(budget.left(true), 250);
        budget.advance(25 * HOUR_MS, 0, 750, 0);
        assert_eq!(budget.left(true), 1000);
        let mut after = Budget::new(None, Some(1000), 250);
        budget.grant(400);
        after.resume(budget.spent());
        assert_eq!(after.left(true), 600);
    }

    #[test]
    fn new_limits_do_not_forgive_debt() {
        let mut budget = Budget::new(Some(Bucket::new(100, 1)), None, 0);
        budget.grant(90);
        budget.limit(Budget::new(Some(Bucket::new(100, 1)), Some(500), 0));
        assert_eq!((budget.left(true), budget.spent().total()), (10, 90));
    }
}
