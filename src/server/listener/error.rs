//! Errors of binding.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address, the admin socket or a certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {err}")]
    Address { address: SocketAddr, err: io::Error },
    #[error("cannot open the admin socket {path}: {err}; `server.admin_socket` may name another path, or be \"off\"")]
    Socket { path: PathBuf, err: io::Error },
    #[error("cannot serve TLS: {0}")]
    Certificate(#[from] CertificateError),
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate or its key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{file}: {err}")]
    Unreadable { file: PathBuf, err: rustls::pki_types::pem::Error },
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    #[error("{file} holds what cannot be an authority of clients: {err}")]
    NoAuthority { file: PathBuf, err: rustls::Error },
    #[error("{certificate} and {key} do not belong together: {err}")]
    Unusable { certificate: PathBuf, key: PathBuf, err: rustls::Error },
}

impl CertificateError {
    /// The one file that is wrong, if it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Unreadable { file, .. } | Self::Empty(file) | Self::NoAuthority { file, .. } => Some(file),
            Self::Unusable { .. } => None,
        }
    }
}
