//! Shared parts of uswap's measuring programs.

pub mod corpus;
