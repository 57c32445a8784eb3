//! Lists of images that the configuration names: how much of each would survive an outage, as a metric.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::coverage::coverage;
use crate::jobs::JobOutcome;
use crate::jobs::named_images::images_in_file;
use crate::metrics::ByCoverage;
use crate::mirror::Mirror;
use crate::oci::Platform;

/// From one look to the next.
const PAUSE: Duration = Duration::from_mins(1);
/// A look takes at most this part of the time: one in so many.
const SHARE: u32 = 50;
/// Images of one look into the index: other work goes on in between.
const STEP: usize = 100;

/// `[[coverage]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageList {
    /// The label of its metric.
    pub name: String,
    pub images: Vec<String>,
    /// A file with more names, read again at each look.
    pub file: Option<PathBuf>,
    pub platforms: Vec<Platform>,
}

/// Looks at each list now and then, until the mirror stops.
pub async fn run_coverage(mirror: Arc<Mirror>, lists: Vec<CoverageList>) {
    if lists.is_empty() {
        return;
    }
    let work = async {
        loop {
            let began = std::time::Instant::now();
            for list in &lists {
                look(&mirror, list).await;
            }
            tokio::time::sleep(PAUSE.max(began.elapsed() * SHARE)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = mirror.cache().context.stopping.cancelled() => {}
    }
}

async fn look(mirror: &Arc<Mirror>, list: &CoverageList) {
    let mut images = list.images.clone();
    if let Some(file) = &list.file {
        match images_in_file(file.clone()).await {
            Ok(more) => images.extend(more),
            Err(err) => {
                tracing::warn!(list = list.name, file = %file.display(), error = %err,
                    "a list of images cannot be read; its coverage is what it was");
                return;
            }
        }
    }
    let (mut held, mut missing) = (0, 0);
    for some in images.chunks(STEP) {
        for item in coverage(mirror, some, &list.platforms).await.items {
            if item.outcome == JobOutcome::Held { held += 1 } else { missing += 1 }
        }
        tokio::task::yield_now().await;
    }
    let family = &mirror.cache().context.metrics.coverage;
    for (outcome, count) in [("held", held), ("missing", missing)] {
        family.get_or_create(&ByCoverage { list: list.name.clone(), outcome }).set(count);
    }
}
