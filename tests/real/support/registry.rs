//! An upstream: `docker-registry`, its images, and its own account of what it was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::certificate::Certificate;
use super::curl::{self, Answer};
use super::image::{Artifact, Image};
use super::process::{self, Process};
use super::{port, program};

const READY_LIMIT: Duration = Duration::from_secs(30);

pub(crate) const REPOSITORY: &str = "library/app";
pub(crate) const USER: &str = "robot";
pub(crate) const PASSWORD: &str = "deck-and-anchor";

pub(crate) struct Registry {
    folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) certificate: Option<Certificate>,
    process: Option<Process>,
}

/// One line of the registry's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
}

impl Registry {
    /// Plain HTTP, and anyone may pull.
    pub(crate) fn open(parent: &Path) -> Self {
        Self::start(new_folder(parent, "open"), None)
    }

    /// TLS by a private authority, and a password.
    pub(crate) fn guarded(parent: &Path) -> Self {
        let folder = new_folder(parent, "guarded");
        let certificate = Certificate::new(&folder, &["127.0.0.1"]);
        let mut htpasswd = process::command(program::find("htpasswd"));
        // The registry reads bcrypt only.
        let users = process::run("htpasswd", &folder, htpasswd.args(["-Bbn", USER, PASSWORD]));
        fs::write(folder.join("users"), users).expect("a registry's folder is writable");
        Self::start(folder, Some(certificate))
    }

    fn start(folder: PathBuf, certificate: Option<Certificate>) -> Self {
        let mut registry = Self { folder, port: 0, certificate, process: None };
        port::take("docker-registry", |port| {
            registry.port = port;
            let file = registry.folder.join("registry.yml");
            fs::write(&file, registry.configuration()).expect("a registry's folder is writable");
            let mut command = process::command(program::find("docker-registry"));
            command.arg("serve").arg(&file).current_dir(&registry.folder);
            let mut process = Process::start("docker-registry", &registry.folder, &mut command);
            let ready = process
                .becomes_ready(READY_LIMIT, || registry.ask(&[], "/v2/").is_some_and(|answer| answer.status == 200));
            registry.process = Some(process);
            ready
        });
        registry
    }

    fn configuration(&self) -> String {
        let Self { folder, port, .. } = self;
        let folder = folder.display();
        let guard = self.certificate.as_ref().map_or_else(String::new, |certificate| {
            let (chain, key) = (certificate.chain.display(), certificate.key.display());
            format!(
                "  tls: {{certificate: '{chain}', key: '{key}'}}\n\
                 auth:\n  htpasswd: {{realm: tests, path: '{folder}/users'}}\n"
            )
        });
        format!(
            "version: 0.1\n\
             log: {{level: error}}\n\
             storage:\n  filesystem: {{rootdirectory: '{folder}/storage'}}\n\
             http:\n  addr: '127.0.0.1:{port}'\n  secret: tests\n{guard}"
        )
    }

    /// Where Roadstead finds it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub(crate) fn push(&self, image: &Image) {
        for blob in image.blobs() {
            self.push_blob(blob);
        }
        for manifest in image.manifests() {
            let tagged = manifest.digest == image.digest();
            let reference = if tagged { image.tag } else { &manifest.digest };
            self.push_manifest(manifest, reference);
        }
    }

    fn push_blob(&self, blob: &Artifact) {
        let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let begun = self.ask(&["--request", "POST"], &uploads).expect("the registry answers");
        let location = begun.header("location").expect("a registry says where to upload to");
        let path = location.strip_prefix(&self.url()).unwrap_or(location);
        let body = self.body(blob);
        let kind = "Content-Type: application/octet-stream";
        let put = ["--request", "PUT", "--header", kind, "--data-binary", &body];
        let answer = self.ask(&put, &format!("{path}&digest={}", blob.digest)).expect("the registry answers");
        assert_eq!(answer.status, 201, "the registry took no blob {}", blob.digest);
    }

    fn push_manifest(&self, manifest: &Artifact, reference: &str) {
        let body = self.body(manifest);
        let kind = format!("Content-Type: {}", manifest.media_type);
        let put = ["--request", "PUT", "--header", &kind, "--data-binary", &body];
        let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
        let answer = self.ask(&put, &path).expect("the registry answers");
        assert_eq!(answer.status, 201, "the registry took no manifest {reference}");
        // Clients must get the digest that the registry states.
        assert_eq!(answer.header("docker-content-digest"), Some(manifest.digest.as_str()));
    }

    /// One more tag for a manifest that was pushed, written where the registry keeps them: thousands take no time.
    pub(crate) fn tag(&self, tag: &str, digest: &str) {
        let tags = self.folder.join("storage/docker/registry/v2/repositories").join(REPOSITORY).join("_manifests/tags");
        let folder = tags.join(tag).join("current");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("link"), digest))
            .expect("a registry's folder is writable");
    }

    fn body(&self, artifact: &Artifact) -> String {
        let path = self.folder.join("body");
        fs::write(&path, &artifact.bytes).expect("a registry's folder is writable");
        format!("@{}", path.display())
    }

    fn ask(&self, arguments: &[&str], path: &str) -> Option<Answer> {
        let authority = self.certificate.as_ref().map(|certificate| certificate.authority.display().to_string());
        let user = format!("{USER}:{PASSWORD}");
        let guard = authority.as_ref().map(|authority| ["--cacert", authority, "--user", &user]);
        let url = format!("{}{path}", self.url());
        let guard = guard.as_ref().map_or(&[][..], |guard| guard);
        curl::ask(&self.folder, &[guard, arguments, &[&url]].concat())
    }

    /// Every request so far that a mirror may have made, in the order in which they ended.
    ///
    /// The log is complete once the registry is stopped. While it runs, an answer may arrive before its line.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let log = fs::read_to_string(self.folder.join("docker-registry.out")).expect("the registry has a log");
        log.lines().filter_map(Asked::parse).filter(|asked| ["GET", "HEAD"].contains(&asked.method.as_str())).collect()
    }

    pub(crate) fn stop(&mut self) {
        self.process = None;
    }
}

impl Asked {
    /// Reads `127.0.0.1 - - [time] "GET /v2/library/app/manifests/1 HTTP/1.1" 200 428 "" "agent"`.
    fn parse(line: &str) -> Option<Self> {
        let mut request = line.split('"').nth(1)?.split(' ');
        let method = request.next()?.to_owned();
        let path = request.next()?.to_owned();
        path.starts_with("/v2/").then_some(Self { method, path })
    }

    /// Whether content was fetched, as opposed to asking whether it is still there.
    pub(crate) fn fetched(&self) -> bool {
        self.method == "GET" && (self.path.contains("/manifests/") || self.path.contains("/blobs/"))
    }

    pub(crate) fn checked_a_tag(&self) -> bool {
        self.method == "HEAD" && self.path.contains("/manifests/") && !self.path.contains("sha256:")
    }
}

fn new_folder(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(name);
    fs::create_dir(&folder).expect("a registry's folder is new");
    folder
}
