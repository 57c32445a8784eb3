//! The HTTP clients of one upstream, by lane and by the addresses they may reach.

pub(in crate::upstream) mod egress;
mod tls;

pub use egress::is_public;

use std::sync::Arc;
use std::time::Duration;

use crate::upstream::breaker::Lane;
use crate::upstream::settings::UpstreamSettings;
use egress::{Reach, Resolver};

/// Manifests and tokens never queue behind layers, so each lane has connections of its own. The blob lane speaks
/// HTTP/1.1: one download is one TCP connection, and no shared window throttles it.
#[derive(Debug)]
pub(in crate::upstream) struct Clients {
    /// For the endpoint itself: uses its client certificate and, if configured, skips verification.
    own: ByLane,
    /// For redirect targets and token servers: uses only the upstream's CA.
    foreign_public: ByLane,
    foreign_private: ByLane,
}

/// Largest response head in bytes. Signed URLs in redirects are long.
const MAX_HEADERS: u32 = 256 * 1024;

#[derive(Debug)]
struct ByLane {
    manifests: reqwest::Client,
    blobs: reqwest::Client,
}

/// An HTTP client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the TLS settings cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the HTTP client cannot be built: {0}")]
    Http(#[from] reqwest::Error),
}

impl Clients {
    pub(in crate::upstream) fn new(settings: &UpstreamSettings) -> Result<Self, ClientError> {
        let own_reach = if settings.public_only { Reach::PublicOnly } else { Reach::Anywhere };
        Ok(Self {
            own: ByLane::new(settings, own_reach, true)?,
            foreign_public: ByLane::new(settings, Reach::PublicOnly, false)?,
            foreign_private: ByLane::new(settings, Reach::NotLinkLocal, false)?,
        })
    }

    pub(in crate::upstream) fn own(&self, lane: Lane) -> &reqwest::Client {
        self.own.lane(lane)
    }

    pub(in crate::upstream) fn foreign(&self, lane: Lane, reach: Reach) -> &reqwest::Client {
        match reach {
            Reach::PublicOnly => self.foreign_public.lane(lane),
            Reach::NotLinkLocal | Reach::Anywhere => self.foreign_private.lane(lane),
        }
    }
}

impl ByLane {
    fn new(settings: &UpstreamSettings, reach: Reach, own: bool) -> Result<Self, ClientError> {
        Ok(Self {
            manifests: build(settings, reach, own, Lane::Manifests)?,
            blobs: build(settings, reach, own, Lane::Blobs)?,
        })
    }

    const fn lane(&self, lane: Lane) -> &reqwest::Client {
        match lane {
            Lane::Manifests => &self.manifests,
            Lane::Blobs => &self.blobs,
        }
    }
}

fn build(settings: &UpstreamSettings, reach: Reach, own: bool, lane: Lane) -> Result<reqwest::Client, ClientError> {
    let identity = settings.client_identity.as_ref().filter(|_| own);
    let http2 = lane == Lane::Manifests;
    let tls = tls::client_config(&settings.ca, identity, own && settings.skip_verify, http2)?;
    // With several endpoints, one that drops packets must leave time for the next.
    let endpoints = u32::try_from(settings.endpoints.len().max(1)).unwrap_or(u32::MAX);
    let proxy = settings.proxy.as_ref().and_then(|proxy| proxy.url.host_str()).map(str::to_owned);
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Resolver { reach, proxy }))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout((settings.connect_timeout / endpoints).max(Duration::from_millis(500)))
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(32)
        // A dead kept-alive connection fails as fast as a connection that cannot be made.
        .tcp_user_timeout(settings.connect_timeout)
        .tcp_keepalive(Duration::from_secs(30))
        .no_proxy();
    if http2 {
        builder = builder
            .http2_max_header_list_size(MAX_HEADERS)
            // A connection whose peer has vanished would hold every later request until TCP gives up.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            .http2_keep_alive_while_idle(true);
    } else {
        builder = builder.http1_only();
    }
    if let Some(proxy) = &settings.proxy {
        let mut to = reqwest::Proxy::all(proxy.url.clone())?;
        if let Some((username, password)) = &proxy.login {
            to = to.basic_auth(username, password.expose());
        }
        builder = builder.proxy(to);
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use crate::upstream::Failure;

    use super::*;

    #[tokio::test]
    async fn t4_a_target_whose_name_leads_home_is_refused_and_not_dialled() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let resolver = Resolver { reach: Reach::PublicOnly, proxy: None };
        let tls = tls::client_config(&[], None, false, false).unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let client = client.dns_resolver(Arc::new(resolver)).build().unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let failure = Failure::of_reqwest(client.get(url).send().await.unwrap_err());
        assert!(matches!(failure, Failure::Refused(_)), "{failure}");
        assert!(listener.accept().is_err(), "somebody connected");
    }
}
