//! Images that real clients unpack: layers are tar files, and the configuration names them by their `diff_ids`.

use std::env::consts;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::process;
use super::program;

/// Whose media types an image has; registries still hold both kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Oci,
    Docker,
}

pub(crate) struct Artifact {
    pub(crate) media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

/// The content behind one tag: an image, or an index of images for several platforms.
pub(crate) struct Image {
    pub(crate) tag: &'static str,
    pub(crate) dialect: Dialect,
    /// The image for the machine that the tests run on comes first.
    pub(crate) variants: Vec<Variant>,
    pub(crate) index: Option<Artifact>,
}

pub(crate) struct Variant {
    pub(crate) manifest: Artifact,
    pub(crate) blobs: Vec<Artifact>,
    architecture: &'static str,
}

/// Bytes of random content in a layer, and whether it is compressed.
type Layer = (usize, bool);

/// One layer smaller and two larger than what a mirror may hold back until it has proven the digest.
const USUAL_LAYERS: &[Layer] = &[(2_000, true), (300_000, true), (100_000, true)];
const FOREIGN: &str = "s390x";

impl Image {
    /// An image for this machine. `name` decides its content: two names, two images.
    pub(crate) fn single(folder: &Path, dialect: Dialect, tag: &'static str, name: &str) -> Self {
        Self::above(folder, dialect, tag, name, name)
    }

    /// One whose first layer is that of the image called `base`.
    pub(crate) fn above(folder: &Path, dialect: Dialect, tag: &'static str, name: &str, base: &str) -> Self {
        let variant = Variant::new(folder, dialect, (name, base), native(), USUAL_LAYERS);
        Self { tag, dialect, variants: vec![variant], index: None }
    }

    /// An index of two images: for this machine and for another kind.
    pub(crate) fn index(folder: &Path, dialect: Dialect, tag: &'static str, name: &str) -> Self {
        let variants: Vec<Variant> = [native(), FOREIGN]
            .map(|architecture| Variant::new(folder, dialect, (name, name), architecture, USUAL_LAYERS))
            .into();
        let manifests: Vec<Value> = variants.iter().map(Variant::entry).collect();
        let media_type = match dialect {
            Dialect::Oci => "application/vnd.oci.image.index.v1+json",
            Dialect::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let index = document(media_type, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}));
        Self { tag, dialect, variants, index: Some(index) }
    }

    /// An image for this machine with one layer of `size` bytes, not compressed.
    pub(crate) fn big(folder: &Path, tag: &'static str, name: &str, size: usize) -> Self {
        let variant = Variant::new(folder, Dialect::Oci, (name, name), native(), &[(size, false)]);
        Self { tag, dialect: Dialect::Oci, variants: vec![variant], index: None }
    }

    /// The digest that the tag stands for.
    pub(crate) fn digest(&self) -> &str {
        &self.index.as_ref().unwrap_or(&self.native().manifest).digest
    }

    pub(crate) fn native(&self) -> &Variant {
        self.variants.first().expect("an image has a variant for this machine")
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Artifact> {
        self.variants.iter().flat_map(|variant| &variant.blobs)
    }

    /// In the order in which a registry takes them: what the tag names comes last.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Artifact> {
        self.variants.iter().map(|variant| &variant.manifest).chain(&self.index)
    }
}

impl Variant {
    fn new(
        folder: &Path,
        dialect: Dialect,
        (name, base): (&str, &str),
        architecture: &'static str,
        layers: &[Layer],
    ) -> Self {
        let [name, base] = [name, base].map(|name| format!("{name} on {architecture}"));
        let (diff_ids, layers): (Vec<String>, Vec<Artifact>) = layers
            .iter()
            .enumerate()
            .map(|(number, layer)| {
                let whose = if number == 0 { &base } else { &name };
                pack(folder, dialect, &format!("layer {number} of {whose}"), *layer)
            })
            .unzip();
        let history: Vec<Value> = layers.iter().map(|_| json!({"created_by": name})).collect();
        let config_type = match dialect {
            Dialect::Oci => "application/vnd.oci.image.config.v1+json",
            Dialect::Docker => "application/vnd.docker.container.image.v1+json",
        };
        let config = document(
            config_type,
            &json!({
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["/app/none"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": history,
            }),
        );
        let manifest_type = match dialect {
            Dialect::Oci => "application/vnd.oci.image.manifest.v1+json",
            Dialect::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        };
        let manifest = document(
            manifest_type,
            &json!({
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": descriptor(&config),
                "layers": layers.iter().map(descriptor).collect::<Vec<_>>(),
            }),
        );
        let blobs = std::iter::once(config).chain(layers).collect();
        Self { manifest, blobs, architecture }
    }

    /// How an index names it.
    fn entry(&self) -> Value {
        let Artifact { media_type, digest, bytes } = &self.manifest;
        let platform = json!({"architecture": self.architecture, "os": "linux"});
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "platform": platform})
    }
}

/// Packs one layer; returns the digest of its tar file beside it.
fn pack(folder: &Path, dialect: Dialect, name: &str, (size, compressed): Layer) -> (String, Artifact) {
    let folder = tempfile::Builder::new().prefix("layer-").tempdir_in(folder).expect("a work folder is writable");
    let folder = folder.path();
    let app = folder.join("app");
    fs::create_dir(&app)
        .and_then(|()| fs::write(app.join(name.replace(' ', "-")), name))
        .and_then(|()| fs::write(app.join(format!("{size}.bin")), noise(name, size)))
        .expect("a work folder is writable");
    // Everything that could differ from run to run is fixed: equal names make equal digests.
    let mut tar = process::command(program::find("tar"));
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=a+rX"]);
    process::run("tar", folder, tar.arg("-C").arg(folder).args(["-cf", "layer.tar", "app"]).current_dir(folder));
    let read = |name: &str| fs::read(folder.join(name)).expect("tar and gzip wrote their files");
    let plain = read("layer.tar");
    let diff_id = digest(&plain);
    let bytes = if compressed {
        let mut gzip = process::command(program::find("gzip"));
        process::run("gzip", folder, gzip.args(["--no-name", "layer.tar"]).current_dir(folder));
        read("layer.tar.gz")
    } else {
        plain
    };
    let media_type = match (dialect, compressed) {
        (Dialect::Oci, true) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (Dialect::Oci, false) => "application/vnd.oci.image.layer.v1.tar",
        (Dialect::Docker, true) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (Dialect::Docker, false) => "application/vnd.docker.image.rootfs.diff.tar",
    };
    (diff_id, Artifact { media_type, digest: digest(&bytes), bytes })
}

/// Bytes that do not compress, the same ones for the same name.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let seed = Sha256::digest(name);
    let mut state = seed.iter().take(8).fold(0_u64, |state, &byte| state << 8 | u64::from(byte)) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn document(media_type: &'static str, value: &Value) -> Artifact {
    let bytes = serde_json::to_vec(value).expect("a JSON value can be written");
    Artifact { media_type, digest: digest(&bytes), bytes }
}

fn descriptor(artifact: &Artifact) -> Value {
    json!({"mediaType": artifact.media_type, "digest": artifact.digest, "size": artifact.bytes.len()})
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// This machine's architecture in the words of images.
fn native() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
