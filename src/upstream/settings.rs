//! The checked configuration of one upstream.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use crate::oci::RepositoryPattern;
use crate::secret::Secret;
use crate::upstream::auth::cloud::CloudIdentity;

/// The settings of one upstream; `config/roadstead.toml` describes the keys.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "keys of the configuration, each by itself")]
pub struct UpstreamSettings {
    /// The configured name; also the label in metrics. `*` for a wildcard.
    pub name: String,
    /// Endpoints in the order of use. Empty for a wildcard, whose endpoint is the authority itself.
    pub endpoints: Vec<EndpointSettings>,
    /// Empty for anonymous requests.
    pub credentials: Vec<CredentialRule>,
    /// Token servers besides the endpoint's own host: `host` or `host:port`.
    pub token_hosts: Vec<String>,
    /// Hosts that may have private addresses although the endpoint is public.
    pub private_hosts: Vec<String>,
    /// CA certificates trusted in addition to the system's.
    pub ca: Vec<CertificateDer<'static>>,
    pub client_identity: Option<ClientIdentity>,
    /// Whether any certificate of the endpoint is accepted.
    pub skip_verify: bool,
    pub proxy: Option<ProxySettings>,
    /// Whether only public addresses may be dialled, the endpoint's own included.
    pub public_only: bool,
    /// Whether the upstream is never asked.
    pub offline: bool,
    /// Time to open one connection.
    pub connect_timeout: Duration,
    /// Time until the response head has arrived, including sign-in and redirects.
    pub response_timeout: Duration,
    /// A body without a byte for so long has failed.
    pub idle_timeout: Duration,
    /// Concurrent blob downloads, and connections of all downloads together.
    pub max_connections: usize,
    /// Most connections of one download.
    pub segments: usize,
    /// How long an endpoint is not asked after a failure.
    pub breaker_window: Duration,
    /// The registry counts GETs of manifests, and not HEADs. Its answers may show this too.
    pub counts_pulls: bool,
    /// Largest `n` in a tag list request to this upstream.
    pub max_page: u32,
    /// Bytes.
    pub max_manifest_size: u64,
    /// Bytes.
    pub max_list_size: u64,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    /// Scheme, host, port and an optional path: a repository prefix, or, if it ends in `/v2`, where the API is.
    pub url: Url,
    /// Whether to send `ns`, because the endpoint is another mirror.
    pub forward_ns: bool,
    /// Whether it does not have everything: its 404 leads to the next endpoint.
    pub partial: bool,
}

/// The certificate chain and key for mTLS.
#[derive(Debug)]
pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// An HTTP or SOCKS proxy, without credentials in its URL.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    pub url: Url,
    /// User name and password.
    pub login: Option<(String, Secret)>,
}

/// Credentials for the repositories that match; the most specific rule wins.
#[derive(Debug, Clone)]
pub struct CredentialRule {
    /// `None` matches all repositories.
    pub pattern: Option<RepositoryPattern>,
    pub source: CredentialSource,
}

/// The source of a login. It is read again at each login, so that a change needs no restart.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    PasswordFile {
        username: String,
        file: PathBuf,
    },
    /// Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.
    DockerConfig(PathBuf),
    /// The name after `docker-credential-`, or a path to the program.
    Helper(String),
    /// Of the machine, the pod or the environment that the mirror runs in.
    Cloud(CloudIdentity),
}
