//! containerd: a folder of `hosts.toml`, read at each pull. It tells the mirror by `ns` which registry it wants.

use std::fmt::Write as _;

use roadstead::oci::Authority;

use super::merge::{CONTAINERD_HOSTS, Merge};
use super::{OPEN, Plan, SECRET, Wanted, certificates, quoted};
use crate::cli::client_config::ContainerdForm;

const HOSTS: &str = "etc/containerd/certs.d";

pub(super) fn plan(wanted: &Wanted) -> Plan {
    let mut plan = Plan::default();
    hosts(&mut plan, wanted, HOSTS, wanted.strict || wanted.named);
    let (version, plugin) = match wanted.containerd {
        ContainerdForm::One => (2, "io.containerd.grpc.v1.cri"),
        ContainerdForm::Two => (3, "io.containerd.cri.v1.images"),
    };
    let config =
        format!("version = {version}\n\n[plugins.\"{plugin}\".registry]\nconfig_path = \"{CONTAINERD_HOSTS}\"\n");
    plan.merged("etc/containerd/config.toml", config, OPEN, Merge::Containerd);
    plan.then(
        "if config.toml has changed: systemctl restart containerd (containers go on). Later changes need no restart",
    );
    plan.then(format!("by hand: ctr images pull --hosts-dir {CONTAINERD_HOSTS} NAME"));
    if !(wanted.strict || wanted.named) {
        plan.then(format!("a folder of {CONTAINERD_HOSTS} that has a registry's name comes before _default"));
    }
    plan
}

/// The folders with `hosts.toml`: one for each registry, or `_default` for all that there are.
pub(super) fn hosts(plan: &mut Plan, wanted: &Wanted, folder: &str, by_registry: bool) {
    if by_registry {
        return each(plan, wanted, folder, &wanted.authorities);
    }
    plan.file(format!("{folder}/_default/hosts.toml"), hosts_toml(wanted, None), mode(wanted));
    keys(plan, wanted, folder);
}

/// What the files name: `..` is the folder that all of them are in.
fn keys(plan: &mut Plan, wanted: &Wanted, folder: &str) {
    let [ca, certificate, key] =
        ["ca.crt", "client.crt", "client.key"].map(|name| format!("{folder}/roadstead-{name}"));
    certificates(plan, wanted, &ca, &certificate, &key);
}

/// The folders of these registries alone.
pub(super) fn each(plan: &mut Plan, wanted: &Wanted, folder: &str, authorities: &[Authority]) {
    for authority in authorities {
        plan.file(format!("{folder}/{authority}/hosts.toml"), hosts_toml(wanted, Some(authority)), mode(wanted));
    }
    keys(plan, wanted, folder);
}

/// Headers may be secrets.
fn mode(wanted: &Wanted) -> u32 {
    if wanted.headers.is_empty() { OPEN } else { SECRET }
}

fn hosts_toml(wanted: &Wanted, authority: Option<&Authority>) -> String {
    let url = quoted(&wanted.mirror.url());
    let mut text = String::new();
    let mut settings = String::from("capabilities = [\"pull\", \"resolve\"]\n");
    if wanted.ca.is_some() {
        settings.push_str("ca = \"../roadstead-ca.crt\"\n");
    }
    if wanted.identity.is_some() {
        settings.push_str("client = [[\"../roadstead-client.crt\", \"../roadstead-client.key\"]]\n");
    }
    if let (true, Some(authority)) = (wanted.strict, authority) {
        let _ =
            write!(text, "# Made by `roadstead client-config`: {authority} through Roadstead, and no other way.\n\n");
        // `server` is asked last: the mirror once more. containerd 1.6 reads no file without a `[host]`: it would go to the
        // registry.
        let _ = write!(text, "server = {url}\n{settings}\n[host.{url}]\n{settings}");
    } else if let Some(authority) = authority {
        let server = if authority.as_str() == "docker.io" { "registry-1.docker.io" } else { authority.as_str() };
        let _ = write!(
            text,
            "# Made by `roadstead client-config`: {authority} through Roadstead; when that fails, from `server`.\n\n"
        );
        let _ = write!(text, "server = \"https://{server}\"\n\n[host.{url}]\n{settings}");
    } else {
        text.push_str("# Made by `roadstead client-config`: every registry through Roadstead, which is told (`?ns=`) which one is meant.\n");
        text.push_str("# When it fails, or does not serve that registry, containerd goes to the registry itself.\n\n");
        let _ = write!(text, "[host.{url}]\n{settings}");
    }
    if !wanted.headers.is_empty() {
        let _ = write!(text, "\n[host.{url}.header]\n");
        for (name, value) in &wanted.headers {
            let _ = writeln!(text, "{} = {}", quoted(name), quoted(value));
        }
    }
    text
}
