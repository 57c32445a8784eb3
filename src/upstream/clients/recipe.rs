//! How an HTTP client of an upstream is built. It is built again when its kept connections are doubted.

use std::sync::Arc;
use std::time::Duration;

use super::egress::{Reach, Resolver};
use super::tls;
use super::trial::TellsTrial;
use crate::upstream::breaker::Lane;
use crate::upstream::settings::{ProxySettings, UpstreamSettings};

/// Largest response head in bytes. Signed URLs in redirects are long.
const MAX_HEADERS: u32 = 256 * 1024;
/// Most header lines of a response.
const MAX_HEADER_LINES: usize = 256;
/// Idle connections that are kept for each host.
const MAX_IDLE: usize = 32;

/// An HTTP client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the TLS settings cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client cannot be built: {0}")]
    Http(#[from] reqwest::Error),
}

/// The settings of one lane's clients.
#[derive(Debug)]
pub(super) struct Recipe {
    tls: rustls::ClientConfig,
    reach: Reach,
    http2: bool,
    connect_timeout: Duration,
    tcp_user_timeout: Duration,
    proxy: Option<ProxySettings>,
}

/// Whether connections are kept for later requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Idle,
    Nothing,
}

impl Recipe {
    pub(super) fn new(settings: &UpstreamSettings, reach: Reach, own: bool, lane: Lane) -> Result<Self, ClientError> {
        let identity = settings.client_identity.as_ref().filter(|_| own);
        let http2 = lane == Lane::Manifests;
        // With several endpoints, one that drops packets must leave time for the next.
        let endpoints = u32::try_from(settings.endpoints.len().max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            tls: tls::client_config(&settings.ca, identity, own && settings.skip_verify, http2)?,
            reach,
            http2,
            connect_timeout: (settings.connect_timeout / endpoints).max(Duration::from_millis(500)),
            tcp_user_timeout: settings.connect_timeout,
            proxy: settings.proxy.clone(),
        })
    }

    /// For servers that no proxy reaches.
    pub(super) fn without_proxy(self) -> Self {
        Self { proxy: None, ..self }
    }

    pub(super) fn build(&self, keep: Keep) -> Result<reqwest::Client, ClientError> {
        let proxy = self.proxy.as_ref().and_then(|proxy| proxy.url.host_str()).map(str::to_owned);
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(Resolver { reach: self.reach, proxy }))
            .connector_layer(TellsTrial)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(match keep {
                Keep::Idle => MAX_IDLE,
                Keep::Nothing => 0,
            })
            // Other clients read such heads too.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_headers(MAX_HEADER_LINES)
            // A dead kept-alive connection fails as fast as a connection that cannot be made.
            .tcp_user_timeout(self.tcp_user_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .no_proxy();
        if self.http2 {
            builder = builder
                .http2_max_header_list_size(MAX_HEADERS)
                // A connection whose peer has vanished would hold every later request until TCP gives up.
                .http2_keep_alive_interval(Duration::from_secs(10))
                .http2_keep_alive_timeout(Duration::from_secs(5))
                .http2_keep_alive_while_idle(true);
        } else {
            builder = builder.http1_only();
        }
        if let Some(proxy) = &self.proxy {
            let mut to = reqwest::Proxy::all(proxy.url.clone())?;
            if let Some((username, password)) = &proxy.login {
                to = to.basic_auth(username, password.expose());
            }
            builder = builder.proxy(to);
        }
        Ok(builder.build()?)
    }
}
