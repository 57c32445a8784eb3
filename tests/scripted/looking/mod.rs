//! Looking at what is held, and changing it, by commands and by the API.

mod activity;
mod api;
mod change;
mod coverage;
mod long;
mod look;
mod reach;
mod who;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::operations::program::{run, stderr};
use crate::support::client::Client;
use crate::support::image::{Image, image, index};
use crate::support::mirror::{Mirror, quiet};
use crate::support::upstream::*;

/// A command to its end, while the mirror in this process goes on.
pub(crate) async fn roadstead(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let command = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    tokio::task::spawn_blocking(command).await.unwrap()
}

/// What a command prints as JSON, for a configuration.
pub(crate) async fn told(file: &Path, arguments: &[&str]) -> Value {
    let all = [arguments, &["--json", "--config", file.to_str().unwrap()]].concat();
    let output = roadstead(&all).await;
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A mirror with `docker.io/org/app` (an index of which amd64 was pulled), `docker.io/org/tool`, which shares a layer with it,
/// and what they are made of.
pub(crate) struct Site {
    pub(crate) registry: Upstream,
    pub(crate) mirror: Mirror,
    /// The index, and its images.
    pub(crate) app: Image,
    pub(crate) amd64: Image,
    pub(crate) arm64: Image,
    tool: Image,
}

const SHARED: u64 = 10_000;

impl Site {
    pub(crate) async fn start() -> Self {
        let registry = Upstream::start().await;
        let shared = blob(SHARED, 1);
        let (amd64, arm64) = (image(&[shared.clone(), blob(3000, 2)]), image(&[blob(4000, 3)]));
        let app = index(&[&amd64, &arm64]);
        let tool = image(&[shared, blob(500, 4)]);
        registry.publish("org/app", "1", &app);
        registry.publish("org/app", "amd64", &amd64);
        registry.publish("org/tool", "latest", &tool);
        let mirror = Mirror::of("docker.io", registry.url()).await;
        assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
        mirror.pull_whole("org/app", "amd64").await;
        mirror.pull_whole("org/tool", "latest").await;
        quiet(&mirror).await;
        Self { registry, mirror, app, amd64, arm64, tool }
    }
}

/// The JSON of an answer over the network, and its status.
pub(crate) async fn api(mirror: &Mirror, path: &str) -> (u16, Value) {
    let answer = Client::new(mirror.admin).get(&format!("/api/v1/{path}")).await;
    (answer.status, answer.json())
}

/// Bytes of all that an image is made of, with its manifest.
fn bytes(image: &Image) -> u64 {
    image.manifest.len() as u64 + image.blobs.iter().map(|blob| blob.content.size()).sum::<u64>()
}

/// A call with a JSON body, over the socket: the status and the JSON of the answer.
pub(crate) async fn over_socket(mirror: &Mirror, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(mirror.storage().join("admin.sock")).await.unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head =
        format!("{method} /api/v1/{path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    // A body that is too long is refused before it is read.
    let _refused = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}
