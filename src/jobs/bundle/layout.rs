//! The OCI image layout: its file names, and its `index.json` read and written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::oci::{Digest, ImageName, MediaType, Repository, Tag, read_object};

/// Largest `index.json`, and largest `manifest.json` of `docker save`, in bytes: 100,000 images take 40 MB.
pub const MAX_INDEX_BYTES: u64 = 64 * 1024 * 1024;
/// Most images of one bundle.
pub const MAX_IMAGES: usize = 100_000;

pub const LAYOUT_FILE: &str = "oci-layout";
pub const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
pub const INDEX_FILE: &str = "index.json";

/// The name by which skopeo, podman and oras find an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name by which containerd and Docker find it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The repository of a manifest without a name, as a signature has none.
const REPOSITORY: &str = "io.roadstead.repository";

/// One entry of an `index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub digest: Digest,
    pub media_type: Option<MediaType>,
    pub name: Given,
}

/// The name that a bundle gives to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    Image(ImageName),
    /// A tag without its repository.
    Tag(Tag),
    /// A repository without a tag.
    Repository(ImageName),
    /// A text that names nothing.
    Unreadable(String),
    Nothing,
}

/// Why an index is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexRefused {
    #[error("it is no JSON object with a list of `manifests`")]
    NotAnIndex,
    #[error("it lists more than {MAX_IMAGES} images")]
    TooMany,
}

#[derive(Deserialize)]
struct Index {
    manifests: Descriptors,
}

/// Those of a list, and one more than may be in it; the rest is read past.
struct Descriptors(Vec<Descriptor>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// Annotations that name an image. Others are read past.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    ref_name: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    containerd_name: Option<String>,
    #[serde(rename = "io.roadstead.repository")]
    repository: Option<String>,
}

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Descriptors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Descriptors, A::Error> {
                let mut descriptors = Vec::new();
                while descriptors.len() <= MAX_IMAGES
                    && let Some(descriptor) = list.next_element()?
                {
                    descriptors.push(descriptor);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Descriptors(descriptors))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenIndex<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Written<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<&'static str, &'a str>,
}

/// One entry to write.
#[derive(Debug, Clone)]
pub struct ToList {
    pub digest: Digest,
    pub media_type: MediaType,
    pub size_bytes: u64,
    /// A full name; a repository alone for what is found by what it refers to.
    pub name: String,
    pub has_name: bool,
}

/// The path of a blob in a layout.
pub fn blob_path(digest: Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The digest that a path of a layout names, and what stands in front of `blobs/`.
pub fn digest_of_path(path: &str) -> Option<(&str, Digest)> {
    let (before, hex) = path.rsplit_once('/')?;
    let (before, algorithm) = before.rsplit_once('/')?;
    let prefix = if before == "blobs" { "" } else { before.strip_suffix("/blobs")? };
    Some((prefix, format!("{algorithm}:{hex}").parse().ok()?))
}

/// Reads an `index.json`. An entry whose digest cannot be verified is left out.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Listed>, IndexRefused> {
    let index: Index = read_object(bytes).ok_or(IndexRefused::NotAnIndex)?;
    let Descriptors(manifests) = index.manifests;
    if manifests.len() > MAX_IMAGES {
        return Err(IndexRefused::TooMany);
    }
    let listed = manifests.into_iter().filter_map(|descriptor| {
        let annotations = descriptor.annotations.unwrap_or_default();
        Some(Listed {
            digest: descriptor.digest.parse().ok()?,
            media_type: descriptor.media_type.as_deref().and_then(MediaType::parse),
            name: given(&annotations),
        })
    });
    Ok(listed.collect())
}

fn given(annotations: &Annotations) -> Given {
    if let Some(name) = &annotations.containerd_name {
        return name.parse().map_or_else(|_no_name| Given::Unreadable(name.clone()), Given::Image);
    }
    if let Some(name) = &annotations.ref_name {
        // A text without a slash is a tag, as the specification has it; Docker's short names are not meant.
        return match (name.contains('/'), name.parse(), name.parse()) {
            (false, _, Ok(tag)) => Given::Tag(tag),
            (_, Ok(image), _) => Given::Image(image),
            (_, Err(_), _) => Given::Unreadable(name.clone()),
        };
    }
    let repository = annotations.repository.as_ref().and_then(|name| name.parse::<ImageName>().ok());
    repository.filter(|name| name.tag.is_none() && name.digest.is_none()).map_or(Given::Nothing, Given::Repository)
}

/// Writes an `index.json`: the same bytes for the same entries.
pub fn write_index(listed: &[ToList]) -> Vec<u8> {
    let manifests = listed.iter().map(|item| {
        let name = item.name.as_str();
        let annotations = if item.has_name {
            BTreeMap::from([(REF_NAME, name), (CONTAINERD_NAME, name)])
        } else {
            BTreeMap::from([(REPOSITORY, name)])
        };
        Written { media_type: item.media_type.as_str(), digest: item.digest, size: item.size_bytes, annotations }
    });
    let index = WrittenIndex { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests: manifests.collect() };
    serde_json::to_vec(&index).expect("it holds strings and numbers only")
}

/// Where an image of a bundle goes, instead of where the bundle says: `docker.io/library/app:1.2`, or a pattern whose `*`
/// stands for the last part of the name and whose `**` stands for the whole repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename(String);

/// Why an image cannot be given a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    #[error("the bundle gives it no name; `--as` names it")]
    NoName,
    #[error("the bundle calls it {0}, which is no full name; `--as` names it")]
    Unreadable(String),
    #[error("`--as {0}` names one image, and the bundle has several; a `*` keeps their names apart")]
    Several(String),
    #[error("`--as {0}` is no full name of an image")]
    BadRename(String),
}

impl Rename {
    pub fn parse(text: &str) -> Result<Self, Unnamed> {
        let filled = text.replace("**", "a").replace('*', "a");
        let is_whole = text.matches('*').count() <= 2;
        match filled.parse::<ImageName>() {
            Ok(name) if is_whole && name.digest.is_none() => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(Unnamed::BadRename(text.to_owned())),
        }
    }

    fn is_pattern(&self) -> bool {
        self.0.contains('*')
    }

    fn apply(&self, given: &Given) -> Result<ImageName, Unnamed> {
        let repository = match given {
            Given::Image(name) | Given::Repository(name) => Some(&name.repository),
            Given::Tag(_) | Given::Unreadable(_) | Given::Nothing => None,
        };
        let text = if self.is_pattern() {
            let whole = repository.map(Repository::as_str).ok_or(Unnamed::NoName)?;
            let last = whole.rsplit('/').next().unwrap_or(whole);
            if self.0.contains("**") { self.0.replace("**", whole) } else { self.0.replace('*', last) }
        } else {
            self.0.clone()
        };
        let mut name: ImageName = text.parse().map_err(|_no_name| Unnamed::BadRename(self.0.clone()))?;
        if name.tag.is_none() {
            match given {
                Given::Image(given) => (name.tag, name.digest) = (given.tag.clone(), given.digest.clone()),
                Given::Tag(tag) => name.tag = Some(tag.clone()),
                Given::Repository(_) | Given::Unreadable(_) | Given::Nothing => {}
            }
        }
        Ok(name)
    }
}

/// The name of an image: by `rename`, else as the bundle says. `has_several`: the bundle has other images.
pub fn name_of(given: &Given, rename: Option<&Rename>, has_several: bool) -> Result<ImageName, Unnamed> {
    match (rename, given) {
        (Some(rename), Given::Repository(_)) if !rename.is_pattern() => {
            rename.apply(&Given::Nothing).map(|mut name| {
                name.tag = None;
                name
            })
        }
        (Some(rename), _) if has_several && !rename.is_pattern() => Err(Unnamed::Several(rename.0.clone())),
        (Some(rename), _) => rename.apply(given),
        (None, Given::Image(name) | Given::Repository(name)) => Ok(name.clone()),
        (None, Given::Unreadable(text)) => Err(Unnamed::Unreadable(crate::quote::quoted(text))),
        (None, Given::Tag(tag)) => Err(Unnamed::Unreadable(tag.to_string())),
        (None, Given::Nothing) => Err(Unnamed::NoName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn item(name: &str, has_name: bool) -> ToList {
        let media_type = MediaType::parse(MediaType::OCI_MANIFEST).unwrap();
        let digest = Digest::of(Algorithm::Sha256, name.as_bytes());
        ToList { digest, media_type, size_bytes: 3, name: name.to_owned(), has_name }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let items = [item("docker.io/library/app:1", true), item("quay.io/a/b", false)];
        let written = write_index(&items);
        assert_eq!(written, write_index(&items));
        let read = read_index(&written).unwrap();
        assert_eq!(read[0].name, Given::Image("docker.io/library/app:1".parse().unwrap()));
        assert_eq!(read[1].name, Given::Repository("quay.io/a/b".parse().unwrap()));
        assert_eq!(read[1].digest, items[1].digest);
        assert!(read_index(b"[]").is_err() && read_index(b"{}").is_err());
    }

    #[test]
    fn paths_name_digests_and_nothing_else() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let path = blob_path(digest);
        assert_eq!(digest_of_path(&path), Some(("", digest)));
        assert_eq!(digest_of_path(&format!("a/b/{path}")), Some(("a/b", digest)));
        for bad in ["", "blobs/sha256/..", "blobs/sha256/a", "xblobs/sha256/", &format!("x{path}")] {
            assert_eq!(digest_of_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_image_goes_where_it_is_sent() {
        let image = Given::Image("quay.io/org/team/app:2".parse().unwrap());
        let named = |rename: &str, given: &Given, several| {
            name_of(given, Some(&Rename::parse(rename).unwrap()), several).map(|name| name.to_string())
        };
        assert_eq!(named("docker.io/library/x:1", &image, false).unwrap(), "docker.io/library/x:1");
        assert_eq!(named("docker.io/library/x", &image, false).unwrap(), "docker.io/library/x:2");
        assert_eq!(named("registry.corp/*", &image, true).unwrap(), "registry.corp/app:2");
        assert_eq!(named("registry.corp/in/**", &image, true).unwrap(), "registry.corp/in/org/team/app:2");
        assert!(matches!(named("docker.io/library/x", &image, true), Err(Unnamed::Several(_))));
        assert_eq!(
            named("docker.io/library/x", &Given::Tag("7".parse().unwrap()), false).unwrap(),
            "docker.io/library/x:7"
        );
        assert_eq!(name_of(&Given::Nothing, None, false), Err(Unnamed::NoName));
        assert!(Rename::parse("docker.io/a/../b").is_err() && Rename::parse("***").is_err());
    }
}
