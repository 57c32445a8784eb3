//! Fuzz targets for everything that strangers write: clients' requests, upstreams' headers and bodies, and the
//! configuration file. Each has properties, not only "does not panic".
//!
//! `cargo test --test fuzz` runs each for a few seconds. For longer, or once more with the seed that a failure printed:
//!
//! ```sh
//! ARBTEST_BUDGET_MS=600000 cargo test --release --test fuzz -- --test-threads=1
//! ARBTEST_SEED=0xa88e234400000020 cargo test --test fuzz range
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test crate"
)]

mod bundles;
mod challenge;
mod config;
mod facts;
mod keys;
mod link;
mod lists;
mod manifest;
mod memory;
mod names;
mod range;
mod route;
mod text;
mod token;

use std::time::Duration;

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;

/// Time for each target, where `ARBTEST_BUDGET_MS` does not say otherwise.
const BUDGET: Duration = Duration::from_secs(2);

/// Runs a property on random input until its time is over. A failure prints its seed.
fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let run = arbtest(property).size_max(8 * 1024);
    if std::env::var_os("ARBTEST_BUDGET_MS").is_some() { run.run() } else { run.budget(BUDGET).run() }
}
