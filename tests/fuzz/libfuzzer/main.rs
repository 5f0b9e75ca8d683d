//! One fuzzer under libFuzzer: `USWAP_FUZZER` names it. Started by `cargo xtask fuzz`.
#![no_main]

#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../../simulation/disk.rs"]
mod disk;
#[path = "../../simulation/harm.rs"]
mod harm;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../../simulation/machine.rs"]
mod machine;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../../simulation/memory.rs"]
mod memory;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../../simulation/model.rs"]
mod model;
#[path = "../../simulation/random.rs"]
mod random;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../../simulation/step.rs"]
mod step;
#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

fn fuzzer() -> targets::Fuzzer {
    static FUZZER: OnceLock<targets::Fuzzer> = OnceLock::new();
    *FUZZER.get_or_init(|| {
        let name = std::env::var("USWAP_FUZZER").unwrap_or_default();
        let found = targets::ALL.iter().find(|(known, _)| *known == name);
        found.expect("USWAP_FUZZER names a fuzzer").1
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzer()(data));
