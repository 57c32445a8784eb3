//! The set-ups in `examples/`: their configurations load, their files fit together, and the air-gapped one is gone through.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use roadstead::config::Config;
use serde_json::Value;

use crate::support::image::image;
use crate::support::mirror::{Mirror, files_below};
use crate::support::upstream::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|err| panic!("examples/{name}: {err}"))
}

fn toml(text: &str) -> Value {
    Figment::from(Toml::string(text)).extract().unwrap_or_else(|err| panic!("{err}\n{text}"))
}

fn load(text: &str) -> Config {
    Config::read(Some(text), Vec::new()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// The secrets that an example names are there.
fn with_secrets(text: &str, directory: &Path) -> String {
    let identity = rcgen::generate_simple_self_signed(["roadstead-a.corp".to_owned()]).unwrap();
    let secrets = [
        ("/etc/roadstead/tls.crt", identity.cert.pem()),
        ("/etc/roadstead/tls.key", identity.signing_key.serialize_pem()),
        ("/run/secrets/roadstead-admin", "token".to_owned()),
        ("/run/secrets/hub", "password".to_owned()),
    ];
    secrets.into_iter().enumerate().fold(text.to_owned(), |text, (nth, (path, secret))| {
        let file = directory.join(nth.to_string());
        std::fs::write(&file, secret).unwrap();
        text.replace(path, &file.display().to_string())
    })
}

#[test]
fn every_configuration_loads_and_every_toml_file_parses() {
    let directory = tempfile::tempdir().unwrap();
    let mut configurations = 0;
    for path in files_below(&root()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        let text = std::fs::read_to_string(&path).unwrap();
        toml(&text);
        if !path.ends_with("hosts.toml") {
            load(&with_secrets(&text, directory.path()));
            configurations += 1;
        }
    }
    assert_eq!(configurations, 3);
}

#[test]
fn the_nodes_ask_the_port_that_the_cluster_serves_with_tls() {
    let directory = tempfile::tempdir().unwrap();
    let config = load(&with_secrets(&file("containerd/roadstead.toml"), directory.path()));
    let listener = &config.server.listeners[0];
    assert!(listener.tls.is_some());
    let hosts = toml(&file("containerd/certs.d/_default/hosts.toml"));
    let hosts = hosts["host"].as_object().unwrap();
    assert_eq!(hosts.len(), 2);
    for (url, host) in hosts {
        let url: url::Url = url.parse().unwrap();
        assert_eq!((url.scheme(), url.port()), ("https", Some(listener.address.port())), "{url}");
        assert_eq!(host["capabilities"], serde_json::json!(["pull", "resolve"]));
    }
}

/// From `[defaults]` or the first upstream on: what stands before is the test's own.
fn upstreams_of(text: &str, hub: impl std::fmt::Display) -> String {
    let at = text.find("[defaults]").or_else(|| text.find("[upstreams.")).unwrap();
    let hub_section = "[upstreams.\"docker.io\"]\n";
    assert!(text.contains(hub_section));
    text[at..].replace(hub_section, &format!("{hub_section}url = \"{hub}\"\n"))
}

#[tokio::test]
async fn the_air_gapped_site_serves_what_was_pulled_outside_and_connects_to_nobody() {
    let registry = Upstream::start().await;
    let app = image(&[blob(100_000, 1)]);
    registry.publish("org/app", "1", &app);
    let outside = Mirror::start(upstreams_of(&file("air-gapped/outside.toml"), registry.url())).await;
    outside.pull_whole("org/app", "1").await;
    let stopped = outside.stop().await;
    let canary = Canary::listen();
    let inside = stopped.start_with(upstreams_of(&file("air-gapped/inside.toml"), canary.url())).await;
    inside.pull_whole("org/app", "1").await;
    let missing = inside.client().get("/v2/org/app/manifests/2").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("offline by configuration"), "{}", missing.text());
    canary.assert_untouched();
}
