//! What `docker save` and `skopeo copy docker-archive:` write: `manifest.json` with names, a config and layers by path.

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, ImageName, MediaType};

use super::layout::{Given, IndexRefused, MAX_IMAGES};

pub const MANIFEST_FILE: &str = "manifest.json";
/// Most layers of one image.
const MAX_LAYERS: usize = 1000;
/// Most values in all lists of one file: each costs memory, however short it is.
const MAX_VALUES: usize = 4_000_000;

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    pub names: Vec<Given>,
    /// Paths in the archive.
    pub config: String,
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

/// One image to write.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ToSave {
    pub config: String,
    pub repo_tags: Vec<String>,
    pub layers: Vec<String>,
}

/// Reads a `manifest.json` that is a list.
pub fn read_saved(bytes: &[u8]) -> Result<Vec<SavedImage>, IndexRefused> {
    // Between two values of a list stands a comma.
    if bytes.split(|byte| *byte == b',').nth(MAX_VALUES).is_some() {
        return Err(IndexRefused::TooMany);
    }
    let saved: Vec<Saved> = serde_json::from_slice(bytes).map_err(|_other| IndexRefused::NotAnIndex)?;
    let names = saved.iter().map(|saved| saved.tags.as_ref().map_or(1, Vec::len)).sum::<usize>();
    if saved.len() > MAX_IMAGES || names > MAX_IMAGES {
        return Err(IndexRefused::TooMany);
    }
    let read = |saved: Saved| {
        let layers = saved.layers.unwrap_or_default();
        if layers.len() > MAX_LAYERS {
            return Err(IndexRefused::NotAnIndex);
        }
        let names = saved.tags.unwrap_or_default().into_iter();
        let names = names.map(|text| text.parse::<ImageName>().map_or(Given::Unreadable(text), Given::Image)).collect();
        Ok(SavedImage { names, config: saved.config, layers })
    };
    saved.into_iter().map(read).collect()
}

/// Writes a `manifest.json`.
pub fn write_saved(images: &[ToSave]) -> Vec<u8> {
    serde_json::to_vec(images).expect("it holds strings only")
}

/// A content of an image that is put together here: its digest, its size, and whether it is gzipped.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub digest: Digest,
    pub size_bytes: u64,
    pub is_gzip: bool,
}

/// The manifest of a saved image, which has none: the same for the same content.
pub fn made_manifest(config: Part, layers: &[Part]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Descriptor {
        media_type: &'static str,
        digest: Digest,
        size: u64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        schema_version: u8,
        media_type: &'static str,
        config: Descriptor,
        layers: Vec<Descriptor>,
    }
    let layer = |part: &Part| Descriptor {
        media_type: if part.is_gzip {
            "application/vnd.oci.image.layer.v1.tar+gzip"
        } else {
            "application/vnd.oci.image.layer.v1.tar"
        },
        digest: part.digest,
        size: part.size_bytes,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::OCI_MANIFEST,
        config: Descriptor { media_type: MediaType::OCI_CONFIG, digest: config.digest, size: config.size_bytes },
        layers: layers.iter().map(layer).collect(),
    };
    serde_json::to_vec(&manifest).expect("it holds strings and numbers only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_images_are_read_as_they_were_written() {
        let written = write_saved(&[ToSave {
            config: "blobs/sha256/aa".to_owned(),
            repo_tags: vec!["docker.io/library/app:1".to_owned()],
            layers: vec!["b".to_owned()],
        }]);
        let read = read_saved(&written).unwrap();
        assert_eq!(read[0].config, "blobs/sha256/aa");
        assert_eq!(read[0].names, [Given::Image("app:1".parse().unwrap())]);
        assert!(read_saved(b"{}").is_err());
        assert_eq!(read_saved(br#"[{"Config":"c","RepoTags":null,"Layers":null}]"#).unwrap()[0].layers.len(), 0);
    }
}
