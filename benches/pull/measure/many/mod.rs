//! What many clients at one time cost.

mod fill;
mod idle;
mod overload;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Bench;
use crate::report::Figure;

/// Between two looks at `/livez`.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) async fn measure(bench: &Bench) -> Vec<Figure> {
    // Roadstead inherits it.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a process may use what it is allowed");
    let mut figures = idle::measure(bench).await;
    figures.extend(fill::measure(bench).await);
    figures.extend(overload::measure(bench).await);
    figures
}
