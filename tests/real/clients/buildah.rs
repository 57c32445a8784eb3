//! buildah: it reads the same files as podman.

use std::path::Path;
use std::process::Command;

use super::{Client, reference, with_etc_containers};
use crate::support::image::Image;
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::process;

pub(crate) struct Buildah {
    machine: Machine,
}

impl Client for Buildah {
    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        Self { machine: with_etc_containers(parent, name, mirror) }
    }

    fn pull(&self, authority: &str, image: &Image) -> String {
        let reference = reference(authority, image);
        process::run("buildah", self.machine.folder(), self.buildah().args(["pull", &reference]));
        let mut images = self.buildah();
        images.args(["images", "--format", "{{.Digest}}", &reference]);
        process::run("buildah", self.machine.folder(), &mut images).trim().to_owned()
    }
}

impl Buildah {
    pub(crate) fn folder(&self) -> &Path {
        self.machine.folder()
    }

    pub(crate) fn buildah(&self) -> Command {
        let mut command = self.machine.command("buildah");
        command
            .arg(format!("--root={}", self.machine.path("b-root")))
            .arg(format!("--runroot={}", self.machine.path("b-run")))
            .arg("--storage-driver=vfs");
        command
    }
}
