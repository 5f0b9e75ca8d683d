//! The grid: every combination of policies and sizes.

use super::source::Recording;
use crate::config::{policy, size};
use crate::error::{StartError, StartResult};
use crate::limits::{POOL_BYTES_MAX, POOL_BYTES_MIN, SPILL_BYTES_MAX, SPILL_BYTES_MIN};
use crate::simulate::Setup;
use clap::{Args, ValueEnum};
use std::path::Path;
use std::sync::Arc;
use uswap_policy::Policy;

/// MiB a second that the spill is written with where nobody says otherwise: what was measured on a
/// virtio disk (bench/NOTES.md, "Spill").
const SPILL_MIB_S: f64 = 1400.0;

#[derive(Args, Debug)]
pub struct Lists {
    /// Presets, victim policies, PRESET/VICTIM, or files
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policy: Vec<String>,
    /// Sizes of the pool
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size::parse)]
    pool: Vec<u64>,
    /// Sizes of the spill; 0 for none
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size::parse)]
    spill_size: Vec<u64>,
    /// MiB a second that the spill's disk takes [default: 1400]
    #[arg(long, value_name = "RATES", value_delimiter = ',', value_parser = rate)]
    spill_mib_s: Vec<f64>,
    /// Whether pages may be made denser [default: on]
    #[arg(long, value_name = "on|off", value_delimiter = ',', hide_possible_values = true)]
    dense: Vec<Switch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.001);
    rate.ok_or_else(|| format!("\"{text}\" is not a rate; give MiB a second, such as 500"))
}

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    pub policy: Arc<policy::PolicyChoice>,
    pub dense: bool,
    pub setup: Setup,
}

/// Replays that a recording is compared with. Where the policy's hand was when it began is not
/// recorded, and which pages become dense or leave depends on it.
pub const HANDS: usize = 8;

/// The same run from hands that are spread evenly over `slots`.
pub fn from_hands(case: &Case, slots: usize) -> impl Iterator<Item = Case> {
    let from = move |hand: usize| Setup { hand: hand * slots / HANDS, ..case.setup };
    (0..HANDS).map(move |hand| Case { setup: from(hand), ..case.clone() })
}

/// The policy of a run.
pub fn policy_of(case: &Case) -> StartResult<Policy> {
    let policy = case.policy.policy_with(|settings| {
        if !case.dense {
            settings.recompress.pages_per_second = 0;
        }
    });
    policy.map_err(|e| StartError::usage(format!("{}: {}", e.key, e.what), e.remedy))
}

/// What there is to say of scripts that were given up in some run, each once.
pub fn given_up(cases: &[Case]) -> Vec<String> {
    let mut policies: Vec<_> = cases.iter().map(|case| &case.policy).collect();
    policies.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let scripts = policies.into_iter().filter_map(|policy| policy.script.as_ref());
    let told = |(base, why): (&str, &str)| {
        format!("policy script given up: {why}; from that step on the {base} preset decided")
    };
    scripts.filter_map(|script| Some((script.base(), script.broken()?))).map(told).collect()
}

/// What was given, or what the recorded service had.
fn or_own<T: Clone>(given: &[T], own: Option<T>, flag: &str) -> StartResult<Vec<T>> {
    match (given, own) {
        ([], Some(own)) => Ok(vec![own]),
        ([], None) => Err(StartError::usage(
            format!("the recording does not say which {flag} its service had"),
            format!("give --{flag}"),
        )),
        _ => Ok(given.to_vec()),
    }
}

fn within(flag: &str, bytes: u64, least: u64, most: u64) -> StartResult<()> {
    let (what, limit) = match bytes {
        _ if bytes < least => ("too small", format!("use at least {}", size::format(least))),
        _ if bytes > most => ("too large", format!("use at most {}", size::format(most))),
        _ => return Ok(()),
    };
    Err(StartError::usage(format!("{flag}: {} is {what}", size::format(bytes)), limit))
}

impl Lists {
    /// All combinations. `template`: what is the same in all of them.
    pub fn cases(
        &self,
        root: &Path,
        recording: &Recording,
        template: &Setup,
    ) -> StartResult<Vec<Case>> {
        let names = or_own(&self.policy, recording.policy.clone(), "policy")?;
        let choices: Vec<_> = names
            .iter()
            .map(|name| policy::named(root, name).map(Arc::new))
            .collect::<StartResult<_>>()?;
        let own = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0);
        let pools = or_own(&self.pool, own(recording.pool_bytes), "pool")?;
        let spills = or_own(&self.spill_size, recording.spill_bytes, "spill-size")?;
        let rates = or_own(&self.spill_mib_s, Some(SPILL_MIB_S), "spill-mib-s")?;
        let dense = or_own(&self.dense, Some(Switch::On), "dense")?;
        for bytes in &pools {
            within("pool", *bytes, POOL_BYTES_MIN, POOL_BYTES_MAX)?;
        }
        for bytes in spills.iter().filter(|bytes| **bytes > 0) {
            within("spill-size", *bytes, SPILL_BYTES_MIN, SPILL_BYTES_MAX)?;
        }
        let mut cases = Vec::new();
        for policy in &choices {
            for &pool_bytes in &pools {
                for &spill_bytes in &spills {
                    for &spill_mib_per_second in &rates {
                        for dense in &dense {
                            let setup = Setup {
                                pool_bytes,
                                spill_bytes,
                                spill_mib_per_second,
                                ..*template
                            };
                            let dense = *dense == Switch::On;
                            cases.push(Case { policy: policy.clone(), dense, setup });
                        }
                    }
                }
            }
        }
        Ok(cases)
    }
}
