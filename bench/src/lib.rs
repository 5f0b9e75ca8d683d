//! Shared parts of uswap's measuring programs.
