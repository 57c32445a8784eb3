//! podman: `registries.conf` sends each registry's names to the mirror, under a path that starts with its name.

use std::path::Path;
use std::process::Command;

use super::{Client, reference, with_etc_containers, with_etc_containers_and};
use crate::support::image::Image;
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::process;

pub(crate) struct Podman {
    machine: Machine,
}

impl Client for Podman {
    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        Self { machine: with_etc_containers(parent, name, mirror) }
    }

    fn pull(&self, authority: &str, image: &Image) -> String {
        let reference = reference(authority, image);
        process::run("podman", self.machine.folder(), self.podman().args(["pull", &reference]));
        let mut inspect = self.podman();
        inspect.args(["image", "inspect", "--format", "{{.Digest}}", &reference]);
        process::run("podman", self.machine.folder(), &mut inspect).trim().to_owned()
    }
}

impl Podman {
    /// With no way round the mirror.
    pub(crate) fn strict(parent: &Path, name: &str, mirror: &Mirror) -> Self {
        Self { machine: with_etc_containers_and(parent, name, mirror, &["--strict"]) }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.machine.folder()
    }

    pub(crate) fn pull_command(&self, reference: &str) -> Command {
        let mut command = self.podman();
        command.args(["pull", reference]);
        command
    }

    pub(crate) fn podman(&self) -> Command {
        let mut command = self.machine.command("podman");
        command
            .arg(format!("--root={}", self.machine.path("p-root")))
            .arg(format!("--runroot={}", self.machine.path("p-run")))
            .arg(format!("--tmpdir={}", self.machine.path("p-tmp")))
            .args(["--storage-driver=vfs", "--events-backend=none", "--cgroup-manager=cgroupfs"]);
        command
    }
}
