//! From what an archive held to items: each an image, and the name it gets.

use super::collect::Collected;
use crate::jobs::bundle::docker_archive::{Part, SavedImage, made_manifest, read_saved};
use crate::jobs::bundle::layout::{Given, Listed, Rename, name_of, read_index};
use crate::oci::{Algorithm, Digest, ImageName, MediaType};
use crate::quote::quoted;

/// Links that lead to links are followed so far.
const MAX_LINKS: u8 = 8;

/// One image of an archive.
pub(super) struct Item {
    /// Where it goes, or why it goes nowhere.
    pub(super) name: Result<ImageName, String>,
    /// What it is called in the report.
    pub(super) shown: String,
    pub(super) content: Result<Content, String>,
}

/// The root of an image.
#[derive(Clone)]
pub(super) enum Content {
    Stored(Digest, Option<MediaType>),
    /// A manifest that the archive does not have as a blob.
    Made(Digest, bytes::Bytes),
}

/// The items of an archive. The error is of the archive as a whole.
pub(super) fn list(collected: &Collected, rename: Option<&Rename>) -> Result<Vec<Item>, String> {
    if let Some(index) = &collected.index {
        let listed = read_index(index).map_err(|why| format!("its index.json: {why}"))?;
        return Ok(of_layout(listed, rename));
    }
    if let Some(saved) = &collected.saved {
        let saved = read_saved(saved).map_err(|why| format!("its manifest.json: {why}"))?;
        return Ok(of_saved(collected, saved, rename));
    }
    if let Some(bytes) = &collected.plain {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let content = Content::Made(digest, bytes.clone());
        return Ok(vec![item(&Given::Nothing, rename, false, &digest.to_string(), Ok(content))]);
    }
    Err(match &collected.problem {
        Some(problem) => problem.clone(),
        None => "it is no bundle: it has neither index.json (an OCI layout) nor manifest.json (docker save, dir:)"
            .to_owned(),
    })
}

fn of_layout(listed: Vec<Listed>, rename: Option<&Rename>) -> Vec<Item> {
    // A signature beside its image makes no second image.
    let named = listed.iter().filter(|entry| !matches!(entry.name, Given::Repository(_))).count();
    let items = listed.into_iter().map(|entry| {
        let Listed { digest, media_type, name } = entry;
        item(&name, rename, named > 1, &digest.to_string(), Ok(Content::Stored(digest, media_type)))
    });
    items.collect()
}

fn of_saved(collected: &Collected, saved: Vec<SavedImage>, rename: Option<&Rename>) -> Vec<Item> {
    let count = saved.iter().map(|image| image.names.len().max(1)).sum::<usize>();
    let mut items = Vec::new();
    for image in saved {
        let content = made(collected, &image);
        let shown = content.as_ref().map_or_else(
            |_lacking| quoted(&image.config),
            |content| match content {
                Content::Stored(digest, _) | Content::Made(digest, _) => digest.to_string(),
            },
        );
        let names = if image.names.is_empty() { vec![Given::Nothing] } else { image.names };
        for name in names {
            items.push(item(&name, rename, count > 1, &shown, content.clone()));
        }
    }
    items
}

fn item(
    given: &Given,
    rename: Option<&Rename>,
    has_several: bool,
    digest: &str,
    content: Result<Content, String>,
) -> Item {
    let name = name_of(given, rename, has_several).map_err(|why| why.to_string());
    let is_part = matches!(given, Given::Repository(_));
    let shown = match (&name, given) {
        (Ok(name), _) if is_part || (name.tag.is_none() && name.digest.is_none()) => format!("{name}@{digest}"),
        (Ok(name), _) | (Err(_), Given::Image(name) | Given::Repository(name)) => name.to_string(),
        (Err(_), Given::Tag(tag)) => tag.to_string(),
        (Err(_), Given::Unreadable(text)) => quoted(text),
        (Err(_), Given::Nothing) => digest.to_owned(),
    };
    // Without tag and digest it is an image that only its digest names.
    Item { name, shown, content }
}

/// The manifest of an image of `docker save`.
fn made(collected: &Collected, image: &SavedImage) -> Result<Content, String> {
    let find = |path: &str| find(collected, path).ok_or_else(|| format!("the archive has no {}", quoted(path)));
    let config = find(&image.config)?;
    let layers: Vec<Part> = image.layers.iter().map(|layer| find(layer)).collect::<Result<_, _>>()?;
    let manifest = made_manifest(config, &layers);
    let digest = Digest::of(Algorithm::Sha256, &manifest);
    Ok(Content::Made(digest, manifest.into()))
}

/// What a path of the archive holds. Links lead to other paths of the archive, and nowhere else.
fn find(collected: &Collected, path: &str) -> Option<Part> {
    let mut path = path;
    for _link in 0..MAX_LINKS {
        if let Some(part) = collected.files.get(path) {
            return Some(*part);
        }
        path = collected.links.get(path)?;
    }
    None
}
