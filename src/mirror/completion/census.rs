//! The census: which images are held whole, for the operator, and which the background has still to look at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pull::Pull;
use super::queue::CompletionQueue;
use super::report::{ImagesReport, IncompleteImage};
use super::work::MAX_LISTED;
use crate::index::{ImageFacts, images};
use crate::metrics::ByImages;
use crate::mirror::Mirror;
use crate::mirror::policy::Complete;
use crate::oci::Digest;

/// Manifests that are read at one time.
const STEP: usize = 500;
/// From one census to the next where nothing has changed.
const LONGEST_PAUSE: Duration = Duration::from_mins(30);
/// A census takes at most this part of the time: one in so many.
const SHARE: u32 = 50;
/// Incomplete images that are named, and blobs of each.
const MAX_NAMED: usize = 20;
const MAX_NAMED_BLOBS: usize = 3;

/// Takes a census soon after the start, and then as things change, until the mirror stops.
pub(in crate::mirror) async fn run_census(mirror: Arc<Mirror>) {
    let queue = &mirror.completion;
    let work = async {
        tokio::time::sleep(queue.times.head_start).await;
        let mut last = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            let is_due = |last: Instant| last.elapsed() >= pause;
            let is_changed = std::mem::take(&mut queue.state().is_changed);
            if pause.is_zero() || (is_changed && is_due(last)) || last.elapsed() >= LONGEST_PAUSE {
                let began = Instant::now();
                take_census(&mirror).await;
                last = Instant::now();
                pause = queue.times.census.max(began.elapsed() * SHARE);
            } else if is_changed {
                queue.state().is_changed = true;
            }
            tokio::time::sleep(queue.times.census).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = mirror.cache.context.stopping.cancelled() => {}
    }
}

async fn take_census(mirror: &Arc<Mirror>) {
    let mut census = Census::default();
    let mut after = None;
    loop {
        // The index has logged a failure; the last report stands.
        let Ok((found, next)) = images(&mirror.cache.index, after, STEP).await else { return };
        for image in found {
            census.add(mirror, &image);
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
        tokio::task::yield_now().await;
    }
    let family = &mirror.cache.context.metrics.images;
    for (authority, (whole, incomplete)) in census.by_label {
        for (state, count) in [("whole", whole), ("incomplete", incomplete)] {
            let labels = ByImages { authority: authority.clone(), state };
            family.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    mirror.completion.state().report = Some(census.report);
}

#[derive(Default)]
struct Census {
    report: ImagesReport,
    by_label: BTreeMap<String, (u64, u64)>,
}

impl Census {
    fn add(&mut self, mirror: &Mirror, image: &ImageFacts) {
        let counts = self.by_label.entry(mirror.label(&image.scope.authority)).or_default();
        if image.lacking.is_empty() {
            counts.0 += 1;
            self.report.whole += 1;
            return;
        }
        counts.1 += 1;
        self.report.incomplete += 1;
        if self.report.examples.len() < MAX_NAMED {
            self.report.examples.push(IncompleteImage {
                authority: image.scope.authority.clone(),
                repository: image.scope.repository.clone(),
                digest: image.manifest,
                missing: image.lacking.iter().filter(|held| !held.is_stored).count(),
                unproven: image.lacking.iter().filter(|held| held.is_stored).count(),
                blobs: image.lacking.iter().map(|held| held.digest).take(MAX_NAMED_BLOBS).collect(),
            });
        }
        mirror.completion.found(mirror, image);
    }
}

impl CompletionQueue {
    /// An image that lacks blobs: looked at, if there is something to do.
    fn found(&self, mirror: &Mirror, image: &ImageFacts) {
        let ImageFacts { scope, manifest, lacking } = image;
        let is_given_up = |digest| self.given_up.contains_key(&(scope.clone(), digest));
        let subject = (scope.clone(), *manifest);
        let is_provable = lacking.iter().any(|held| held.is_stored && !is_given_up(held.digest));
        let is_settled = self.settled.contains_key(&subject);
        let is_fetched = || {
            let registry = mirror.registries.get(&scope.authority);
            registry.is_some_and(|r| r.policy.completion_of(&scope.repository).complete != Complete::Off)
        };
        if is_provable || (!is_settled && is_fetched()) {
            self.push(scope, *manifest, Duration::ZERO, Pull::of_blobs());
        } else {
            let missing: Vec<Digest> =
                lacking.iter().filter(|h| !h.is_stored).map(|h| h.digest).take(MAX_LISTED).collect();
            self.lacks(&subject, &missing);
        }
    }
}
