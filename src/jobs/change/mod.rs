//! Changes of what is held, by an operator. What they did is told for each item; the same change again does no harm.

mod alias;
pub(super) mod blocks;
mod gc;
mod moved;
pub(super) mod pins;
mod refresh;
mod remove;

use std::sync::Arc;

pub use alias::{Aliased, alias};
pub use gc::collect;
pub use moved::{MovedItem, moved};
pub use refresh::{Refresh, Refreshed, refresh};
pub use remove::{Removal, Removed, remove};

use super::Refused;
use super::job::RunningJob;
use super::job_report::JobKind;
use crate::cache::retention::Gc;
use crate::mirror::Mirror;

/// A change that may take long, as a job.
#[derive(Debug, Clone)]
pub enum LongChange {
    Refresh(Refresh),
    Remove(Vec<String>, Removal),
    Gc(Gc),
}

impl LongChange {
    pub(super) const fn kind(&self) -> JobKind {
        match self {
            Self::Refresh(_) => JobKind::Refresh,
            Self::Remove(..) => JobKind::Remove,
            Self::Gc(_) => JobKind::Gc,
        }
    }

    /// Works until all is done, or the job is cancelled.
    pub(super) async fn run(&self, mirror: &Arc<Mirror>, job: &RunningJob) -> Result<(), Refused> {
        match self {
            Self::Refresh(which) => refresh::refresh_all(mirror, job, which).await?,
            Self::Remove(names, how) => remove::remove_all(mirror, job, names, *how).await,
            Self::Gc(gc) => gc::collect_all(mirror, job, *gc).await,
        }
        Ok(())
    }
}
