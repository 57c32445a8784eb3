//! T19: a manifest is one thing, and its type is what its digest covers.

use roadstead::oci::{Inspected, MediaType, NotAManifest, Shape};
use serde_json::Value;

use crate::fuzz;
use crate::text::{json_bytes, one};

const WORDS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "subject",
    "artifactType",
    "annotations",
    "digest",
    "size",
    "urls",
    MediaType::OCI_INDEX,
    MediaType::OCI_MANIFEST,
    MediaType::DOCKER_LIST,
    MediaType::DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:../../etc/passwd",
    "",
];

#[test]
fn t19_a_manifest_is_an_index_or_an_image_and_never_both() {
    fuzz(|u| {
        let body = json_bytes(u, WORDS)?;
        let header = MediaType::parse(one(u, WORDS)?);
        let inspected = match Inspected::read(&body, header.as_ref()) {
            Ok(inspected) => inspected,
            Err(
                NotAManifest::NotJson
                | NotAManifest::Schema1
                | NotAManifest::Ambiguous
                | NotAManifest::Untyped
                | NotAManifest::TooMany,
            ) => return Ok(()),
        };
        // A string in a field that nobody reads may be none that can be.
        let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
        let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
        let is_there = |key: &str| value.get(key).is_some();
        assert!(value.is_object());
        assert!(!(has("manifests") && (has("config") || has("layers"))), "{value}");
        assert_ne!(value.get("schemaVersion").and_then(Value::as_u64), Some(1));
        let media_type = &inspected.media_type;
        match inspected.shape {
            Shape::Index => assert!(is_there("manifests") && !media_type.is_image_manifest()),
            Shape::Image => assert!((is_there("config") || is_there("layers")) && !media_type.is_index()),
            Shape::Other => assert!(!media_type.is_index() && !media_type.is_image_manifest()),
        }
        assert!(!media_type.is_schema_1());
        // A type in the body cannot be changed by a header.
        if let Some(told) = value.get("mediaType").and_then(Value::as_str).and_then(MediaType::parse) {
            assert_eq!(*media_type, told);
            for other in [None, MediaType::parse(MediaType::OCI_INDEX), MediaType::parse("text/plain")] {
                assert_eq!(Inspected::read(&body, other.as_ref()).unwrap().media_type, told);
            }
        }
        Ok(())
    });
}
