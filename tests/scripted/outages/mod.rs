//! Upstream is away: what is held is what is served.

mod ahead;
mod complete;
mod images;
mod lists;
mod whole;

use std::time::Duration;

use crate::support::mirror::Mirror;
use crate::support::upstream::Upstream;

const REPOSITORY: &str = "org/app";
/// Fails fast, and asks again at once.
const QUICK: &str = "check_timeout = \"300ms\"\nresponse_timeout = \"1s\"\nbreaker_window = \"0s\"";

/// A mirror of one upstream whose background looks at once.
async fn ahead_of_need(registry: &Upstream, lines: &str) -> Mirror {
    Mirror::builder(upstream(registry, lines)).completes().start().await
}

fn upstream(registry: &Upstream, lines: &str) -> String {
    format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n{lines}\n", registry.url())
}

/// The status of a GET by tag.
async fn tag(mirror: &Mirror, repository: &str, tag: &str) -> u16 {
    mirror.client().get(&format!("/v2/{repository}/manifests/{tag}")).await.status
}

async fn blob_status(mirror: &Mirror, repository: &str, digest: &str) -> u16 {
    mirror.client().get(&format!("/v2/{repository}/blobs/{digest}")).await.status
}

/// So long after a check, a tag is checked again.
const LATER: Duration = Duration::from_mins(2);
