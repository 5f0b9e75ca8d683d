//! The swap path, measured from the side of a program whose memory is swapped.
//!
//! `swapbench` runs one round on one swap area inside a guest and prints one [`result::Round`];
//! `swapreport` reads all rounds of a boot on the host and makes tables, JSON and plots of them.

pub mod cgroup;
pub mod counters;
pub mod draw;
pub mod phases;
pub mod random;
pub mod report;
pub mod result;
pub mod table;
