//! uswap: a userspace swap device service on Linux ublk.
//!
//! Layers, top to bottom; a module imports only from rows below its own (`tests/tidy.rs` holds
//! this):
//!
//! | level | modules | what they know |
//! |---|---|---|
//! | 6 | `cli` | words people type |
//! | 5 | `daemon`, `experiment` | threads and life cycle; comparing runs |
//! | 4 | `config`, `metrics`, `simulate` | settings; what monitoring sees; what would be |
//! | 3 | `store` | the joined mechanism: one file per verb |
//! | 2 | `ublk`, `codec`, `pool`, `spill`, `table` | transport; codecs; slabs; segments; slots |
//! | 2 | `script`, `trace` | policies that people write; what happened |
//! | 1 | `sys` | the kernel, and all the `unsafe` there is |
//! | 0 | `units`, `limits`, `error`, `stats` | words and numbers everybody uses |
//! | 0 | `chaos` | crash points and planted bugs, in tests only |

pub mod chaos;
pub mod cli;
pub mod codec;
pub mod config;
pub mod daemon;
pub mod error;
pub mod experiment;
pub mod limits;
pub mod metrics;
pub mod pool;
pub mod script;
pub mod simulate;
pub mod spill;
pub mod stats;
pub mod store;
#[allow(unsafe_code)]
pub mod sys;
pub mod table;
pub mod trace;
pub mod ublk;
pub mod units;
