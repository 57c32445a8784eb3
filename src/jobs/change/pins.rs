//! Adds and removes several pins at once: all are read before any is made. What a tag is pinned to is written before the pin
//! that keeps the content.

use std::sync::Arc;

use serde::Serialize;

use crate::index::{Change, IndexError, PinTag, Scope, UnpinTag};
use crate::jobs::look::{full_digest, holdings};
use crate::jobs::{Refused, RefusedCode};
use crate::mirror::{Holdings, Mirror, PinError};
use crate::oci::{Digest, ImageName, PinPattern, Tag};
use crate::quote::quoted;

/// Patterns in one call.
const MAX_PATTERNS: usize = 1000;

/// A pin, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinEntry {
    pub pattern: PinPattern,
    /// By `storage.pins`: only a change of the configuration takes it back.
    pub configured: bool,
    /// The tag answers with this digest, whatever upstream says.
    pub digest: Option<Digest>,
}

/// What is to be pinned.
struct Wanted {
    pattern: PinPattern,
    /// A tag, and where it has to point.
    tag: Option<(Scope, Tag, Digest)>,
}

/// All pins, those of the configuration first.
pub async fn list_pins(mirror: &Arc<Mirror>) -> Result<Vec<PinEntry>, Refused> {
    let cache = mirror.cache();
    let mut entries = Vec::new();
    for pin in cache.pins.list(&cache.index).await? {
        let digest = match exact(mirror, pin.pattern.as_str()) {
            Some((holdings, tag)) => pinned_digest(&holdings, &tag).await?,
            None => None,
        };
        entries.push(PinEntry { pattern: pin.pattern, configured: pin.configured, digest });
    }
    Ok(entries)
}

/// Adds pins durably; existing ones stay. `REF@DIGEST` also makes the tag answer with that digest. Returns all pins.
pub async fn add_pins(mirror: &Arc<Mirror>, patterns: &[String]) -> Result<Vec<PinEntry>, Refused> {
    check_count(patterns)?;
    let mut wanted = Vec::new();
    for text in patterns {
        wanted.push(read(mirror, text).await?);
    }
    let cache = mirror.cache();
    let now = cache.context.clock.now();
    let tags: Vec<Change> = wanted
        .iter()
        .filter_map(|wanted| wanted.tag.clone())
        .map(|(scope, tag, digest)| PinTag { scope, tag, digest, at: now }.into())
        .collect();
    if !tags.is_empty() {
        cache.index.apply_durably(tags).await?;
    }
    for (scope, tag, digest) in wanted.iter().filter_map(|wanted| wanted.tag.as_ref()) {
        tracing::info!(authority = %scope.authority, repository = %scope.repository, %tag, %digest,
            "a tag is pinned to a digest: it is answered with it whatever upstream says");
    }
    let pins = wanted.into_iter().map(|wanted| wanted.pattern).collect();
    cache.pins.add(&cache.index, pins, now).await?;
    list_pins(mirror).await
}

/// Removes durably pins that were added by command. Returns all pins.
pub async fn remove_pins(mirror: &Arc<Mirror>, patterns: &[String]) -> Result<Vec<PinEntry>, Refused> {
    check_count(patterns)?;
    let known = list_pins(mirror).await?;
    let (mut pins, mut tags) = (Vec::new(), Vec::new());
    for text in patterns {
        let unknown = || Refused::not_found(format!("{}: there is no such pin", quoted(text)));
        // A digest behind it says no more than which one is meant.
        let name = text.split('@').next().unwrap_or_default();
        // A pin of a registry that is not configured any more can be removed too.
        let pin = mirror.pin(name).or_else(|_unknown| name.parse()).map_err(|_invalid| unknown())?;
        match known.iter().find(|known| known.pattern == pin) {
            Some(known) if known.configured => {
                let why = "it is in `storage.pins` of the configuration, which has to be changed";
                return Err(Refused::new(RefusedCode::Conflict, format!("{}: {why}", quoted(text))));
            }
            Some(known) => {
                if let Some((holdings, tag)) = exact(mirror, pin.as_str()).filter(|_| known.digest.is_some()) {
                    tags.push(Change::from(UnpinTag { scope: holdings.scope().clone(), tag }));
                }
                pins.push(pin);
            }
            None => return Err(unknown()),
        }
    }
    let cache = mirror.cache();
    if !tags.is_empty() {
        cache.index.apply_durably(tags).await?;
    }
    cache.pins.remove(&cache.index, pins, cache.context.clock.now()).await?;
    list_pins(mirror).await
}

async fn read(mirror: &Arc<Mirror>, text: &str) -> Result<Wanted, Refused> {
    if !text.contains('@') {
        return Ok(Wanted { pattern: read_pattern(mirror, text)?, tag: None });
    }
    let name: ImageName = text.parse().map_err(|err| Refused::invalid(format!("{}: {err}", quoted(text))))?;
    let (Some(tag), Some(short)) = (&name.tag, &name.digest) else {
        let why = "it takes a tag and a digest, as in \"docker.io/library/app:1@sha256:…\"";
        return Err(Refused::invalid(format!("{}: {why}", quoted(text))));
    };
    let holdings = holdings(mirror, &name.authority, &name.repository)?;
    let digest = full_digest(mirror, Some(&holdings), short).await?;
    let scope = holdings.scope().clone();
    let pattern = format!("{}/{}:{tag}", scope.authority, scope.repository);
    let pattern = pattern.parse().map_err(|err| Refused::invalid(format!("{pattern}: {err}")))?;
    Ok(Wanted { pattern, tag: Some((scope, tag.clone(), digest)) })
}

/// A glob over registry/repository, or registry/repository:tag, of a registry that is known.
pub(super) fn read_pattern(mirror: &Mirror, text: &str) -> Result<PinPattern, Refused> {
    mirror.pin(text).map_err(|err| {
        let code = match err {
            PinError::Invalid(_) => RefusedCode::Invalid,
            PinError::UnknownRegistry => RefusedCode::UnknownRegistry,
        };
        Refused::new(code, format!("{}: {err}", quoted(text)))
    })
}

/// The tag that a pattern names, if it names just one.
fn exact(mirror: &Arc<Mirror>, pattern: &str) -> Option<(Holdings, Tag)> {
    let name: ImageName = pattern.parse().ok()?;
    let tag = name.tag?;
    Holdings::of(mirror, &name.authority, &name.repository).ok().map(|holdings| (holdings, tag))
}

async fn pinned_digest(holdings: &Holdings, tag: &Tag) -> Result<Option<Digest>, IndexError> {
    Ok(holdings.tag(tag).await?.filter(|row| row.is_pinned).and_then(|row| row.digest))
}

fn check_count(patterns: &[String]) -> Result<(), Refused> {
    match patterns.len() {
        0 => Err(Refused::invalid("no pattern is given, as in \"docker.io/library/**\"")),
        1..=MAX_PATTERNS => Ok(()),
        _ => Err(Refused::too_many(MAX_PATTERNS)),
    }
}
