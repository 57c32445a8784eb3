//! Whole means that the client can go on: clients of the containers/image library never leave a mirror that has given them
//! a manifest, and others read less than all of it.

use std::sync::Arc;

use crate::cache::Manifest;
use crate::index::{Scope, held_digests};
use crate::mirror::Mirror;
use crate::mirror::registries::Registry;
use crate::oci::{Digest, Inspected, Role, Shape};

/// Manifests of an index that are looked at.
const MAX_MANIFESTS: usize = 200;

/// What upstream still answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mirror) struct Reach {
    pub(in crate::mirror) manifests: bool,
    pub(in crate::mirror) blobs: bool,
}

impl Reach {
    pub(in crate::mirror) const fn is_all(self) -> bool {
        self.manifests && self.blobs
    }
}

/// What keeps a client from going on with a held manifest, while upstream answers no more than `reach`; `None` if it can.
///
/// An index needs one image that a client can go on with. An image, or an artifact, needs its blobs; what is no container
/// image does not need its config.
pub(in crate::mirror) async fn lacking(
    mirror: &Arc<Mirror>,
    registry: &Registry,
    scope: &Scope,
    manifest: &Manifest,
    reach: Reach,
) -> Option<String> {
    let Ok(inspected) = Inspected::read(&manifest.bytes, Some(&manifest.media_type)) else { return None };
    if inspected.shape != Shape::Index {
        return lacking_blobs(mirror, registry, scope, &inspected, reach).await;
    }
    let listed: Vec<Digest> =
        inspected.children.iter().filter(|c| c.role == Role::Manifest).map(|c| c.digest).take(MAX_MANIFESTS).collect();
    let count = listed.len();
    for digest in listed {
        if reach.is_all() {
            return None;
        }
        let Some(child) = mirror.granted_manifest(registry, scope, digest).await else { continue };
        let Ok(inspected) = Inspected::read(&child.bytes, Some(&child.media_type)) else { continue };
        if inspected.shape != Shape::Index && lacking_blobs(mirror, registry, scope, &inspected, reach).await.is_none()
        {
            return None;
        }
    }
    (count > 0).then(|| format!("none of its {count} images is held whole"))
}

async fn lacking_blobs(
    mirror: &Mirror,
    registry: &Registry,
    scope: &Scope,
    inspected: &Inspected,
    reach: Reach,
) -> Option<String> {
    if reach.blobs {
        return None;
    }
    let needs_config = inspected.is_container_image();
    let needed: Vec<Digest> = inspected
        .children
        .iter()
        .filter(|child| child.role == Role::Layer || (child.role == Role::Config && needs_config))
        .map(|child| child.digest)
        .collect();
    let count = needed.len();
    let held = held_digests(&mirror.cache.index, scope, needed, false, registry.policy.public).await;
    let Ok(held) = held else { return Some("the index does not say what is held".to_owned()) };
    let missing: Vec<Digest> = held.iter().filter(|held| !held.is_served()).map(|held| held.digest).collect();
    let first = missing.first()?;
    Some(format!("{} of its {count} blobs cannot be served, {first} among them", missing.len()))
}
