//! The clients, each set up by `roadstead client-config`.

mod buildah;
mod containerd;
mod docker;
mod podman;
mod skopeo;

use std::path::Path;

pub(crate) use buildah::Buildah;
pub(crate) use containerd::Containerd;
pub(crate) use docker::Docker;
pub(crate) use podman::Podman;
pub(crate) use skopeo::Skopeo;

use crate::support::client_files;
use crate::support::image::Image;
use crate::support::machine::Machine;
use crate::support::mirror::Mirror;
use crate::support::registry::REPOSITORY;
use crate::support::upstreams::{HUB, SECURE};

/// A client on a machine that has pulled nothing yet.
pub(crate) trait Client: Sized {
    /// Whether it fetches the images for other platforms too.
    const EVERY_PLATFORM: bool = false;

    /// Sets the client up for `mirror` on a new machine `name` in `parent`.
    fn set_up(parent: &Path, name: &str, mirror: &Mirror) -> Self;

    /// Pulls `authority`'s image, and says by which digest the client knows it now.
    fn pull(&self, authority: &str, image: &Image) -> String;
}

/// The name that a user types.
pub(crate) fn reference(authority: &str, image: &Image) -> String {
    format!("{authority}/{REPOSITORY}:{}", image.tag)
}

/// A machine with its own `/etc/containers`, which podman, buildah and skopeo share.
fn with_etc_containers(parent: &Path, name: &str, mirror: &Mirror) -> Machine {
    with_etc_containers_and(parent, name, mirror, &[])
}

/// As a user makes it who adds these arguments.
fn with_etc_containers_and(parent: &Path, name: &str, mirror: &Mirror, more: &[&str]) -> Machine {
    let mut machine = Machine::new(parent, name);
    machine.owns_folder("etc/containers");
    machine.write("etc/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    let more = [&["--authority", HUB, "--authority", SECURE], more].concat();
    client_files::lay_out("podman", &machine, mirror, &more);
    machine
}
