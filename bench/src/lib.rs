//! Shared parts of uswap's measuring programs.

pub mod corpus;
pub mod made;
pub mod stamped;
pub mod swap;
#[allow(unsafe_code)]
pub mod sys;
