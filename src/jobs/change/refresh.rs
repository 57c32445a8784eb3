//! Checks tags with their registries now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;

use super::pins::read_pattern;
use crate::index::{OwnedKey, PinRoot, PinRoots, Scope};
use crate::jobs::job::RunningJob;
use crate::jobs::{ItemDetails, JobItem, JobOutcome, Refused};
use crate::mirror::{self, Mirror, Target};
use crate::oci::{ImageName, PinPattern, Tag};

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
    pub items: Vec<JobItem>,
    pub failed: usize,
    /// `after` of the call that goes on.
    pub next: Option<String>,
}

/// How far one look at the tags goes.
#[derive(Clone, Copy)]
struct Bounds {
    tags: usize,
    until: Option<Instant>,
}

/// Which tags to check, and how.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// Over registry/repository, or registry/repository:tag.
    globs: Vec<PinPattern>,
    /// `min_age` holds none of them back.
    takes_young: bool,
}

impl Refresh {
    pub fn read(mirror: &Mirror, globs: &[String], takes_young: bool) -> Result<Self, Refused> {
        if globs.is_empty() {
            return Err(Refused::invalid("no glob is given, as in \"docker.io/library/*:*\""));
        }
        let globs = globs.iter().map(|glob| read_pattern(mirror, glob)).collect::<Result<_, _>>()?;
        Ok(Self { globs, takes_young })
    }
}

/// Checks the held tags that globs name, for some seconds at most. `after` is `next` of the call before.
pub async fn refresh(mirror: &Arc<Mirror>, which: &Refresh, after: Option<&str>) -> Result<Refreshed, Refused> {
    let after = after.map(read_cursor).transpose()?;
    let mut items = Vec::new();
    let bounds = Bounds { tags: MOST, until: Some(Instant::now() + LONGEST) };
    let next = check_tags(mirror, which, after, bounds, |item| items.push(item)).await?;
    let failed = items.iter().filter(|item| item.is_failed()).count();
    Ok(Refreshed { items, failed, next })
}

/// Checks all held tags that globs name, unless the job is cancelled. A check that has begun goes on for others who ask.
pub(super) async fn refresh_all(mirror: &Arc<Mirror>, job: &RunningJob, which: &Refresh) -> Result<(), Refused> {
    let bounds = Bounds { tags: usize::MAX, until: None };
    tokio::select! {
        checked = check_tags(mirror, which, None, bounds, |item| job.add(item)) => checked.map(drop),
        () = job.cancelled() => Ok(()),
    }
}

/// Checks tags behind `after`, and says where to go on.
async fn check_tags(
    mirror: &Arc<Mirror>,
    which: &Refresh,
    mut after: Option<OwnedKey>,
    bounds: Bounds,
    mut each: impl FnMut(JobItem),
) -> Result<Option<String>, Refused> {
    let mut count = 0;
    loop {
        let (roots, next) = mirror.cache().index.pin_roots(PinRoots::Tags, after, STEP).await?;
        let mut wanted = roots.into_iter().filter_map(|root| wanted(&which.globs, root)).peekable();
        while wanted.peek().is_some() {
            let some: Vec<(PinRoot, Tag)> = wanted.by_ref().take(AT_ONCE).collect();
            let last = some.last().map(|(root, tag)| name(&root.scope, tag));
            let checks = some.into_iter().map(|(root, tag)| check(mirror, root, tag, which.takes_young));
            let mut checks = std::pin::pin!(stream::iter(checks).buffered(AT_ONCE));
            while let Some(item) = checks.next().await {
                count += 1;
                each(item);
            }
            if count >= bounds.tags || bounds.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(last);
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(None),
        }
    }
}

fn wanted(globs: &[PinPattern], root: PinRoot) -> Option<(PinRoot, Tag)> {
    let tag: Tag = root.tag.as_ref()?.parse().ok()?;
    let (authority, repository) = (&root.scope.authority, &root.scope.repository);
    let is_named = globs.iter().any(|glob| glob.matches(authority, repository, Some(tag.as_str())));
    is_named.then_some((root, tag))
}

fn name(scope: &Scope, tag: &Tag) -> String {
    format!("{}/{}:{tag}", scope.authority, scope.repository)
}

/// The key behind that of a tag.
fn read_cursor(text: &str) -> Result<OwnedKey, Refused> {
    let wrong = || Refused::invalid("after: it is not what `next` of a call says");
    let name: ImageName = text.parse().map_err(|_no_name| wrong())?;
    let tag = name.tag.filter(|_| name.digest.is_none()).ok_or_else(wrong)?;
    Ok((0, name.authority.to_string(), name.repository.to_string(), format!("{tag}\u{0}")))
}

/// `done`: it points somewhere else now. `held`: it points where it pointed. The bytes are those of its manifest.
async fn check(mirror: &Arc<Mirror>, root: PinRoot, tag: Tag, takes_young: bool) -> JobItem {
    let PinRoot { scope, manifest: before, .. } = root;
    let item = name(&scope, &tag);
    let target = Target { authority: scope.authority, repository: scope.repository, via: None };
    match mirror.refresh(&target, &tag, takes_young).await {
        Ok(answer) => {
            let held_back = answer.provenance.held_back.map(|newer| format!("`min_age` holds back {newer}"));
            let is_stale = answer.provenance.stale_because.is_some();
            let problem = answer.provenance.stale_because.or(held_back);
            let outcome = match (&problem, answer.provenance.outcome) {
                (Some(_), _) if is_stale => JobOutcome::Failed,
                (Some(_), _) | (None, mirror::Outcome::Pinned) => JobOutcome::Held,
                (None, _) if answer.digest == before => JobOutcome::Held,
                (None, _) => JobOutcome::Done,
            };
            let checked = JobItem::new(item, outcome, answer.bytes.len() as u64);
            let checked = checked.with(ItemDetails::Refreshed { digest: Some(answer.digest) });
            match problem {
                Some(problem) => checked.because(problem),
                None => checked,
            }
        }
        Err(err) => {
            let outcome = if err.is_not_found() { JobOutcome::Missing } else { JobOutcome::Failed };
            JobItem::new(item, outcome, 0).because(err).with(ItemDetails::Refreshed { digest: None })
        }
    }
}
