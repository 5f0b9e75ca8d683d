//! Everything that parses, against any bytes. `cargo test` gives each fuzzer its corpus and what
//! comes of it by cutting, flipping and joining; `cargo xtask fuzz` lets libFuzzer look for more.
//!
//! A fuzzer is a function of bytes that panics when something is wrong: `targets`. What libFuzzer
//! finds goes to `corpus/NAME`, is mended, and stays there.
//!
//! Found by it so far: a damaged word about a segment made the cleaner read past its buffer, which
//! ended every server that took over; a control page with numbers that no ticket ever has was
//! believed; a section's name in a file of zram-generator made a file that is not TOML.

#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../simulation/disk.rs"]
mod disk;
#[path = "../simulation/harm.rs"]
mod harm;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../simulation/machine.rs"]
mod machine;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../simulation/memory.rs"]
mod memory;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../simulation/model.rs"]
mod model;
#[path = "../simulation/random.rs"]
mod random;
#[allow(dead_code, reason = "some of the simulation is for its own tests")]
#[path = "../simulation/step.rs"]
mod step;
mod targets;

use random::Random;
use std::fs;
use std::path::Path;

/// Changed inputs for each fuzzer and entry of its corpus.
const CHANGED: u64 = 20;
/// All of a corpus: it is kept small.
const CORPUS_BYTES_MAX: u64 = 64 << 10;

/// The entries of a corpus, by name.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// Something like `bytes`.
fn changed(random: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.below(256) as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {
                let from = random.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn no_fuzzer_finds_anything_in_its_corpus_or_near_it() {
    for (name, fuzzer) in targets::ALL {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let bytes: usize = inputs.iter().map(Vec::len).sum();
        assert!(bytes as u64 <= CORPUS_BYTES_MAX, "{name}: a corpus of {bytes} bytes");
        let mut random = Random::new(bytes as u64);
        for input in &inputs {
            fuzzer(input);
            for _ in 0..CHANGED {
                let other = &inputs[random.below(inputs.len() as u64) as usize];
                fuzzer(&changed(&mut random, input, other));
            }
        }
        println!("{name}: {} entries, {bytes} bytes", inputs.len());
    }
}
