//! Archives of others, and of strangers.

use std::io::Write as _;

use super::{app, assert_nothing_of, assert_served, at, island, lines, text};
use crate::facts::backup::said;
use crate::support::image::Image;
use crate::support::mirror::files_below;
use crate::support::upstream::*;

/// A file of an archive.
pub(super) fn entry(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

pub(super) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', "", content)
}

pub(super) fn blob_file(digest: &str, content: &[u8]) -> Vec<u8> {
    file(&format!("blobs/{}", digest.replace(':', "/")), content)
}

pub(super) fn archive(files: &[Vec<u8>]) -> Vec<u8> {
    [files.concat(), vec![0; 1024]].concat()
}

/// The blobs of an image, its manifest among them.
pub(super) fn blobs(image: &Image) -> Vec<Vec<u8>> {
    let mut files = vec![blob_file(&image.digest, &image.manifest)];
    files.extend(image.blobs.iter().map(|blob| blob_file(&blob.digest, &blob.content.to_bytes())));
    files
}

pub(super) fn index(images: &[(&Image, &str)]) -> Vec<u8> {
    let manifests: Vec<_> = images
        .iter()
        .map(|(image, name)| {
            let mut descriptor = image.descriptor();
            descriptor["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": name });
            descriptor
        })
        .collect();
    file("index.json", serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes())
}

async fn import(mirror: &crate::support::mirror::Mirror, bytes: &[u8], more: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    let mut arguments = vec!["import", "--json"];
    arguments.extend(more);
    arguments.push(text(&path));
    at(mirror, &arguments).await
}

#[tokio::test]
async fn layouts_of_others_come_in_whatever_their_order_compression_and_directory() {
    let (one, two) = (app(1), app(5));
    let island = island().await;
    // The index at the end, as `docker save` writes it; in a directory, as people pack them; gzipped.
    let mut files = blobs(&one);
    files.push(index(&[(&one, "docker.io/org/app:1")]));
    files.push(file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive(&files)).unwrap();
    let done = import(&island, &gzip.finish().unwrap(), &[]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/app", "1", &one).await;

    // A tag alone names nothing, until a name is given.
    let mut files = vec![index(&[(&two, "2.0")])];
    files.extend(blobs(&two));
    let done = import(&island, &archive(&files), &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert_eq!(lines(&done).0[0]["outcome"], "refused");
    assert_nothing_of(&island, "org/two", &two).await;
    let done = import(&island, &archive(&files), &["--as", "docker.io/org/two"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/two", "2.0", &two).await;
    // A repository of any depth, and a tag that looks like one.
    let done = import(&island, &archive(&files), &["--as", "docker.io/a/b/c/d/e:f"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "a/b/c/d/e", "f", &two).await;
}

#[tokio::test]
async fn docker_save_of_the_old_form_comes_in_with_its_links() {
    let (config, layer) = (blob(300, 1), blob(2_000_000, 2));
    let config_digest = config.sha256();
    let hex = config_digest.strip_prefix("sha256:").unwrap();
    let manifest = serde_json::json!([{
        "Config": format!("{hex}.json"),
        "RepoTags": ["org/saved:1", "docker.io/org/saved:one"],
        "Layers": ["a/layer.tar", "b/layer.tar"],
    }]);
    let files = [
        file(&format!("{hex}.json"), &config.to_bytes()),
        entry("a/", b'5', "", b""),
        file("a/VERSION", b"1.0"),
        file("a/layer.tar", &layer.to_bytes()),
        entry("b/layer.tar", b'2', "../a/layer.tar", b""),
        file("manifest.json", manifest.to_string().as_bytes()),
        file("repositories", b"{}"),
    ];
    let island = island().await;
    let done = import(&island, &archive(&files), &[]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(lines(&done).0.len(), 2);
    let client = island.client();
    let manifest = client.get("/v2/org/saved/manifests/one").await;
    assert_eq!(client.get("/v2/org/saved/manifests/1").await.body, manifest.body);
    let layers = manifest.json()["layers"].as_array().unwrap().clone();
    assert_eq!(layers[0], layers[1]);
    let got = client.get(&format!("/v2/org/saved/blobs/{}", layers[0]["digest"].as_str().unwrap())).await;
    assert_eq!(got.body, layer.to_bytes());
    assert_eq!(manifest.json()["config"]["digest"], config_digest);
}

#[tokio::test]
async fn a_dir_of_skopeo_comes_in_by_the_name_it_is_given() {
    let app = app(1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.json"), &app.manifest).unwrap();
    std::fs::write(folder.path().join("version"), "Directory Transport Version: 1.1\n").unwrap();
    for blob in &app.blobs {
        std::fs::write(folder.path().join(&blob.digest[7..]), blob.content.to_bytes()).unwrap();
    }
    let island = island().await;
    let done = at(&island, &["import", text(folder.path()), "--as", "docker.io/org/app:9"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&island, "org/app", "9", &app).await;
}

/// T75: nothing is written but blobs under their digests.
#[tokio::test]
async fn t75_names_and_links_of_an_archive_lead_nowhere() {
    let app = app(1);
    let island = island().await;
    let before = files_below(island.storage().parent().unwrap());
    let mut files = vec![
        index(&[(&app, "docker.io/org/app:1")]),
        file("../../escaped", b"x"),
        file("/tmp/roadstead-escaped", b"x"),
        entry("blobs/sha256", b'2', "/tmp", b""),
        entry("c/layer.tar", b'1', "/etc/passwd", b""),
        entry("d/layer.tar", b'2', "../../../../etc/passwd", b""),
        entry("fifo", b'6', "", b""),
    ];
    files.extend(blobs(&app));
    let done = import(&island, &archive(&files), &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("leads out of the archive"), "{}", said(&done));
    assert_served(&island, "org/app", "1", &app).await;
    let new: Vec<_> =
        files_below(island.storage().parent().unwrap()).into_iter().filter(|path| !before.contains(path)).collect();
    let new: Vec<_> = new.into_iter().filter(|path| !path.starts_with(island.storage().join("facts"))).collect();
    assert!(new.iter().all(|path| path.starts_with(island.storage().join("blobs"))), "{new:?}");
    assert_eq!(new.len(), 4);
    assert!(!std::path::Path::new("/tmp/roadstead-escaped").exists());

    // A layer that is a link out of the archive is no layer.
    let saved = serde_json::json!([{"Config": "d/layer.tar", "RepoTags": ["org/x:1"], "Layers": ["d/layer.tar"]}]);
    let files = [entry("d/layer.tar", b'2', "/etc/passwd", b""), file("manifest.json", saved.to_string().as_bytes())];
    let done = import(&island, &archive(&files), &[]).await;
    assert_eq!((done.status.code(), lines(&done).0[0]["outcome"].as_str()), (Some(1), Some("missing")));
}

/// T76: a bundle that names content which it does not bring opens it to nobody.
#[tokio::test]
async fn t76_a_bundle_opens_nothing_that_it_does_not_bring() {
    let registry = Upstream::start().await;
    let private = app(1);
    registry.publish("org/private", "1", &private);
    let toml = format!(
        "[upstreams.\"quay.io\"]\nurl = \"{}\"\n[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n",
        registry.url()
    );
    let mirror = crate::support::mirror::Mirror::start(toml).await;
    super::pull(&mirror, "quay.io/org/private", "1", &private).await;
    let files = [index(&[(&private, "docker.io/org/evil:1")]), blob_file(&private.digest, &private.manifest)];
    let done = import(&mirror, &archive(&files), &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert_eq!(lines(&done).0[0]["outcome"], "missing");
    assert_nothing_of(&mirror, "org/evil", &private).await;
}

/// T77: what is wrong is refused alone, with where it is, and leaves nothing.
#[tokio::test]
async fn t77_a_wrong_digest_a_missing_blob_and_a_cut_archive_are_refused_alone() {
    let (good, wrong, lacking, unread) = (app(1), app(5), app(9), app(13));
    let names = [
        (&good, "docker.io/org/good:1"),
        (&wrong, "docker.io/org/wrong:1"),
        (&lacking, "docker.io/org/lacking:1"),
        (&unread, "docker.io/org/unread:1"),
        (&good, "elsewhere.example/org/good:1"),
    ];
    let mut files = vec![index(&names)];
    files.extend(blobs(&good));
    files.push(blob_file(&wrong.digest, &wrong.manifest));
    files.extend(wrong.blobs.iter().map(|blob| {
        let mut bytes = blob.content.to_bytes().to_vec();
        bytes[0] ^= 1;
        blob_file(&blob.digest, &bytes)
    }));
    files.extend(blobs(&lacking).into_iter().take(2));
    files.extend(blobs(&unread));
    let mut bytes = archive(&files);
    bytes.truncate(bytes.len() - 3000);
    let island = island().await;
    let done = import(&island, &bytes, &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let (items, last) = lines(&done);
    let outcomes: Vec<_> = items.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["done", "failed", "missing", "missing", "refused"], "{items:?}");
    assert!(items[1]["problem"].as_str().unwrap().contains(&wrong.blobs[0].digest), "{items:?}");
    assert!(items[2]["problem"].as_str().unwrap().contains(&lacking.blobs[1].digest), "{items:?}");
    assert!(last["problem"].as_str().unwrap().contains("ends in the middle"), "{last}");
    assert_served(&island, "org/good", "1", &good).await;
    for (repository, image) in [("org/wrong", &wrong), ("org/lacking", &lacking), ("org/unread", &unread)] {
        assert_nothing_of(&island, repository, image).await;
    }
    let stored = files_below(&island.storage().join("blobs")).len();
    assert_eq!(stored, 4, "blobs that no image needs are removed again");
    assert!(!island.storage().join("STAGED").exists());
}

/// T79: a bundle that does not fit is refused before anything of it is stored, where it says what it brings.
#[tokio::test]
async fn t79_a_bundle_that_does_not_fit_leaves_nothing() {
    let (_registry, mirror, ..) = super::site().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar");
    assert!(at(&mirror, &["export", "--all", "--output", text(&path)]).await.status.success());
    let toml = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";
    let small =
        crate::support::mirror::Mirror::builder(toml).storage("max_size = \"250KB\"\nmin_free = 0").start().await;
    let done = at(&small, &["import", "--json", text(&path)]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("there is no room"), "{}", said(&done));
    assert_eq!(files_below(&small.storage().join("blobs")).len(), 0);

    // One that does not say what it brings: what fits comes in.
    let (small_one, large) = (app(60), app(70));
    let small_one = crate::support::image::image(&[small_one.layers()[1].content.clone()]);
    let large = crate::support::image::image(&[large.layers()[0].content.clone(), blob(120_000, 3)]);
    let mut files = vec![index(&[(&small_one, "docker.io/org/small:1"), (&large, "docker.io/org/large:1")])];
    files.extend(blobs(&large));
    files.extend(blobs(&small_one));
    let done = import(&small, &archive(&files), &[]).await;
    let (items, _) = lines(&done);
    let outcomes: Vec<_> = items.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!((done.status.code(), outcomes), (Some(1), vec!["done", "failed"]), "{items:?}");
    assert!(items[1]["problem"].as_str().unwrap().contains("no room"), "{items:?}");
    assert_served(&small, "org/small", "1", &small_one).await;
    assert_nothing_of(&small, "org/large", &large).await;
    assert_eq!(files_below(&small.storage().join("blobs")).len(), 3);
}
