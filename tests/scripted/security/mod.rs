//! Attacks from either side. The number of a threat in docs/SECURITY-THREATS.md is in the name of its tests: `t2_…`.

mod answers;
mod as_root;
mod bounds;
mod breaker;
mod challenges;
mod claims;
mod credentials;
mod deadlines;
mod egress;
mod endpoints;
mod foreign_layers;
mod front_door;
mod headers;
mod hidden;
mod json;
mod kept_connections;
mod lanes;
mod lockout;
mod odd_answers;
mod proxies;
mod public;
mod quotes;
mod realms;
mod rebinding;
mod redirects;
mod refused_logins;
mod room;
mod rows;
mod second_tries;
mod secrecy;
mod secrets;
mod signed_urls;
mod tls;
mod tokens;
mod wildcard;

use crate::support::image::{Image, image};
use crate::support::upstream::{Upstream, blob};

/// `docker.io` at this URL, with more lines in its table.
fn hub(url: impl std::fmt::Display, lines: &str) -> String {
    format!("[upstreams.\"docker.io\"]\nurl = \"{url}\"\n{lines}\n")
}

/// An image of one layer as `library/app:v1`.
fn publish_app(upstream: &Upstream) -> Image {
    let app = image(&[blob(100_000, 1)]);
    upstream.publish("library/app", "v1", &app);
    app
}

const APP: &str = "/v2/library/app/manifests/v1";

/// HEAD of a blob that is not held goes upstream each time, and leaves nothing behind.
fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}
