use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Authority;
use crate::server::access::AccessSettings;
use crate::server::access_log::pulls::WhoSettings;

/// The checked configuration of the server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub listeners: Vec<ListenerSettings>,
    /// Address for health, metrics and the API; `None` for no such listener.
    pub admin_listen: Option<SocketAddr>,
    /// The unix socket for commands; `None` for none.
    pub admin_socket: Option<PathBuf>,
    /// File with the token that admin requests off loopback need.
    pub admin_token_file: Option<PathBuf>,
    /// File with the token of registries that tell when a tag has moved; `None`: nobody may.
    pub webhook_token_file: Option<PathBuf>,
    /// Host names of this server, which name no registry in `Host`.
    pub hostnames: Vec<Authority>,
    /// Requests answered at one time, at least 1. Others get 503.
    pub max_requests: usize,
    /// Client connections at one time, at least 1. Others get 503, or are closed at once if they speak TLS.
    pub max_connections: usize,
    /// A client that takes nothing for so long is disconnected.
    pub stall_timeout: Duration,
    /// Who may read what; `None`: whoever reaches a listener reads everything.
    pub access: Option<AccessSettings>,
    /// What is recorded of who pulls what; `None`: nothing.
    pub who: Option<WhoSettings>,
}

/// One address for clients.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    pub address: SocketAddr,
    /// `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The registry of names without one.
    pub default_authority: Authority,
    /// The paths in front of `/v2/`, at least one: empty, or as in `/p`.
    pub mounts: Vec<String>,
}

/// The PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// `None`: clients are not asked for certificates.
    pub clients: Option<ClientCertificates>,
    /// How often the files are looked at. Kubernetes swaps symlinks, which no file watch sees reliably.
    pub look_every: Duration,
}

impl TlsSettings {
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), clients: None, look_every: Duration::from_secs(2) }
    }
}

/// Which certificates of clients are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file of the authorities that sign them.
    pub ca: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}
