//! One manifest, or one blob, as closely as it can be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::examine::{Image, Kind, Part, Wholeness, examine};
use super::find::{find, full_digest};
use super::tags::{Moved, history};
use crate::clock::Timestamp;
use crate::index::{ContentFacts, content};
use crate::jobs::Refused;
use crate::mirror::{Mirror, TagState};
use crate::oci::{Authority, Digest, MediaType, Named, Role, read_object};

/// The answer to `inspect`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub digest: Digest,
    /// Its stored bytes; `None` if they are not here.
    pub content: Option<StoredContent>,
    /// With its registry; `None` for content that was asked for by its digest alone.
    pub repository: Option<String>,
    pub tag: Option<InspectedTag>,
    pub kind: Kind,
    pub media_type: Option<MediaType>,
    pub artifact_type: Option<String>,
    pub held: Wholeness,
    pub subject: Option<Digest>,
    pub annotations: BTreeMap<String, String>,
    /// The image itself, or the images that an index lists.
    pub images: Vec<InspectedImage>,
    /// The config's JSON, of a single image.
    pub config: Option<Value>,
    /// Descriptors of the held manifests that name it as their subject.
    pub referrers: Vec<Value>,
    /// Why nobody is given it, if it is blocked.
    pub blocked: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct StoredContent {
    pub size_bytes: u64,
    pub stored: Timestamp,
    /// The registry that sent it.
    pub origin: Option<Authority>,
    pub used: Option<Timestamp>,
    pub is_pinned: bool,
    /// No registry that is online can give it again, as far as is known.
    pub is_last_copy: bool,
}

#[derive(Debug, Serialize)]
pub struct InspectedTag {
    pub tag: String,
    pub state: TagState,
    pub checked: Timestamp,
    pub history: Vec<Moved>,
}

#[derive(Debug, Serialize)]
pub struct InspectedImage {
    pub digest: Digest,
    pub platform: Option<String>,
    pub size_bytes: u64,
    /// Its manifest is held.
    pub is_held: bool,
    pub is_whole: bool,
    pub parts: Vec<InspectedPart>,
}

#[derive(Debug, Serialize)]
pub struct InspectedPart {
    pub digest: Digest,
    pub role: &'static str,
    pub size_bytes: u64,
    pub is_stored: bool,
    /// Its registry has proved that this repository has it.
    pub is_granted: bool,
    /// Nobody is given it here.
    pub is_blocked: bool,
}

/// What is known of a name, or of content by its digest.
pub async fn inspect(mirror: &Arc<Mirror>, named: &Named) -> Result<Inspection, Refused> {
    let index = &mirror.cache().index;
    let name = match named {
        Named::Image(name) => name,
        Named::Content(short) => {
            let digest = full_digest(mirror, None, short).await?;
            let Some(facts) = content(index, digest).await? else {
                return Err(Refused::not_found(format!("{digest} is not stored")));
            };
            return Ok(of_content(mirror, digest, &facts));
        }
    };
    let found = find(mirror, name).await?;
    let (holdings, digest) = (&found.holdings, found.digest);
    let examined = examine(holdings, digest).await?;
    let facts = content(index, digest).await?;
    if examined.manifest.is_none() && found.tag.is_none() {
        // A blob of the repository, or a digest that is only typed.
        let held = holdings.held(vec![digest], false).await?;
        if !held.iter().any(|held| held.is_granted) {
            let scope = holdings.scope();
            return Err(Refused::not_found(format!("{}/{}@{digest} is not held", scope.authority, scope.repository)));
        }
    }
    let scope = holdings.scope();
    let config = match (examined.kind, examined.images.as_slice()) {
        (Kind::Image, [image]) => match image.parts.iter().find(|part| part.role == Role::Config) {
            Some(part) => holdings.config(part.digest).await.and_then(|bytes| read_object(&bytes)),
            None => None,
        },
        _ => None,
    };
    let referrers = index.referrers_of(scope, digest).await?.into_iter().map(|row| row.descriptor).collect();
    let tag = found.tag.as_ref().map(|(tag, row)| InspectedTag {
        tag: tag.to_string(),
        state: holdings.state(tag, row),
        checked: row.checked,
        history: history(row.history.clone()),
    });
    let (kind, held) = (examined.kind, examined.wholeness());
    let is_blocked = |digest| mirror.cache().blocks.of_digest(scope, digest).is_some();
    let images = examined.images.iter().map(|image| inspected_image(image, is_blocked)).collect();
    let blocked = holdings.blocked(found.tag.as_ref().map(|(tag, _)| tag), digest).map(|blocked| blocked.to_string());
    let inspected = examined.manifest.map(|read| read.inspected);
    Ok(Inspection {
        digest,
        content: facts.map(|facts| stored(mirror, &facts)),
        repository: Some(format!("{}/{}", scope.authority, scope.repository)),
        tag,
        kind,
        media_type: inspected.as_ref().map(|inspected| inspected.media_type.clone()),
        artifact_type: inspected.as_ref().and_then(|inspected| inspected.artifact_type.clone()),
        held,
        subject: inspected.as_ref().and_then(|inspected| inspected.subject),
        annotations: inspected.map(|inspected| inspected.annotations).unwrap_or_default(),
        images,
        config,
        referrers,
        blocked,
    })
}

fn of_content(mirror: &Mirror, digest: Digest, facts: &ContentFacts) -> Inspection {
    Inspection {
        digest,
        content: Some(stored(mirror, facts)),
        repository: None,
        tag: None,
        kind: Kind::Unknown,
        media_type: None,
        artifact_type: None,
        held: Wholeness::Whole,
        subject: None,
        annotations: BTreeMap::new(),
        images: Vec::new(),
        config: None,
        referrers: Vec::new(),
        blocked: mirror.cache().blocks.of_content(digest).map(|blocked| blocked.to_string()),
    }
}

fn stored(mirror: &Mirror, facts: &ContentFacts) -> StoredContent {
    StoredContent {
        size_bytes: facts.row.size_bytes,
        stored: facts.row.stored,
        origin: facts.row.origin.clone(),
        used: facts.used,
        is_pinned: facts.is_pinned,
        is_last_copy: !mirror.cache().can_come_again(&facts.obtainable_from),
    }
}

fn inspected_image(image: &Image, is_blocked: impl Fn(Digest) -> bool) -> InspectedImage {
    let part = |part: &Part| InspectedPart {
        digest: part.digest,
        role: match part.role {
            Role::Config => "config",
            Role::Layer => "layer",
            Role::Manifest => "manifest",
        },
        size_bytes: part.size_bytes,
        is_stored: part.held.is_stored,
        is_granted: part.held.is_granted,
        is_blocked: is_blocked(part.digest),
    };
    InspectedImage {
        digest: image.digest,
        platform: image.platform.as_ref().map(ToString::to_string),
        size_bytes: image.size_bytes,
        is_held: image.is_held,
        is_whole: image.is_whole(),
        parts: image.parts.iter().map(part).collect(),
    }
}
