//! Carry and look: what commands of operators cost.

mod bundles;
mod far;
mod held;
mod look;

use std::process::Command;
use std::time::{Duration, Instant};

use super::Bench;
use crate::report::Figure;

pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    let mut figures = Box::pin(look::measure(bench)).await;
    figures.extend(Box::pin(bundles::measure(bench)).await);
    figures.extend(Box::pin(far::measure(bench)).await);
    figures
}

/// Runs a command to its end, which must be a good one: how long it took, and what it printed.
fn timed(command: &mut Command) -> (Duration, String) {
    let begun = Instant::now();
    let output = tokio::task::block_in_place(|| command.output()).expect("a program that was found can be started");
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}: {said}", output.status);
    (took, String::from_utf8_lossy(&output.stdout).into_owned())
}
