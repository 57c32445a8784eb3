//! An issuer of tokens, as configured.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use url::{Host, Url};

/// `[[access.oidc]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcIssuer {
    /// As tokens name it.
    pub issuer: String,
    pub url: Url,
    /// A token is for one of them.
    pub audiences: Vec<String>,
    /// Where its keys are; `None`: as its own configuration says.
    pub jwks: Option<Url>,
    /// The claims with the bearer's name and groups.
    pub name: String,
    pub groups: Option<String>,
    /// Stands in front of names and groups.
    pub prefix: String,
    /// Trusted beside the system's authorities.
    pub ca: Vec<CertificateDer<'static>>,
    /// A token for the issuer itself, shown when its keys are fetched.
    pub token_file: Option<PathBuf>,
}

/// Whether keys may come from there: by https, or from this machine.
pub fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" && url.host().is_some() || url.scheme() == "http" && is_loopback
}
