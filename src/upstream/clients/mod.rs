//! The HTTP clients of one upstream, by lane and by the addresses they may reach.

mod documents;
pub(in crate::upstream) mod egress;
mod pool;
mod recipe;
mod tls;
mod trial;

pub use documents::{DocumentError, read_document};
pub use egress::is_public;
pub(in crate::upstream) use pool::Pool;
pub use recipe::ClientError;
pub use tls::{check_ca, system_trust};
pub(in crate::upstream) use trial::Trial;

use crate::upstream::breaker::Lane;
use crate::upstream::settings::UpstreamSettings;
use egress::Reach;
use recipe::{Keep, Recipe};

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

#[derive(Debug)]
struct ByLane {
    manifests: Pool,
    blobs: Pool,
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

    pub(in crate::upstream) fn own(&self, lane: Lane) -> &Pool {
        self.own.lane(lane)
    }

    pub(in crate::upstream) fn foreign(&self, lane: Lane, reach: Reach) -> &Pool {
        match reach {
            Reach::PublicOnly => self.foreign_public.lane(lane),
            Reach::NotLinkLocal | Reach::Anywhere => self.foreign_private.lane(lane),
        }
    }
}

/// For the servers of a cloud: a client for metadata services, which are of this machine, and one for all others. They are
/// asked once in hours, so that nothing is kept.
pub(in crate::upstream) fn clients_for_clouds(
    settings: &UpstreamSettings,
) -> Result<(reqwest::Client, reqwest::Client), ClientError> {
    let recipe = |reach| Recipe::new(settings, reach, false, Lane::Manifests);
    let direct = recipe(Reach::Anywhere)?.without_proxy().build(Keep::Nothing)?;
    Ok((direct, recipe(Reach::NotLinkLocal)?.build(Keep::Nothing)?))
}

impl ByLane {
    fn new(settings: &UpstreamSettings, reach: Reach, own: bool) -> Result<Self, ClientError> {
        let pool = |lane| Pool::new(settings, Recipe::new(settings, reach, own, lane)?, lane);
        Ok(Self { manifests: pool(Lane::Manifests)?, blobs: pool(Lane::Blobs)? })
    }

    const fn lane(&self, lane: Lane) -> &Pool {
        match lane {
            Lane::Manifests => &self.manifests,
            Lane::Blobs => &self.blobs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::egress::Resolver;
    use super::*;
    use crate::upstream::Failure;

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
