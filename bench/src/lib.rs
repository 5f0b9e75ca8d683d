//! Shared parts of uswap's measuring programs.

use std::process::ExitCode;
use uswap::error::StartResult;
use uswap::store::{Store, StoreCodec};
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::units::PAGE_SIZE;

pub mod corpus;
pub mod made;
pub mod screens;
pub mod stamped;
pub mod statistics;
pub mod swap;
pub mod synthetic;
#[allow(unsafe_code)]
pub mod sys;
pub mod workload;
pub mod zsmalloc;

/// How a program ends: its exit code, after an error has been told in a line.
pub fn exit(name: &str, result: StartResult<()>) -> ExitCode {
    result.map_or_else(
        |e| {
            eprintln!("{name}: {e}");
            ExitCode::from(e.exit_code())
        },
        |()| ExitCode::SUCCESS,
    )
}

/// A store in shmem, as the service's is, with room for `pages` pages of any program's memory.
/// Panics if there is too little memory.
pub fn store(slots: usize, pages: usize, codec: StoreCodec) -> Store {
    let file = |bytes: usize| anonymous_file("bench", bytes as u64).expect("memory");
    let table = Words::new(&file(slots * 8), slots).expect("memory for the table");
    let bytes = (pages * PAGE_SIZE * 9 / 8).next_multiple_of(1 << 20) + (16 << 20);
    Store::new(table, Arena::new(&file(bytes), bytes).expect("memory for the pool"), codec)
}
