//! Who may read what (docs/access.md): logins, keys, networks, tokens, rules.

mod certificates;
mod configured;
mod explain;
mod issuer;
mod logins;
mod oidc;
mod rules;
mod tokens;

use std::path::Path;

use base64::Engine as _;
use http::Method;
use tempfile::TempDir;

use crate::support::client::{Answer, Client};
use crate::support::image::{Image, image};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// A mirror of docker.io with files beside its configuration: users `a` and `b` with the passwords `a-secret-marker` and
/// `b-secret-marker`, and the key `node-secret-marker` of `node`.
struct Guarded {
    registry: Upstream,
    mirror: Mirror,
    files: TempDir,
}

/// Cheap hashes: the tests are not about their strength.
fn write_files(directory: &Path) {
    let hash = |user: &str| bcrypt::hash(format!("{user}-secret-marker"), 4).unwrap();
    std::fs::write(directory.join("htpasswd"), format!("a:{}\nb:{}\n", hash("a"), hash("b"))).unwrap();
    std::fs::write(directory.join("keys"), "node node-secret-marker\n").unwrap();
}

/// The lines that name both files.
fn both(directory: &Path) -> String {
    format!("{}{}", htpasswd(directory), keys(directory))
}

fn htpasswd(directory: &Path) -> String {
    format!("htpasswd = \"{}\"\n", directory.join("htpasswd").display())
}

fn keys(directory: &Path) -> String {
    format!("header = {{ name = \"X-Roadstead-Key\", keys = \"{}\" }}\n", directory.join("keys").display())
}

fn rule(who: &str, what: &str, allow: bool) -> String {
    format!("[[access.rules]]\nwho = {who}\nwhat = {what}\nallow = {allow}\n")
}

/// `access` is given the directory of the files.
fn toml(registry: &Upstream, access: &str) -> String {
    format!("[access]\n{access}\n[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url())
}

impl Guarded {
    async fn start(access: impl Fn(&Path) -> String) -> Self {
        let (registry, files) = (Upstream::start().await, tempfile::tempdir().unwrap());
        write_files(files.path());
        let mirror = Mirror::start(toml(&registry, &access(files.path()))).await;
        Self { registry, mirror, files }
    }

    fn publish(&self, repository: &str) -> Image {
        let app = image(&[blob(100, 1)]);
        self.registry.publish(repository, "1", &app);
        app
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.client().send(Method::GET, path, headers).await
    }

    fn client(&self) -> Client {
        self.mirror.client()
    }
}

fn basic(name: &str, password: &str) -> String {
    let login = format!("{name}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// The right login of `a` or `b`.
fn login(name: &str) -> String {
    basic(name, &format!("{name}-secret-marker"))
}
