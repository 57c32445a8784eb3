//! Promises that a real registry cannot be made to test: a scripted upstream lies, stalls, cuts and rations on demand, and
//! the real application answers over real sockets.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::float_cmp,
    clippy::unused_self,
    clippy::type_complexity,
    reason = "a test crate"
)]

mod support;

mod access;
mod blobs;
mod blocks;
mod carry;
mod clouds;
mod eviction;
mod facts;
mod looking;
mod manifests;
mod operations;
mod outages;
mod page;
mod security;
mod storage;
mod structure;
