use super::*;

fn read(body: &str, header: &str) -> Result<String, NotAManifest> {
    let header = MediaType::parse(header);
    Inspected::read(body.as_bytes(), header.as_ref()).map(|m| m.media_type.to_string())
}

#[test]
fn the_type_comes_from_the_body_then_the_header_then_the_structure() {
    let docker = format!(r#"{{"mediaType":"{}","config":{{}},"layers":[]}}"#, MediaType::DOCKER_MANIFEST);
    assert_eq!(read(&docker, MediaType::OCI_INDEX).unwrap(), MediaType::DOCKER_MANIFEST);
    assert_eq!(read(r#"{"layers":[]}"#, MediaType::DOCKER_MANIFEST).unwrap(), MediaType::DOCKER_MANIFEST);
    assert_eq!(read(r#"{"layers":[]}"#, "text/plain").unwrap(), MediaType::OCI_MANIFEST);
    assert_eq!(read(r#"{"manifests":[]}"#, MediaType::OCI_MANIFEST).unwrap(), MediaType::OCI_INDEX);
    assert_eq!(read(r#"{"a":1}"#, "application/vnd.example+json").unwrap(), "application/vnd.example+json");
}

#[test]
fn t19_a_body_that_is_two_things_at_once_is_refused() {
    assert_eq!(read(r#"{"manifests":[],"layers":[]}"#, ""), Err(NotAManifest::Ambiguous));
    let lie = format!(r#"{{"mediaType":"{}","layers":[]}}"#, MediaType::OCI_INDEX);
    assert_eq!(read(&lie, ""), Err(NotAManifest::Ambiguous));
}

#[test]
fn what_a_client_has_without_asking_is_not_needed() {
    let needed = |config: &str| {
        let layer = format!("sha256:{}", "0".repeat(64));
        let body = format!(r#"{{"config":{config},"layers":[{{"digest":"{layer}","size":1}}]}}"#);
        Inspected::read(body.as_bytes(), None).unwrap().children.len()
    };
    let (empty, other) =
        (Digest::of(crate::oci::Algorithm::Sha256, b"{}"), Digest::of(crate::oci::Algorithm::Sha256, b"abc"));
    assert_eq!(needed(&format!(r#"{{"digest":"{empty}","size":2}}"#)), 1);
    assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3,"data":"YWJj"}}"#)), 1);
    assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3,"data":"bGll"}}"#)), 2, "a lie is not content");
    assert_eq!(needed(&format!(r#"{{"digest":"{other}","size":3}}"#)), 2);
}

#[test]
fn a_null_that_go_writes_is_an_empty_value() {
    let typed = |media_type: &str, rest: &str| read(&format!(r#"{{"mediaType":"{media_type}",{rest}}}"#), "");
    for index in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
        assert_eq!(typed(index, r#""manifests":null"#).unwrap(), index);
        assert_eq!(typed(index, r#""manifests":null,"config":null,"layers":null"#).unwrap(), index);
        assert_eq!(typed(index, r#""layers":null"#), Err(NotAManifest::Ambiguous));
    }
    assert_eq!(read(r#"{"manifests":null}"#, "").unwrap(), MediaType::OCI_INDEX);
    assert_eq!(read(r#"{"manifests":[],"layers":null}"#, "").unwrap(), MediaType::OCI_INDEX);
    assert_eq!(read(r#"{"config":{},"layers":null}"#, "").unwrap(), MediaType::OCI_MANIFEST);
    assert_eq!(
        read(r#"{"layers":[{"digest":null},null],"annotations":{"x":null}}"#, "").unwrap(),
        MediaType::OCI_MANIFEST
    );
    assert_eq!(read(r#"{"manifests":null,"layers":null}"#, ""), Err(NotAManifest::Ambiguous));
}

#[test]
fn a_foreign_layer_is_not_needed() {
    let needed = |media_type: &str, urls: &str| {
        let digest = format!("sha256:{}", "0".repeat(64));
        let layer = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1,"urls":{urls}}}"#);
        Inspected::read(format!(r#"{{"layers":[{layer}]}}"#).as_bytes(), None).unwrap().children.len()
    };
    let docker = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let oci = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    for foreign in [docker, oci] {
        assert_eq!(needed(foreign, r#"["https://a.test/layer"]"#), 0);
        assert_eq!(needed(foreign, "[]"), 1, "there is nowhere else to fetch it from");
    }
    let ordinary = "application/vnd.oci.image.layer.v1.tar+gzip";
    assert_eq!(needed(ordinary, r#"["https://a.test/layer"]"#), 1);
}

#[test]
fn t52_a_manifest_that_lists_too_much_is_refused() {
    let listing = |count: usize| {
        let body = format!(r#"{{"layers":[{}]}}"#, vec!["{}"; count].join(","));
        Inspected::read(body.as_bytes(), None).map(|inspected| inspected.shape)
    };
    assert_eq!(listing(MAX_DESCRIPTORS), Ok(Shape::Image));
    assert_eq!(listing(MAX_DESCRIPTORS + 1), Err(NotAManifest::TooMany));
}

#[test]
fn what_cannot_be_verified_or_read_is_no_manifest() {
    assert_eq!(read("<html>", "text/html"), Err(NotAManifest::NotJson));
    assert_eq!(read("[]", ""), Err(NotAManifest::NotJson));
    let listed = "[2,null,null,[],null,null,null,null,null]";
    assert_eq!(read(listed, ""), Err(NotAManifest::NotJson), "fields by position");
    assert_eq!(read(r#"{"schemaVersion":1}"#, ""), Err(NotAManifest::Schema1));
    assert_eq!(read("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"), Err(NotAManifest::Schema1));
    assert_eq!(read("{}", "text/plain"), Err(NotAManifest::Untyped));
}
