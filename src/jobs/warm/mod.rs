//! Warm: what is named is pulled before anybody asks for it, through the engine that answers pulls, with its limits.
//!
//! Names and selectors become references ([`select`]); each is pulled with all that it lists ([`pull`]). Where a registry
//! limits pulls or cannot be reached, the job says so, waits, and goes on.

mod pull;
pub mod schedule;
pub mod select;
mod version;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::export::held::WantedPlatforms;
use super::job::{Jobs, RunningJob};
use super::job_report::{JobItem, JobOutcome, JobState};
use crate::mirror::Mirror;
use crate::quote::quoted;

use pull::Puller;

/// Most images of one job.
const MAX_IMAGES: usize = 100_000;
/// Images that are worked on at one time.
const AT_ONCE: usize = 4;

/// What is to be pulled. Written down, so that a job goes on after the process died.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmRequest {
    /// Names of images, and selectors of tags.
    pub references: Vec<String>,
    /// As in `linux/amd64`; `all` and nothing stand for all.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Also what refers to the images: signatures, SBOMs, attestations.
    #[serde(default)]
    pub referrers: bool,
}

/// Pulls what is named, and ends the job.
pub(super) async fn warm(mirror: &Arc<Mirror>, jobs: &Jobs, job: &Arc<RunningJob>, request: WarmRequest) {
    let problem = match WantedPlatforms::parse(&request.platforms) {
        Ok(platforms) => run(mirror, job, &request, platforms).await.err(),
        Err(why) => Some(format!("platforms: {why}")),
    };
    let (state, problem) = match (problem, job.is_cancelled()) {
        (_, true) => (JobState::Stopped, Some("it was cancelled".to_owned())),
        (Some(problem), false) => (JobState::Failed, Some(problem)),
        (None, false) => (JobState::Done, None),
    };
    job.end(state, jobs.clock().now(), problem);
}

async fn run(
    mirror: &Arc<Mirror>,
    job: &Arc<RunningJob>,
    request: &WarmRequest,
    platforms: WantedPlatforms,
) -> Result<(), String> {
    let puller = Puller::new(mirror, job, platforms, request.referrers);
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for text in &request.references {
        if job.is_cancelled() {
            return Ok(());
        }
        match select::resolve(&puller, text).await {
            Ok(found) => names.extend(found.into_iter().filter(|name| seen.insert(name.clone()))),
            Err((outcome, why)) => job.add(JobItem::new(quoted(text), outcome, 0).because(why)),
        }
        if names.len() > MAX_IMAGES {
            return Err(format!("more than {MAX_IMAGES} images are named"));
        }
    }
    job.expect_items(names.len() + usize::try_from(job.report().items).unwrap_or_default());
    let pulls = stream::iter(names).map(|name| {
        let puller = puller.clone();
        async move { (name.clone(), puller.pull(&name).await) }
    });
    let mut pulls = std::pin::pin!(pulls.buffer_unordered(AT_ONCE));
    loop {
        let next = tokio::select! {
            next = pulls.next() => next,
            () = job.cancelled() => return Ok(()),
        };
        let Some((name, outcome)) = next else { return Ok(()) };
        job.add(match outcome {
            Ok(image) => {
                let outcome = if image.has_fetched { JobOutcome::Done } else { JobOutcome::Held };
                JobItem::new(name, outcome, image.bytes)
            }
            Err((outcome, why)) => JobItem::new(name, outcome, 0).because(why),
        });
    }
}
