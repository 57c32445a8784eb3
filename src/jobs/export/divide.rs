//! Which blob goes into which part of an export, and what each part says of itself.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::ExportRequest;
use super::held::{HeldImage, Sized};
use crate::index::IndexError;
use crate::jobs::bundle::docker_archive::{MANIFEST_FILE, ToSave, write_saved};
use crate::jobs::bundle::layout::{INDEX_FILE, LAYOUT, LAYOUT_FILE, MAX_IMAGES, ToList, blob_path, write_index};
use crate::jobs::bundle::receipt::{RECEIPT_FILE, Receipt};
use crate::jobs::bundle::tar_writer::{TAR_END, tar_bytes};
use crate::oci::Digest;

/// One layout: its small files, then its blobs.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub head: Vec<(&'static str, Bytes)>,
    pub blobs: Vec<Sized>,
    /// As a tar archive.
    pub bytes: u64,
}

/// Nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportRefused {
    #[error("more than {MAX_IMAGES} images are to be exported")]
    TooMany,
    #[error("parts of {0} bytes are too small: what each has to carry about all images takes {1}")]
    SmallParts(u64, u64),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("it was cancelled")]
    Cancelled,
}

/// An image with its name.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) has_name: bool,
    pub(super) image: HeldImage,
}

/// Gives each blob its part, and each part the manifests of all its images.
pub(super) fn divide(entries: &[Entry], request: &ExportRequest) -> Result<(Vec<Part>, Receipt), ExportRefused> {
    let (budget, mut sent) = (budget(entries, request.split)?, Receipt::default());
    // The images and the blobs of each part.
    let mut parts: Vec<(Vec<&Entry>, Vec<Sized>, u64)> = vec![Default::default()];
    let mut placed: HashMap<Digest, u32> = HashMap::new();
    let has = |digest: &Digest| request.since.as_ref().is_some_and(|since| since.blobs.contains_key(digest));
    for entry in entries {
        let manifests: u64 = entry.image.manifests.iter().map(|(_, size)| tar_bytes(*size)).sum();
        let mut is_listed = false;
        for (digest, size_bytes) in entry.image.blobs.iter().filter(|(digest, _)| !has(digest)) {
            if placed.contains_key(digest) {
                continue;
            }
            let used = parts.last().map_or(0, |(_, _, used)| *used);
            let cost = tar_bytes(*size_bytes) + if is_listed { 0 } else { manifests };
            if used.saturating_add(cost) > budget && used > 0 {
                parts.push(Default::default());
                is_listed = false;
            }
            let number = parts.len();
            let Some((listed, blobs, used)) = parts.last_mut() else { break };
            if !is_listed {
                listed.push(entry);
                *used += manifests;
                is_listed = true;
            }
            blobs.push((*digest, *size_bytes));
            *used += tar_bytes(*size_bytes);
            placed.insert(*digest, u32::try_from(number).unwrap_or(u32::MAX));
        }
        // Its blobs are in other parts, or there already.
        if !is_listed && let Some((listed, _, used)) = parts.last_mut() {
            listed.push(entry);
            *used += manifests;
        }
        sent.images.extend(entry.has_name.then(|| (entry.name.clone(), entry.image.root)));
        sent.blobs.extend(entry.image.manifests.iter().map(|(digest, size)| (*digest, (*size, 0))));
    }
    let sizes = parts.iter().flat_map(|(_, blobs, _)| blobs);
    sent.blobs.extend(sizes.map(|(digest, size)| (*digest, (*size, placed.get(digest).copied().unwrap_or(0)))));
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let made = (1..).zip(&parts).map(|(number, (listed, blobs, _))| {
        sent.part = (count > 1).then_some((number, count));
        part(listed, blobs, &sent)
    });
    let made = made.collect();
    // The sender's record: what was there before, and what was sent, whatever the part.
    sent.part = None;
    for (_, part) in sent.blobs.values_mut() {
        *part = 0;
    }
    if let Some(since) = &request.since {
        sent.images.extend(since.images.iter().cloned());
        sent.blobs.extend(since.blobs.iter().map(|(digest, (size, _))| (*digest, (*size, 0))));
    }
    Ok((made, sent))
}

/// Bytes of manifests and blobs that fit into one part, beside what describes it.
fn budget(entries: &[Entry], split: Option<u64>) -> Result<u64, ExportRefused> {
    let Some(split) = split else { return Ok(u64::MAX) };
    // More than each image and each blob takes in the index, the manifest of Docker and the receipt.
    let described: u64 = entries
        .iter()
        .map(|entry| {
            1024 + 4 * entry.name.len() as u64 + 400 * (entry.image.blobs.len() + entry.image.manifests.len()) as u64
        })
        .sum();
    let described = described + 8 * 1024;
    if described > split / 2 {
        return Err(ExportRefused::SmallParts(split, described));
    }
    Ok(split - described)
}

fn part(listed: &[&Entry], blobs: &[Sized], receipt: &Receipt) -> Part {
    let items: Vec<ToList> = listed
        .iter()
        .map(|entry| ToList {
            digest: entry.image.root,
            media_type: entry.image.media_type.clone(),
            size_bytes: entry.image.size_bytes,
            name: entry.name.clone(),
            has_name: entry.has_name,
        })
        .collect();
    // Docker before version 25, and `podman load`, read only this.
    let saved: Vec<ToSave> = listed.iter().filter(|entry| entry.has_name).filter_map(|entry| to_save(entry)).collect();
    let head = vec![
        (LAYOUT_FILE, Bytes::from_static(LAYOUT.as_bytes())),
        (INDEX_FILE, Bytes::from(write_index(&items))),
        (MANIFEST_FILE, Bytes::from(write_saved(&saved))),
        (RECEIPT_FILE, Bytes::from(receipt.to_bytes())),
    ];
    let mut seen = HashSet::new();
    let manifests = listed.iter().flat_map(|entry| &entry.image.manifests).copied();
    let blobs: Vec<Sized> = manifests.chain(blobs.iter().copied()).filter(|(digest, _)| seen.insert(*digest)).collect();
    let of_head: u64 = head.iter().map(|(_, content)| tar_bytes(content.len() as u64)).sum();
    let of_blobs: u64 = blobs.iter().map(|(_, size)| tar_bytes(*size)).sum();
    Part { head, blobs, bytes: of_head + of_blobs + TAR_END.len() as u64 }
}

fn to_save(entry: &Entry) -> Option<ToSave> {
    let (config, layers) = entry.image.single.as_ref()?;
    let tags = if entry.name.contains('@') { Vec::new() } else { vec![entry.name.clone()] };
    let layers = layers.iter().map(|layer| blob_path(*layer)).collect();
    Some(ToSave { config: blob_path(*config), repo_tags: tags, layers })
}
