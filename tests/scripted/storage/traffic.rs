//! Clients under load, and what must hold after every interruption.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{eventually, published, read, stored_right};
use roadstead::file_blocks::in_blocks;

use crate::blobs::process::Process;
use crate::support::client::Client;
use crate::support::faulty_disk::Dice;
use crate::support::image::{Image, image};
use crate::support::mirror::files_below;
use crate::support::upstream::*;

/// Published images, one of them with a layer that takes a while, and one tag that moves between them.
pub(super) struct Catalogue {
    pub(super) upstream: Upstream,
    images: Vec<(String, Image)>,
    /// Digests that were answered from the store.
    hits: Mutex<BTreeSet<String>>,
}

impl Catalogue {
    pub(super) async fn publish() -> Arc<Self> {
        let upstream = Upstream::start().await;
        let mut images = Vec::new();
        for nth in 0..6 {
            let name = format!("app{nth}");
            images.push((name.clone(), published(&upstream, &name, 100 * nth)));
        }
        let large = image(&[blob(20 * 1024 * 1024, 7000)]);
        upstream.publish("org/large", "1", &large);
        images.push(("large".to_owned(), large));
        Arc::new(Self { upstream, images, hits: Mutex::default() })
    }

    pub(super) fn toml(&self) -> String {
        format!("{}tag_ttl = \"0s\"\n", super::one(&self.upstream))
    }

    /// One random act of a client. Whatever is answered to its end is right; whether anything was.
    pub(super) async fn act(&self, client: &Client, dice: &mut Dice) -> bool {
        let (name, image) = &self.images[usize::try_from(dice.below(self.images.len() as u64)).unwrap()];
        if dice.below(10) == 0 {
            // Another image of its own under the tag that moves.
            let moved = image_of(dice.below(1000));
            self.upstream.publish("org/moving", "latest", &moved);
            let answer = client.try_get("/v2/org/moving/manifests/latest").await;
            return answer.is_ok_and(|answer| answer.status == 200);
        }
        let Ok(manifest) = client.try_get(&format!("/v2/org/{name}/manifests/1")).await else { return false };
        assert!(manifest.status != 200 || manifest.body == image.manifest, "{name}: a wrong manifest");
        let part = &image.blobs[usize::try_from(dice.below(image.blobs.len() as u64)).unwrap()];
        let path = format!("/v2/org/{name}/blobs/{}", part.digest);
        let Ok(mut response) = client.open(http::Method::GET, &path, &[]).await else { return false };
        let hit = response.headers().get("cache-status").is_some_and(|status| status == "roadstead; hit");
        // Some leave early.
        let wanted = if dice.below(5) == 0 { dice.below(part.content.size()) } else { u64::MAX };
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < wanted {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => {
                    assert!(bytes == part.content.to_bytes(), "{path}: wrong bytes");
                    break;
                }
                Err(_cut) => return false,
            }
        }
        assert!(bytes == part.content.slice(0, bytes.len() as u64), "{path}: a wrong byte before the end");
        if hit {
            self.hits.lock().unwrap_or_else(PoisonError::into_inner).insert(part.digest.clone());
        }
        true
    }

    /// So many clients at it, until they are aborted.
    pub(super) fn load(self: &Arc<Self>, client: &Client, clients: u64, seed: u64) -> tokio::task::JoinSet<()> {
        let mut load = tokio::task::JoinSet::new();
        for nth in 0..clients {
            let (catalogue, client) = (Arc::clone(self), client.clone());
            let mut dice = Dice(seed * 100 + nth);
            load.spawn(async move {
                loop {
                    // Refused connections must not keep the other tasks from their turn.
                    if !catalogue.act(&client, &mut dice).await {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        load
    }

    /// A blob that was a hit before a kill is stored after it.
    pub(super) fn nothing_is_lost(&self, storage: &Path) {
        let stored = stored_right(storage);
        let stored: BTreeSet<_> = stored.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        for digest in self.hits.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let hex = digest.strip_prefix("sha256:").unwrap();
            assert!(stored.contains(hex), "{digest} was served from the store, and is gone");
        }
    }

    /// The storage was removed.
    pub(super) fn forget_hits(&self) {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everything can be pulled, in the end from the store.
    pub(super) async fn all_is_served(&self, client: &Client) {
        for (name, image) in &self.images {
            super::pull(client, name, image).await;
        }
    }

    /// With the upstream away, what of the images has one of these digests is served, under its grant.
    pub(super) async fn is_served_offline(&self, client: &Client, hex_digests: &BTreeSet<String>) {
        self.upstream.close_on_accept();
        self.upstream.cut_connections();
        let is_listed = |digest: &str| hex_digests.contains(digest.strip_prefix("sha256:").unwrap());
        for (name, image) in &self.images {
            for part in image.blobs.iter().filter(|part| is_listed(&part.digest)) {
                let path = format!("/v2/org/{name}/blobs/{}", part.digest);
                let answer = client.get(&path).await;
                assert!(answer.status == 200 && answer.body == part.content.to_bytes(), "{path}: {}", answer.status);
            }
            if is_listed(&image.digest) {
                let path = format!("/v2/org/{name}/manifests/{}", image.digest);
                assert_eq!(client.get(&path).await.body, image.manifest, "{path}");
            }
        }
        self.upstream.accept_again();
    }

    /// With the upstream away, tags go on, stale.
    pub(super) async fn tags_are_served_offline(&self, client: &Client) {
        self.upstream.close_on_accept();
        self.upstream.cut_connections();
        for (name, image) in &self.images {
            assert_eq!(client.get(&format!("/v2/org/{name}/manifests/1")).await.body, image.manifest, "{name}");
        }
        self.upstream.accept_again();
    }

    /// With the upstream away, what is stored goes on being served.
    pub(super) async fn all_is_served_offline(&self, client: &Client) {
        self.upstream.close_on_accept();
        self.upstream.cut_connections();
        for (name, image) in &self.images {
            for part in &image.blobs {
                let path = format!("/v2/org/{name}/blobs/{}", part.digest);
                let (bytes, whole) = read(client, &path, 0).await;
                assert!(whole && bytes == part.content.to_bytes(), "{path}");
            }
        }
        self.upstream.accept_again();
    }
}

fn image_of(seed: u64) -> Image {
    image(&[blob(1000, 50_000 + seed)])
}

/// Bytes on disk are those that are counted, and every name has its use.
pub(super) async fn nothing_is_leaked(process: &Process, storage: &Path) {
    counts_what_is_there(storage, async || process.metric("roadstead_stored_bytes").await).await;
}

pub(super) async fn counts_what_is_there(storage: &Path, mut counted: impl AsyncFnMut() -> f64) {
    let on_disk = || -> u64 {
        let files = ["blobs", "partial", "quarantine"].into_iter().flat_map(|place| files_below(&storage.join(place)));
        let bytes = files.filter(|path| path.extension().is_none_or(|end| end != "json"));
        bytes.filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| in_blocks(metadata.len())).sum()
    };
    eventually("what is counted is what is there", async || {
        // Both move while the last blobs are recorded.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of bytes")]
        let counted = counted().await as u64;
        counted == on_disk()
    })
    .await;
}
