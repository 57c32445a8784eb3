//! Roadstead itself, as its users start it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::certificate::Certificate;
use super::machine::MIRROR_NAME;
use super::process::{self, Process};
use super::{curl, port};

const READY_LIMIT: Duration = Duration::from_secs(30);

/// How clients reach the mirror.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
    /// Clients have to show a certificate of the same authority.
    MutualTls,
}

pub(crate) struct Mirror {
    folder: PathBuf,
    port: u16,
    admin_port: u16,
    certificate: Option<Certificate>,
    transport: Transport,
    /// Lines of `[server]`.
    server: String,
    upstreams: String,
    process: Option<Process>,
}

impl Mirror {
    /// Starts Roadstead with the configuration of its `upstreams` and an empty storage in `parent`.
    pub(crate) fn start(parent: &Path, transport: Transport, upstreams: &str) -> Self {
        Self::start_with(parent, transport, "", upstreams)
    }

    /// With more lines in `[server]`.
    pub(crate) fn start_with(parent: &Path, transport: Transport, server: &str, upstreams: &str) -> Self {
        let folder = parent.join("mirror");
        fs::create_dir(&folder).expect("the mirror's folder is new");
        let certificate = match transport {
            Transport::Plain => None,
            Transport::Tls | Transport::MutualTls => Some(Certificate::new(&folder, &[MIRROR_NAME])),
        };
        let (server, upstreams) = (server.to_owned(), upstreams.to_owned());
        let mut mirror =
            Self { folder, port: 0, admin_port: 0, certificate, transport, server, upstreams, process: None };
        port::take("roadstead", |port| {
            mirror.port = port;
            mirror.admin_port = port::free();
            mirror.serve()
        });
        mirror
    }

    /// Starts it again on the same storage and the same ports.
    pub(crate) fn restart(&mut self) {
        assert!(self.serve(), "roadstead did not start again");
    }

    /// A command about this mirror, run to its end on the mirror's machine; what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        process::run("roadstead", &self.folder, &mut self.command(arguments))
    }

    /// The same, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).arg("--config").arg(self.folder.join("roadstead.toml"));
        command
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the mirror runs").kill();
    }

    fn serve(&mut self) -> bool {
        let file = self.folder.join("roadstead.toml");
        fs::write(&file, self.configuration()).expect("the mirror's folder is writable");
        let mut command = process::command(env!("CARGO_BIN_EXE_roadstead"));
        command.arg("serve").arg("--config").arg(&file).current_dir(&self.folder);
        let mut process = Process::start("roadstead", &self.folder, &mut command);
        let url = format!("http://127.0.0.1:{}/readyz", self.admin_port);
        let ready = process
            .becomes_ready(READY_LIMIT, || curl::ask(&self.folder, &[&url]).is_some_and(|answer| answer.status == 200));
        self.process = Some(process);
        ready
    }

    /// `tag_ttl` of nothing makes each tag request ask the upstream, so that tests need not wait for a tag to grow old.
    fn configuration(&self) -> String {
        let Self { folder, port, admin_port, server, upstreams, .. } = self;
        let folder = folder.display();
        let tls = self.certificate.as_ref().map_or_else(String::new, |certificate| {
            let (chain, key) = (certificate.chain.display(), certificate.key.display());
            let clients = match self.transport {
                Transport::Plain | Transport::Tls => String::new(),
                Transport::MutualTls => format!(", client_ca = \"{}\"", certificate.authority.display()),
            };
            format!(
                "tls = {{ certificate = \"{chain}\", key = \"{key}\"{clients} }}\nhostnames = [\"{MIRROR_NAME}\"]\n"
            )
        });
        format!(
            "[server]\n\
             listen = \"127.0.0.1:{port}\"\n\
             admin_listen = \"127.0.0.1:{admin_port}\"\n\
             {tls}{server}\n\
             [storage]\n\
             path = \"{folder}/storage\"\n\n\
             [defaults]\n\
             tag_ttl = \"0s\"\n\n\
             {upstreams}"
        )
    }

    /// The page, health and the API.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// The address in names of images.
    pub(crate) fn address(&self) -> String {
        let host = if self.certificate.is_some() { MIRROR_NAME } else { "127.0.0.1" };
        format!("{host}:{}", self.port)
    }

    /// The files of a node's certificate and key.
    pub(crate) fn node_identity(&self) -> [String; 2] {
        let certificate = self.certificate.as_ref().expect("the mirror speaks TLS");
        [&certificate.node_chain, &certificate.node_key].map(|file| file.display().to_string())
    }

    pub(crate) fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// What clients are told.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The file of the authority that clients must trust, when they are to speak TLS.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|certificate| certificate.authority.as_path())
    }
}
