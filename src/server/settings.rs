use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Authority;

/// What the configuration says about serving, already checked.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub listeners: Vec<ListenerSettings>,
    /// Health and metrics; `None` for neither.
    pub admin_listen: Option<SocketAddr>,
    /// The unix socket for commands; `None` for none.
    pub admin_socket: Option<PathBuf>,
    /// Off loopback, metrics are shown to those who know what is in this file.
    pub admin_token_file: Option<PathBuf>,
    /// Names of this server that are no registry's, though `Host` carries them.
    pub hostnames: Vec<Authority>,
    /// Requests answered at one time; more are told to come back.
    pub max_requests: usize,
    /// Connections of clients at one time; more are told to come back.
    pub max_connections: usize,
    /// A client that takes nothing for so long is cut.
    pub stall_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct ListenerSettings {
    pub address: SocketAddr,
    pub tls: Option<TlsSettings>,
    /// For names that say nothing about their registry.
    pub default_authority: Authority,
    /// A path in front of `/v2/`: empty, or `/p`.
    pub mount: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// How often the files are looked at. Kubernetes swaps symlinks, which no file watch sees reliably.
    pub look_every: Duration,
}

impl TlsSettings {
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), look_every: Duration::from_secs(2) }
    }
}
