//! The kernel's face, and the only module that may say `unsafe`.
//!
//! Rule for adding to it: what goes in here is a thing the kernel or the hardware shares with us
//! (mappings, rings, process attributes), with an interface that safe code cannot misuse.
//! Everything that decides stays outside.

pub mod buffers;
pub mod cache;
pub mod clock;
pub mod confine;
pub mod file_op;
pub mod guard;
pub mod heap;
pub mod lockfile;
pub mod map;
pub mod process;
pub mod region;
pub mod resident;
pub mod secret;
pub mod spill;
pub mod spill_ring;
pub mod statefs;
pub mod ublk_abi;
pub mod uring;
pub mod wake;
pub mod zdict;

/// Errno values that code above this level tells apart.
pub mod errno {
    pub use libc::{EACCES, EBUSY, EEXIST, EINVAL, EIO, ENODEV, ENOMEM, ENOSYS, EPERM};
}
