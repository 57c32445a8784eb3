//! Errors of binding.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::tls::CertificateError;

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
