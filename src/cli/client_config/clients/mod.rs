//! One file per family of clients: what each needs, from its own documentation.

mod bottlerocket;
mod buildkit;
mod containerd;
mod containers;
mod docker;
mod gitlab_runner;
mod kaniko;
mod openshift;
mod rancher;
mod talos;

use super::plan::{OPEN, Plan, SECRET};
use super::wanted::Wanted;
use super::{Client, merge};

/// The files of `client`; or why it cannot do what is wanted.
pub(super) fn plan(client: Client, wanted: &Wanted) -> Result<Plan, String> {
    match client {
        Client::Containerd => Ok(containerd::plan(wanted)),
        Client::Docker => docker::plan(wanted),
        Client::Podman => containers::plan(wanted, "podman, buildah and skopeo", "no restart: it is read at each pull"),
        Client::Crio => containers::plan(wanted, "CRI-O", "systemctl reload crio"),
        Client::K3s => rancher::plan(wanted, "k3s", "systemctl restart k3s (on agents: k3s-agent)"),
        Client::Rke2 => rancher::plan(wanted, "rke2", "systemctl restart rke2-server (on agents: rke2-agent)"),
        Client::Openshift => openshift::plan(wanted),
        Client::Talos => talos::plan(wanted),
        Client::Bottlerocket => bottlerocket::plan(wanted),
        Client::Buildkit => buildkit::plan(wanted),
        Client::Kaniko => kaniko::plan(wanted),
        Client::GitlabRunner => gitlab_runner::plan(wanted),
    }
}

/// The registries by name, or `*` where the client can tell the mirror which one it means, and is to have a way round it.
fn names(wanted: &Wanted) -> Vec<String> {
    if wanted.strict || wanted.named {
        wanted.authorities.iter().map(ToString::to_string).collect()
    } else {
        vec!["*".to_owned()]
    }
}

/// A string as JSON, TOML and YAML have it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The authority's certificate, and the client's own with its key, as files of these names.
fn certificates(plan: &mut Plan, wanted: &Wanted, ca: &str, certificate: &str, key: &str) {
    if let Some(text) = &wanted.ca {
        plan.file(ca, text.clone(), OPEN);
    }
    if let Some((certificate_text, key_text)) = &wanted.identity {
        plan.file(certificate, certificate_text.clone(), OPEN);
        plan.file(key, key_text.clone(), SECRET);
    }
}
