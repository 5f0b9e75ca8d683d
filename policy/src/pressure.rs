//! How short of memory the machine is, in words that do not flap.

use crate::permille;
use crate::view::Machine;
use serde::Deserialize;

/// What the daemon has to expect of the machine. The order is that of need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Memory can be had.
    Calm,
    /// Tasks wait for memory, or little is left: take none, give some back.
    Tight,
    /// Little else happens than waiting: everything that can be given back helps.
    Critical,
}

impl Pressure {
    /// The word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Tight => "tight",
            Self::Critical => "critical",
        }
    }
}

/// From when on the machine is short of memory. Left again at half of a share of waiting, and one
/// and a half times of what must be available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tight when some task waits this share of the time, permille.
    pub tight_some_permille: u64,
    /// Tight when all tasks wait this share of the time, permille.
    pub tight_full_permille: u64,
    /// Critical when all tasks wait this share of the time, permille.
    pub critical_full_permille: u64,
    /// Tight when less than this share of RAM is available, permille.
    pub tight_available_permille: u64,
    /// Critical when less than this share of RAM is available, permille.
    pub critical_available_permille: u64,
    /// Share of the pool to demote each second while it is tight, permille; double while critical.
    pub demote_permille_per_second: u64,
}

/// The pressure with hysteresis: it gets worse at once, and better only when the reason is gone by
/// a distance.
#[derive(Clone, Debug)]
pub struct Gauge {
    limits: Limits,
    pressure: Pressure,
}

impl Gauge {
    /// A gauge that starts calm.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, pressure: Pressure::Calm }
    }

    /// Other limits, the same state.
    pub const fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The pressure now that the machine is like this.
    pub fn pressure(&mut self, machine: &Machine) -> Pressure {
        let enter = self.at(machine, 2, 2);
        let stay = self.at(machine, 1, 3);
        self.pressure = self.pressure.clamp(enter, stay);
        self.pressure
    }

    /// With limits on waiting and on what is available taken so many halves.
    fn at(&self, machine: &Machine, waiting: u64, available: u64) -> Pressure {
        let limits = &self.limits;
        let over = |share: u16, limit: u64| 2 * u64::from(share) >= limit * waiting;
        let below = |limit: u64| {
            let least = permille(machine.total_bytes, limit) as u128 * u128::from(available) / 2;
            machine.total_bytes > 0 && u128::from(machine.available_bytes) < least
        };
        if over(machine.full_permille, limits.critical_full_permille)
            || below(limits.critical_available_permille)
        {
            Pressure::Critical
        } else if over(machine.full_permille, limits.tight_full_permille)
            || over(machine.some_permille, limits.tight_some_permille)
            || below(limits.tight_available_permille)
        {
            Pressure::Tight
        } else {
            Pressure::Calm
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        tight_some_permille: 300,
        tight_full_permille: 50,
        critical_full_permille: 200,
        tight_available_permille: 60,
        critical_available_permille: 20,
        demote_permille_per_second: 10,
    };

    #[test]
    fn pressure_comes_at_once_and_goes_by_a_distance() {
        let mut gauge = Gauge::new(LIMITS);
        let mut at = |available_bytes, some_permille, full_permille| {
            let total_bytes = 1000;
            let machine = Machine { total_bytes, available_bytes, some_permille, full_permille };
            gauge.pressure(&machine)
        };
        assert_eq!(at(1000, 299, 49), Pressure::Calm);
        assert_eq!(at(1000, 0, 200), Pressure::Critical);
        assert_eq!(at(1000, 0, 101), Pressure::Critical);
        assert_eq!(at(1000, 0, 99), Pressure::Tight);
        assert_eq!(at(1000, 0, 26), Pressure::Tight);
        assert_eq!(at(1000, 0, 24), Pressure::Calm);
        assert_eq!(at(59, 0, 0), Pressure::Tight);
        assert_eq!(at(89, 0, 0), Pressure::Tight);
        assert_eq!(at(90, 0, 0), Pressure::Calm);
        assert_eq!(at(19, 0, 0), Pressure::Critical);
        assert_eq!(at(30, 0, 0), Pressure::Tight);
        assert_eq!(at(1000, 300, 0), Pressure::Tight);
        assert_eq!(at(1000, 149, 0), Pressure::Calm);
    }

    #[test]
    fn an_unknown_machine_is_calm() {
        assert_eq!(Gauge::new(LIMITS).pressure(&Machine::default()), Pressure::Calm);
    }
}
