//! What an operator has blocked is given to nobody, however it is asked for.

mod answers;
mod durable;
mod reach;
mod running;
mod said;

use http::Method;

use crate::looking::over_socket;
use crate::support::client::Answer;
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// `org/app:1` and `org/tool:1`, which share a layer, both held.
struct Site {
    registry: Upstream,
    mirror: Mirror,
    app: Image,
    tool: Image,
}

impl Site {
    async fn start() -> Self {
        let registry = Upstream::start().await;
        let (app, tool) = (image(&[blob(10_000, 1), blob(300_000, 2)]), image(&[blob(10_000, 1), blob(4000, 3)]));
        registry.publish("org/app", "1", &app);
        registry.publish("org/tool", "1", &tool);
        let mirror = Mirror::of("docker.io", registry.url()).await;
        mirror.pull_whole("org/app", "1").await;
        mirror.pull_whole("org/tool", "1").await;
        Self { registry, mirror, app, tool }
    }

    /// The layer of `app` that `tool` has, too.
    fn shared(&self) -> &str {
        &self.app.layers()[0].digest
    }

    /// The layer that only `app` has.
    fn own(&self) -> &str {
        &self.app.layers()[1].digest
    }

    async fn status(&self, path: &str) -> u16 {
        self.mirror.client().get(path).await.status
    }
}

fn manifest(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

fn layer(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

async fn block(mirror: &Mirror, what: &str) {
    let (status, blocks) =
        over_socket(mirror, "POST", &format!("blocks?block={what}&reason=bad+news"), &().into()).await;
    assert_eq!(status, 200, "{what}: {blocks}");
}

async fn unblock(mirror: &Mirror, what: &str) {
    let (status, blocks) = over_socket(mirror, "DELETE", &format!("blocks?block={what}"), &().into()).await;
    assert_eq!(status, 200, "{what}: {blocks}");
}

/// A refusal by a block, with its reason.
fn is_refused(answer: &Answer) -> bool {
    let says = |words: &str| answer.text().contains(words);
    answer.status == 403 && answer.code() == "DENIED" && says("blocked here") && says(": bad news")
}

/// Asks for it in every way there is; all of them must be refused.
async fn refused_in_every_way(mirror: &Mirror, path: &str) {
    let client = mirror.client();
    assert!(is_refused(&client.get(path).await), "{path}");
    assert_eq!(client.head(path).await.status, 403, "{path}");
    let digest = path.rsplit('/').next().unwrap();
    for header in [("range", "bytes=0-0"), ("range", "bytes=0-0,5-5"), ("if-none-match", &*format!("\"{digest}\""))] {
        let answer = client.send(Method::GET, path, &[header]).await;
        assert!(is_refused(&answer), "{path} {header:?}: {}", answer.status);
    }
}
