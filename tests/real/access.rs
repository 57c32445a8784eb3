//! Real clients sign in to a mirror that serves nobody else, over TLS with a private authority, and pull through it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::clients::{Client, Containerd, Docker, Podman, Skopeo};
use crate::support::image::{Dialect, Image};
use crate::support::mirror::{Mirror, Transport};
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::upstreams::HUB;
use crate::support::{process, program, work_folder};

const USER: &str = "ci-a";
const PASSWORD: &str = "correct-horse";
const KEY: &str = "a-key-for-all-nodes";

/// How the mirror challenges.
#[derive(Clone, Copy)]
enum Challenge {
    Basic,
    Bearer,
}

struct Story {
    folder: tempfile::TempDir,
    /// Its registry stops with it.
    _registry: Registry,
    image: Image,
    /// What the rules open to nobody.
    secret: Image,
    mirror: Mirror,
}

impl Story {
    fn begin(challenge: Challenge) -> Self {
        Self::begin_over(Transport::Tls, challenge)
    }

    fn begin_over(transport: Transport, challenge: Challenge) -> Self {
        let work = work_folder();
        let folder = work.path();
        let registry = Registry::open(folder);
        let image = Image::single(folder, Dialect::Docker, "1", "for those who sign in");
        let secret = Image::single(folder, Dialect::Docker, "secret", "for nobody");
        registry.push(&image);
        registry.push(&secret);
        let mut htpasswd = Command::new(program::find("htpasswd"));
        let line = process::run("htpasswd", folder, htpasswd.args(["-nbB", USER, PASSWORD]));
        fs::write(folder.join("htpasswd"), line).expect("a work folder is writable");
        fs::write(folder.join("keys"), format!("node {KEY}\n")).expect("a work folder is writable");
        let node = match transport {
            Transport::Plain | Transport::Tls => "",
            Transport::MutualTls => ", \"certificate:*.nodes.test\"",
        };
        let configuration = format!(
            "[access]\nanonymous = false\ntoken_server = {}\nhtpasswd = \"{}\"\n\
             header = {{ name = \"X-Roadstead-Key\", keys = \"{}\" }}\n\
             [[access.rules]]\nwho = [\"user:ci-*\", \"user:node\"{node}]\nwhat = [\"{HUB}/**:secret\"]\nallow = false\n\
             [[access.rules]]\nwho = [\"user:ci-*\", \"user:node\"{node}]\nwhat = [\"{HUB}/**\"]\nallow = true\n\
             [upstreams.\"{HUB}\"]\nurl = \"{}\"\n",
            matches!(challenge, Challenge::Bearer),
            folder.join("htpasswd").display(),
            folder.join("keys").display(),
            registry.url(),
        );
        let mirror = Mirror::start(folder, transport, &configuration);
        Self { folder: work, _registry: registry, image, secret, mirror }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The mirror's own name in front of an image.
    fn direct(&self, image: &Image) -> String {
        format!("{}/{HUB}/{REPOSITORY}:{}", self.mirror.address(), image.tag)
    }

    fn named(image: &Image) -> String {
        format!("{HUB}/{REPOSITORY}:{}", image.tag)
    }
}

fn fails(name: &str, folder: &Path, command: &mut Command) {
    assert!(process::try_run(name, folder, command).is_none(), "{command:?} went well");
}

#[test]
fn podman_logs_in_by_basic_and_pulls() {
    podman(Challenge::Basic);
}

#[test]
fn podman_logs_in_by_token_and_pulls() {
    podman(Challenge::Bearer);
}

fn podman(challenge: Challenge) {
    let story = Story::begin(challenge);
    let client = Podman::set_up(story.folder(), "m1", &story.mirror);
    let (folder, address) = (client.folder().to_owned(), story.mirror.address());
    let run = |arguments: &[&str]| process::run("podman", &folder, client.podman().args(arguments));
    fails("podman", &folder, client.podman().args(["pull", &Story::named(&story.image)]));
    fails("podman", &folder, client.podman().args(["login", "-u", USER, "-p", "wrong", &address]));
    run(&["login", "-u", USER, "-p", PASSWORD, &address]);
    // As a mirror of the registry, and by its own name.
    assert_eq!(client.pull(HUB, &story.image), story.image.digest());
    run(&["pull", &story.direct(&story.image)]);
    fails("podman", &folder, client.podman().args(["pull", &story.direct(&story.secret)]));
    run(&["logout", &address]);
    fails("podman", &folder, client.podman().args(["pull", &story.direct(&story.image)]));
}

#[test]
fn dockerd_logs_in_by_basic_and_pulls() {
    docker(Challenge::Basic);
}

#[test]
fn dockerd_logs_in_by_token_and_pulls() {
    docker(Challenge::Bearer);
}

fn docker(challenge: Challenge) {
    let story = Story::begin(challenge);
    let client = Docker::set_up(story.folder(), "m1", &story.mirror);
    let (folder, address) = (client.folder().to_owned(), story.mirror.address());
    let run = |arguments: &[&str]| process::run("docker", &folder, client.docker().args(arguments));
    fails("docker", &folder, client.docker().args(["pull", &story.direct(&story.image)]));
    fails("docker", &folder, client.docker().args(["login", "-u", USER, "-p", "wrong", &address]));
    run(&["login", "-u", USER, "-p", PASSWORD, &address]);
    run(&["pull", &story.direct(&story.image)]);
    fails("docker", &folder, client.docker().args(["pull", &story.direct(&story.secret)]));
}

#[test]
fn containerd_signs_in_by_basic_and_pulls() {
    containerd(Challenge::Basic);
}

#[test]
fn containerd_signs_in_by_token_and_pulls() {
    containerd(Challenge::Bearer);
}

fn containerd(challenge: Challenge) {
    let story = Story::begin(challenge);
    let client = Containerd::set_up(story.folder(), "m1", &story.mirror);
    let pull = |login: &[&str], image: &Image| {
        let mut command = client.pull_command(&Story::named(image));
        command.args(login);
        command
    };
    let right = format!("{USER}:{PASSWORD}");
    let folder = client.folder();
    fails("ctr", folder, &mut pull(&[], &story.image));
    fails("ctr", folder, &mut pull(&["--user", &format!("{USER}:wrong")], &story.image));
    process::run("ctr", folder, &mut pull(&["--user", &right], &story.image));
    fails("ctr", folder, &mut pull(&["--user", &right], &story.secret));
}

#[test]
fn containerd_shows_a_key_by_its_hosts_toml() {
    let story = Story::begin(Challenge::Bearer);
    let with_key = |name: &str, key: &str| {
        let header = format!("X-Roadstead-Key: {key}");
        Containerd::set_up_with(story.folder(), name, &story.mirror, &["--header", &header])
    };
    let wrong = with_key("m1", "somebody-elses-key");
    fails("ctr", wrong.folder(), &mut wrong.pull_command(&Story::named(&story.image)));
    let right = with_key("m2", KEY);
    assert_eq!(right.pull(HUB, &story.image), story.image.digest());
    fails("ctr", right.folder(), &mut right.pull_command(&Story::named(&story.secret)));
}

#[test]
fn containerd_shows_a_certificate_by_its_hosts_toml() {
    let story = Story::begin_over(Transport::MutualTls, Challenge::Bearer);
    let without = Containerd::set_up(story.folder(), "m1", &story.mirror);
    fails("ctr", without.folder(), &mut without.pull_command(&Story::named(&story.image)));
    let [certificate, key] = story.mirror.node_identity();
    let shown = ["--client-cert", &certificate, "--client-key", &key];
    let with = Containerd::set_up_with(story.folder(), "m2", &story.mirror, &shown);
    assert_eq!(with.pull(HUB, &story.image), story.image.digest());
    fails("ctr", with.folder(), &mut with.pull_command(&Story::named(&story.secret)));
}

#[test]
fn skopeo_shows_credentials_by_basic() {
    skopeo(Challenge::Basic);
}

#[test]
fn skopeo_shows_credentials_by_token() {
    skopeo(Challenge::Bearer);
}

fn skopeo(challenge: Challenge) {
    let story = Story::begin(challenge);
    let client = Skopeo::set_up(story.folder(), "m1", &story.mirror);
    let inspect = |credentials: &str, image: &Image| {
        let mut command = client.skopeo();
        command.args(["inspect", "--creds", credentials, "--format", "{{.Digest}}"]);
        command.arg(format!("docker://{}", story.direct(image)));
        command
    };
    let (right, folder) = (format!("{USER}:{PASSWORD}"), client.folder());
    fails("skopeo", folder, &mut inspect(&format!("{USER}:wrong"), &story.image));
    let digest = process::run("skopeo", folder, &mut inspect(&right, &story.image));
    assert_eq!(digest.trim(), story.image.digest());
    fails("skopeo", folder, &mut inspect(&right, &story.secret));
    process::run(
        "skopeo",
        folder,
        client.skopeo().args(["login", "-u", USER, "-p", PASSWORD, &story.mirror.address()]),
    );
    assert_eq!(client.pull(HUB, &story.image), story.image.digest());
}
