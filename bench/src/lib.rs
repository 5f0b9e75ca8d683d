//! Shared parts of uswap's measuring programs.

pub mod corpus;
pub mod stamped;
pub mod swap;
