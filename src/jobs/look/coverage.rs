//! Which images would survive an outage now.

use std::sync::Arc;

use serde::Serialize;

use super::examine::{Examined, Image, examine};
use super::find::find;
use super::select::held_names;
use crate::cache::blocks::Blocked;
use crate::jobs::{JobOutcome, Refused};
use crate::mirror::{Holdings, Mirror};
use crate::oci::{Digest, ImageName, Platform};
use crate::quote::quoted;

/// Blobs of one platform that are named.
const MAX_NAMED: usize = 20;

/// One item of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    pub item: String,
    pub outcome: JobOutcome,
    /// Bytes of it that are held.
    pub bytes: u64,
    pub problem: Option<String>,
    pub platforms: Vec<PlatformState>,
}

/// One platform of an image.
#[derive(Debug, Clone, Serialize)]
pub struct PlatformState {
    /// `None` where the image names none.
    pub platform: Option<String>,
    pub digest: Option<Digest>,
    pub is_whole: bool,
    /// How many blobs and manifests are missing.
    pub missing: usize,
    /// Some of them.
    pub missing_digests: Vec<Digest>,
}

/// The result of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Covered {
    pub items: Vec<Item>,
    pub failed: usize,
}

/// Looks at each name, and each held tag that a selector chooses. Without platforms, those count of which something is held, and at least one has to be whole.
pub async fn coverage(mirror: &Arc<Mirror>, names: &[String], platforms: &[Platform]) -> Covered {
    let mut items = Vec::new();
    for text in names {
        let refused = |text: &str, Refused { code, message }: Refused| Item {
            item: quoted(text),
            outcome: code.outcome(),
            bytes: 0,
            problem: Some(message),
            platforms: Vec::new(),
        };
        match held_names(mirror, text).await {
            Ok(names) => {
                for name in names {
                    items.push(cover(mirror, &name, platforms).await.unwrap_or_else(|why| refused(&name, why)));
                }
            }
            Err(why) => items.push(refused(text, why)),
        }
    }
    let failed = items.iter().filter(|item| item.outcome != JobOutcome::Held).count();
    Covered { items, failed }
}

async fn cover(mirror: &Arc<Mirror>, text: &str, platforms: &[Platform]) -> Result<Item, Refused> {
    let name: ImageName = text.parse().map_err(Refused::invalid)?;
    let found = find(mirror, &name).await?;
    let examined = examine(&found.holdings, found.digest).await?;
    let states = states(&examined, platforms);
    // An image counts its own manifest.
    let own = examined.manifest.as_ref().filter(|_| examined.images.iter().all(|image| image.digest != found.digest));
    let bytes = own.map_or(0, |read| read.size_bytes) + examined.images.iter().map(Image::held_bytes).sum::<u64>();
    let too_old = found.tag.as_ref().and_then(|(tag, row)| found.holdings.too_old(tag, row));
    let problem = if !found.holdings.is_allowed() {
        Some("the configuration does not let clients pull from this repository".to_owned())
    } else if let Some(blocked) = found.holdings.blocked(found.tag.as_ref().map(|(tag, _)| tag), found.digest) {
        Some(blocked.to_string())
    } else if let Some((digest, blocked)) = blocked_part(&found.holdings, &examined) {
        Some(format!("{digest}: {blocked}"))
    } else if let Some(age) = too_old {
        let age = humantime::format_duration(std::time::Duration::from_secs(age.as_secs()));
        Some(format!("the tag was last checked {age} ago, which is longer than `max_stale`"))
    } else {
        problem(&examined, &states)
    };
    let outcome = if problem.is_none() { JobOutcome::Held } else { JobOutcome::Missing };
    Ok(Item { item: name.to_string(), outcome, bytes, problem, platforms: states })
}

/// Something that an image needs and nobody is given.
fn blocked_part(holdings: &Holdings, examined: &Examined) -> Option<(Digest, Arc<Blocked>)> {
    let needed = |image: &Image| {
        let parts = image.parts.iter().filter(|part| part.is_needed).map(|part| part.digest);
        std::iter::once(image.digest).chain(parts).collect::<Vec<_>>()
    };
    let mut all = examined.images.iter().filter(|image| image.is_held).flat_map(needed);
    all.find_map(|digest| Some((digest, holdings.blocked(None, digest)?)))
}

fn states(examined: &Examined, platforms: &[Platform]) -> Vec<PlatformState> {
    let images = || examined.images.iter().filter(|image| image.is_for_a_platform());
    if platforms.is_empty() {
        return images().filter(|image| image.is_held).map(state).collect();
    }
    let of = |wanted: &Platform| {
        // One that names no platform is one of all.
        let fits = |image: &&Image| image.platform.as_ref().is_none_or(|platform| wanted.names(platform));
        let fitting: Vec<&Image> = images().filter(fits).collect();
        // Of several variants, one is enough.
        let best = fitting.iter().find(|image| image.is_whole()).or(fitting.first());
        let name = Some(wanted.to_string());
        best.map_or(
            PlatformState {
                platform: name.clone(),
                digest: None,
                is_whole: false,
                missing: 0,
                missing_digests: vec![],
            },
            |image| PlatformState { platform: name.clone(), ..state(image) },
        )
    };
    platforms.iter().map(of).collect()
}

fn state(image: &Image) -> PlatformState {
    let missing: Vec<Digest> =
        if image.is_held { image.missing().map(|part| part.digest).collect() } else { vec![image.digest] };
    PlatformState {
        platform: image.platform.as_ref().map(ToString::to_string),
        digest: Some(image.digest),
        is_whole: image.is_whole(),
        missing: missing.len(),
        missing_digests: missing.into_iter().take(MAX_NAMED).collect(),
    }
}

fn problem(examined: &Examined, states: &[PlatformState]) -> Option<String> {
    if examined.manifest.is_none() {
        return Some("its manifest is not held".to_owned());
    }
    if states.is_empty() {
        return (!examined.images.is_empty()).then(|| "none of its images is held".to_owned());
    }
    let lacking: Vec<String> = states
        .iter()
        .filter(|state| !state.is_whole)
        .map(|state| {
            let platform = state.platform.as_deref().unwrap_or("the image");
            match (state.digest, state.missing_digests.first()) {
                (None, _) => format!("{platform}: there is no such image"),
                (Some(digest), Some(first)) if *first == digest => format!("{platform}: its manifest is not held"),
                (Some(_), Some(first)) => format!("{platform}: {} missing, {first} among them", state.missing),
                (Some(_), None) => format!("{platform}: it is not whole"),
            }
        })
        .collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}
