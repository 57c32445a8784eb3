//! Registries of clouds, signed in to as the machine, the pod or the environment that the mirror runs in. The servers of the
//! clouds are scripted; they speak the real protocols.

mod acr;
mod aws;
mod configured;
mod ecr;
mod gar;
mod renewal;
mod secrecy;
mod signature;

use crate::support::client::Client;
use crate::support::mirror::Mirror;

/// HEAD of a blob that is not held goes upstream each time.
fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// One upstream under its name, which is the default, at a URL on loopback.
fn config(name: &str, url: &str, lines: &str) -> String {
    format!("[upstreams.\"{name}\"]\nurl = \"{url}\"\n{lines}\n")
}

fn default_authority(name: &str) -> String {
    format!("default_authority = \"{name}\"")
}

async fn ready(mirror: &Mirror) -> String {
    Client::new(mirror.admin).get("/readyz").await.text()
}
