//! The files that Roadstead ships for its clients, changed only as they tell their users to change them.

use super::mirror::Mirror;

pub(crate) const CONTAINERD_DEFAULT: &str =
    include_str!("../../../deploy/clients/containerd/certs.d/_default/hosts.toml");
pub(crate) const CONTAINERD_HUB: &str = include_str!("../../../deploy/clients/containerd/certs.d/docker.io/hosts.toml");
pub(crate) const DOCKER: &str = include_str!("../../../deploy/clients/docker/daemon.json");
pub(crate) const CONTAINERS: &str = include_str!("../../../deploy/clients/podman/registries.conf");

const SHIPPED_ADDRESS: &str = "127.0.0.1:5000";

/// `hosts.toml` for `mirror`, whose authority is at `authority_path` if it has one.
pub(crate) fn hosts_toml(shipped: &str, mirror: &Mirror, authority_path: &str) -> String {
    let file = addressed(shipped, mirror);
    if mirror.authority().is_none() {
        return file;
    }
    let file = replaced(&file, "http://", "https://");
    let file = replaced(&file, "# ca = ", "ca = ");
    replaced(&file, "/etc/containerd/roadstead-ca.crt", authority_path)
}

/// `daemon.json` for `mirror`.
pub(crate) fn daemon_json(mirror: &Mirror) -> String {
    let file = addressed(DOCKER, mirror);
    if mirror.authority().is_none() {
        return file;
    }
    let file = replaced(&file, "http://", "https://");
    let mut settings: serde_json::Value = serde_json::from_str(&file).expect("daemon.json is JSON");
    let settings = settings.as_object_mut().expect("daemon.json is an object");
    settings.remove("insecure-registries").expect("daemon.json allows plain HTTP");
    serde_json::to_string(settings).expect("a JSON value can be written")
}

/// `registries.conf` for `mirror`, with `quay.io` standing for any registry that a user adds: here `authority`.
pub(crate) fn registries_conf(mirror: &Mirror, authority: &str) -> String {
    let file = addressed(CONTAINERS, mirror);
    let file = replaced(&file, "quay.io", authority);
    if mirror.authority().is_none() {
        return file;
    }
    replaced(&file, "insecure = true", "insecure = false")
}

fn addressed(shipped: &str, mirror: &Mirror) -> String {
    replaced(shipped, SHIPPED_ADDRESS, &mirror.address())
}

/// A change that changes nothing means that the file and its instructions have parted.
fn replaced(file: &str, from: &str, to: &str) -> String {
    assert!(file.contains(from), "no {from:?} in\n{file}");
    file.replace(from, to)
}
