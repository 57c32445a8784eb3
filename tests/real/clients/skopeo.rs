//! skopeo, copying images for every platform to files, which are then compared bit by bit.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Client, reference, with_etc_containers};
use crate::support::image::{self, Dialect, Image};
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::process;

pub(crate) struct Skopeo {
    machine: Machine,
}

impl Client for Skopeo {
    const EVERY_PLATFORM: bool = true;

    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        Self { machine: with_etc_containers(parent, name, mirror) }
    }

    fn pull(&self, authority: &str, image: &Image) -> String {
        let copy = format!("{authority}-{}", image.tag);
        // An OCI layout cannot hold Docker's media types: skopeo would write other manifests than it pulled.
        let kind = match image.dialect {
            Dialect::Oci => "oci",
            Dialect::Docker => "dir",
        };
        let mut command = self.machine.command("skopeo");
        command
            .args(["copy", "--all", "--preserve-digests", "--digestfile", &self.machine.path("digest")])
            .arg(format!("docker://{}", reference(authority, image)))
            .arg(format!("{kind}:{}", self.machine.path(&copy)));
        process::run("skopeo", self.machine.folder(), &mut command);
        let mut held = HashSet::new();
        digests(&self.machine.folder().join(copy), &mut held);
        for artifact in image.manifests().chain(image.blobs()) {
            assert!(
                held.contains(&artifact.digest),
                "skopeo's copy has no {} {}",
                artifact.media_type,
                artifact.digest
            );
        }
        let digest = fs::read_to_string(self.machine.path("digest")).expect("skopeo wrote the digest");
        digest.trim().to_owned()
    }
}

impl Skopeo {
    /// Runs it with these arguments, and gives what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        process::run("skopeo", self.machine.folder(), self.machine.command("skopeo").args(arguments))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.machine.folder()
    }

    pub(crate) fn skopeo(&self) -> Command {
        self.machine.command("skopeo")
    }
}

/// Adds the digest of each file below `folder`, computed anew.
fn digests(folder: &Path, held: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("a copy is readable") {
        let path = entry.expect("a copy is readable").path();
        if path.is_dir() {
            digests(&path, held);
        } else {
            held.insert(image::digest(&fs::read(path).expect("a copy is readable")));
        }
    }
}
