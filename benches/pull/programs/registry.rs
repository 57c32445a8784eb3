//! `docker-registry` of Debian's packages: an upstream, and a rival, that nobody here has written.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{Namespace, Program, command, find, free_address};
use crate::client::Client;
use crate::pull::{REPOSITORY, manifest_path};
use crate::support::image::{Blob, Image};

pub(crate) struct Registry {
    program: Program,
    pub(crate) address: SocketAddr,
}

impl Registry {
    /// On loopback, with its storage in a new folder.
    pub(crate) async fn start(folder: PathBuf) -> Self {
        Self::start_at(folder, free_address(), None, "").await
    }

    /// On a machine of its own.
    pub(crate) async fn start_in(namespace: &Namespace, ip: IpAddr, folder: PathBuf) -> Self {
        Self::start_at(folder, SocketAddr::new(ip, 5000), Some(namespace), "").await
    }

    /// As a pull-through cache of another registry.
    pub(crate) async fn proxy(folder: PathBuf, upstream: SocketAddr) -> Self {
        let proxy = format!("proxy: {{remoteurl: 'http://{upstream}'}}\n");
        Self::start_at(folder, free_address(), None, &proxy).await
    }

    async fn start_at(folder: PathBuf, address: SocketAddr, namespace: Option<&Namespace>, more: &str) -> Self {
        fs::create_dir(&folder).expect("a registry's folder is new");
        let file = folder.join("registry.yml");
        let yaml = format!(
            "version: 0.1\nlog: {{level: error}}\n{more}\
             storage:\n  filesystem: {{rootdirectory: '{}'}}\n\
             http:\n  addr: '{address}'\n  secret: bench\n",
            folder.join("storage").display(),
        );
        fs::write(&file, yaml).expect("a registry's folder is writable");
        let program = find("docker-registry");
        let mut command = match namespace {
            Some(namespace) => namespace.command(&program),
            None => command(&program),
        };
        let mut program = Program::start("docker-registry", &folder, command.arg("serve").arg(&file));
        program.ready(address, "/v2/").await;
        Self { program, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn push(&self, tag: &str, image: &Image) {
        let mut client = Client::connect(self.address).await.expect("the registry accepts connections");
        for blob in &image.blobs {
            push_blob(&mut client, blob).await;
        }
        let lines = format!("Content-Type: {}\r\n", image.media_type);
        let put = client.send("PUT", &manifest_path(tag), &lines, &image.manifest).await.expect("the registry answers");
        assert_eq!(put.status, 201, "the registry took no manifest: {}", client.text().await.unwrap_or_default());
    }
}

async fn push_blob(client: &mut Client, blob: &Blob) {
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let begun = client.send("POST", &uploads, "Content-Length: 0\r\n", &[]).await.expect("the registry answers");
    let location = begun.header("location").expect("a registry says where to upload to");
    let path = location.find("/v2/").and_then(|at| location.get(at..)).expect("an upload is below /v2/");
    let lines = "Content-Type: application/octet-stream\r\n";
    let path = format!("{path}&digest={}", blob.digest);
    let put = client.send("PUT", &path, lines, &blob.content.to_bytes()).await.expect("the registry answers");
    assert_eq!(put.status, 201, "the registry took no blob: {}", client.text().await.unwrap_or_default());
}
