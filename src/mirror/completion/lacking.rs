//! Whole means that the client can go on: clients of the containers/image library never leave a mirror that has given them
//! a manifest, and others read less than all of it.

use std::sync::Arc;

use crate::cache::Manifest;
use crate::coalesce::Coalesce;
use crate::index::{Scope, held_digests, nearly_whole};
use crate::mirror::Mirror;
use crate::mirror::registries::Registry;
use crate::oci::{Digest, Inspected, Role, Shape};

/// Manifests of an index that are looked at.
const MAX_MANIFESTS: usize = 200;
/// Of these, manifests that are read, and blobs that are looked up.
const MAX_READ: usize = 20;
const MAX_LOOKED_UP: usize = 10_000;

/// Looks at indexes, one for each that is asked for.
pub(in crate::mirror) type Looks = Coalesce<(Scope, Digest, Reach), bool>;

/// What upstream still answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    registry: &Arc<Registry>,
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
    if count == 0 || reach.is_all() {
        return None;
    }
    let look = || {
        let (mirror, registry, scope) = (Arc::clone(mirror), Arc::clone(registry), scope.clone());
        let listed = listed.clone();
        async move { has_one(&mirror, &registry, &scope, listed, reach).await }
    };
    let key = (scope.clone(), manifest.digest, reach);
    // All requests at once share one look.
    let has_one = mirror.looks.run(key, look).await.is_ok_and(|(has_one, _)| has_one);
    (!has_one).then(|| format!("none of its {count} images is held whole"))
}

/// Whether a client can go on with one of these.
async fn has_one(mirror: &Arc<Mirror>, registry: &Registry, scope: &Scope, listed: Vec<Digest>, reach: Reach) -> bool {
    let index = &mirror.cache.index;
    let Ok(mut held) = nearly_whole(index, scope, listed, registry.policy.public, MAX_LOOKED_UP).await else {
        return false;
    };
    // One may be a config that is not needed.
    held.retain(|(_, lacking)| reach.blobs || lacking.is_none_or(|lacking| lacking < 2));
    held.sort_by_key(|(_, lacking)| lacking.unwrap_or(1));
    for (digest, _) in held.into_iter().take(MAX_READ) {
        let Ok(Some(child)) = mirror.granted_manifest(registry, scope, digest).await else { continue };
        let Ok(inspected) = Inspected::read(&child.bytes, Some(&child.media_type)) else { continue };
        if inspected.shape != Shape::Index && lacking_blobs(mirror, registry, scope, &inspected, reach).await.is_none()
        {
            return true;
        }
    }
    false
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
