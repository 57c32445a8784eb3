//! Checks tags with their registries now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;

use crate::index::{OwnedKey, PinRoot, PinRoots};
use crate::jobs::{JobOutcome, Refused};
use crate::mirror::{self, Mirror, Target};
use crate::oci::{Digest, PinPattern, Tag};
use crate::quote::quoted;

/// Tags that are checked at one time.
const AT_ONCE: usize = 8;
/// Tags of one call, and how long it works: so that its client hears of it.
const MOST: usize = 200;
const LONGEST: Duration = Duration::from_secs(20);
/// Rows read at one time.
const STEP: usize = 500;

/// What one call has checked.
#[derive(Debug, Serialize)]
pub struct Refreshed {
    pub items: Vec<RefreshItem>,
    pub failed: usize,
    /// `after` of the call that goes on.
    pub next: Option<String>,
}

/// One tag.
#[derive(Debug, Serialize)]
pub struct RefreshItem {
    pub item: String,
    /// `done`: it points somewhere else now. `held`: it points where it pointed.
    pub outcome: JobOutcome,
    /// Bytes of its manifest.
    pub bytes: u64,
    pub problem: Option<String>,
    pub digest: Option<Digest>,
}

/// Checks the held tags that globs name: over registry/repository, or registry/repository:tag.
/// With `takes_young`, `min_age` holds none of them back.
pub async fn refresh(
    mirror: &Arc<Mirror>,
    globs: &[String],
    after: Option<&str>,
    takes_young: bool,
) -> Result<Refreshed, Refused> {
    if globs.is_empty() {
        return Err(Refused::invalid("no glob is given, as in \"docker.io/library/*:*\""));
    }
    let read = |glob: &String| mirror.pin(glob).map_err(|err| Refused::invalid(format!("{}: {err}", quoted(glob))));
    let globs = globs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let wrong = |_err| Refused::invalid("after: it is not what `next` of a call says");
    let mut after: Option<OwnedKey> = after.map(serde_json::from_str).transpose().map_err(wrong)?;
    let (began, mut items) = (Instant::now(), Vec::new());
    loop {
        let (roots, next) = mirror.cache().index.pin_roots(PinRoots::Tags, after, STEP).await?;
        let mut wanted = roots.into_iter().filter_map(|root| wanted(&globs, root)).peekable();
        while wanted.peek().is_some() {
            let some: Vec<(PinRoot, Tag)> = wanted.by_ref().take(AT_ONCE).collect();
            let last = some.last().map(|(root, tag)| key(root, tag));
            let checks = some.into_iter().map(|(root, tag)| check(mirror, root, tag, takes_young));
            items.extend(stream::iter(checks).buffered(AT_ONCE).collect::<Vec<_>>().await);
            if items.len() >= MOST || began.elapsed() >= LONGEST {
                let next = last.and_then(|key| serde_json::to_string(&key).ok());
                return Ok(done(items, next));
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(done(items, None)),
        }
    }
}

fn done(items: Vec<RefreshItem>, next: Option<String>) -> Refreshed {
    let is_well = |item: &&RefreshItem| matches!(item.outcome, JobOutcome::Done | JobOutcome::Held);
    let failed = items.len() - items.iter().filter(is_well).count();
    Refreshed { items, failed, next }
}

fn wanted(globs: &[PinPattern], root: PinRoot) -> Option<(PinRoot, Tag)> {
    let tag: Tag = root.tag.as_ref()?.parse().ok()?;
    let (authority, repository) = (&root.scope.authority, &root.scope.repository);
    let is_named = globs.iter().any(|glob| glob.matches(authority, repository, Some(tag.as_str())));
    is_named.then_some((root, tag))
}

/// The key behind a tag's own.
fn key(root: &PinRoot, tag: &Tag) -> OwnedKey {
    let scope = &root.scope;
    (scope.domain, scope.authority.to_string(), scope.repository.to_string(), format!("{tag}\u{0}"))
}

async fn check(mirror: &Arc<Mirror>, root: PinRoot, tag: Tag, takes_young: bool) -> RefreshItem {
    let PinRoot { scope, manifest: before, .. } = root;
    let item = format!("{}/{}:{tag}", scope.authority, scope.repository);
    let target = Target { authority: scope.authority, repository: scope.repository, via: None };
    match mirror.refresh(&target, &tag, takes_young).await {
        Ok(answer) => {
            let (digest, bytes) = (Some(answer.digest), answer.bytes.len() as u64);
            let held_back = answer.provenance.held_back.map(|newer| format!("`min_age` holds back {newer}"));
            let is_stale = answer.provenance.stale_because.is_some();
            let problem = answer.provenance.stale_because.or(held_back);
            let outcome = match (&problem, answer.provenance.outcome) {
                (Some(_), _) if is_stale => JobOutcome::Failed,
                (Some(_), _) | (None, mirror::Outcome::Pinned) => JobOutcome::Held,
                (None, _) if answer.digest == before => JobOutcome::Held,
                (None, _) => JobOutcome::Done,
            };
            RefreshItem { item, outcome, bytes, problem, digest }
        }
        Err(err) => {
            let outcome = if err.is_not_found() { JobOutcome::Missing } else { JobOutcome::Failed };
            RefreshItem { item, outcome, bytes: 0, problem: Some(err.to_string()), digest: None }
        }
    }
}
