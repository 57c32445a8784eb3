//! Facts outlive the index: what is kept beside the blobs, and what is made of it.

mod as_root;
pub(crate) mod backup;
mod log;
mod loss;
mod outage;
mod pins;

use std::path::{Path, PathBuf};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::{artifact, image};
use crate::support::mirror::{Mirror, Stopped, files_below};
use crate::support::upstream::*;

/// Two registries, one of them public as a whole, with an image each; one image is signed.
async fn held() -> (Upstream, Mirror, Vec<String>) {
    let upstream = Upstream::start().await;
    let app = image(&[blob(100_000, 1), blob(500, 2)]);
    upstream.publish("org/app", "1", &app);
    upstream.publish("org/app", "2", &app);
    upstream.put_referrer("org/app", &artifact(&app, "application/vnd.test.signature", blob(10, 3)));
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{url}\"\n[upstreams.\"quay.io\"]\nurl = \"{url}\"\npublic = true\n",
        url = upstream.url()
    );
    let mirror = Mirror::start(toml).await;
    let mut paths = Vec::new();
    for ns in ["docker.io", "quay.io"] {
        for tag in ["1", "2"] {
            paths.push(format!("/v2/org/app/manifests/{tag}?ns={ns}"));
        }
        paths.push(format!("/v2/org/app/manifests/{}?ns={ns}", app.digest));
        paths.push(format!("/v2/org/app/tags/list?ns={ns}"));
        paths.push(format!("/v2/org/app/referrers/{}?ns={ns}", app.digest));
        for part in &app.blobs {
            paths.push(format!("/v2/org/app/blobs/{}?ns={ns}", part.digest));
        }
    }
    for path in &paths {
        let answer = mirror.client().get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    // Granted to all of quay.io, wherever it is asked for.
    paths.push(format!("/v2/other/name/blobs/{}?ns=quay.io", app.layers()[0].digest));
    eventually("all is stored", async || {
        let stored = files_below(&mirror.storage().join("blobs")).len();
        let partial = files_below(&mirror.storage().join("partial")).len();
        // The manifest, its config, two layers.
        (stored, partial) == (4, 0)
    })
    .await;
    (upstream, mirror, paths)
}

/// The answers of these paths, without headers that tell the time.
async fn answers(client: &Client, paths: &[String]) -> Vec<(String, u16, String, String, String)> {
    let mut all = Vec::new();
    for path in paths {
        let answer = client.get(path).await;
        let (kind, cache) = (answer.header("content-type").to_owned(), answer.header("cache-status").to_owned());
        all.push((path.clone(), answer.status, kind, cache, sha256(&answer.body)));
    }
    all
}

/// The same storage, in a life that began with `spoil`, answers all as before, with no upstream there.
async fn serves_as_before(upstream: Upstream, mirror: Mirror, paths: &[String], spoil: impl FnOnce(&Path)) -> Mirror {
    let before = answers(&mirror.client(), paths).await;
    assert!(before.iter().all(|(_, status, _, cache, _)| *status == 200 && cache.contains("hit")), "{before:?}");
    let stopped = mirror.stop().await;
    upstream.stop().await;
    spoil(&stopped.storage());
    let mirror = stopped.start().await;
    assert_eq!(answers(&mirror.client(), paths).await, before);
    mirror
}

pub(crate) fn lose_the_index(storage: &Path) {
    std::fs::remove_file(storage.join("index.redb")).unwrap();
}

/// Journals and snapshots, in the order of their names.
fn files(stopped: &Stopped, prefix: &str) -> Vec<PathBuf> {
    let mut files = files_below(&stopped.storage().join("facts"));
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    files.sort();
    files
}

/// A line as the journal has it.
fn sealed(json: &str) -> String {
    format!("{} {json}\n", &sha256(json.as_bytes())["sha256:".len()..][..8])
}
