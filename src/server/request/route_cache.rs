//! Caches resolved requests by their exact text. The configuration does not change while the server runs, so resolving
//! gives the same result every time. Only the route is cached; access is checked on each request.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::quality::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use crate::mirror::Target;
use crate::oci::Authority;

use crate::server::access_log::labels::Labels;
use crate::server::request::route::{Endpoint, Route};
use crate::server::response::cached_headers::CachedHeaders;

/// Largest size of all entries in bytes. Clients choose the keys, so it must be bounded.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Longest key that is cached, in bytes.
const MAX_KEY_BYTES: usize = 2048;
/// Estimated size of an entry without its key, in bytes: names, log text, headers.
const ENTRY_BYTES: u64 = 4096;

/// A request with its registry and repository.
#[derive(Debug)]
pub(in crate::server) struct ResolvedRequest {
    pub(in crate::server) route: Route,
    pub(in crate::server) target: Target,
    /// The value of `OCI-Namespace` in answers.
    pub(in crate::server) ns: Option<Authority>,
    pub(in crate::server) labels: Arc<Labels>,
    pub(in crate::server) ready: CachedHeaders,
}

/// The part of a request that decides its route, except `Via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::server) struct RequestKey<'a> {
    /// Identifies the listener, and its own host names.
    pub(in crate::server) local: SocketAddr,
    pub(in crate::server) host: Option<&'a str>,
    /// Path and query, undecoded.
    pub(in crate::server) path: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    local: SocketAddr,
    host: Option<Box<str>>,
    path: Box<str>,
}

impl Equivalent<Key> for RequestKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == RequestKey { local: key.local, host: key.host.as_deref(), path: &key.path }
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<ResolvedRequest>> for Weight {
    fn weight(&self, key: &Key, _: &Arc<ResolvedRequest>) -> u64 {
        // An entry holds its key's text about four times: raw, as names, and as log text.
        ENTRY_BYTES + 4 * (key.path.len() + key.host.as_deref().map_or(0, str::len)) as u64
    }
}

pub(in crate::server) struct RouteCache {
    routes: Cache<Key, Arc<ResolvedRequest>, Weight, RandomState>,
}

impl Default for RouteCache {
    fn default() -> Self {
        let items = usize::try_from(CACHE_BYTES / (2 * ENTRY_BYTES)).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new().estimated_items_capacity(items).weight_capacity(CACHE_BYTES).build();
        let options = options.expect("both capacities are given");
        let routes = Cache::with_options(options, Weight, RandomState::default(), DefaultLifecycle::default());
        Self { routes }
    }
}

impl RouteCache {
    pub(in crate::server) fn find(&self, key: &RequestKey<'_>) -> Option<Arc<ResolvedRequest>> {
        self.routes.get(key)
    }

    pub(in crate::server) fn keep(&self, key: &RequestKey<'_>, resolved: &Arc<ResolvedRequest>) {
        // Other endpoints are requested seldom, with many different queries.
        let is_content = matches!(resolved.route.endpoint, Endpoint::Manifest(_) | Endpoint::Blob(_));
        if is_content && key.path.len() + key.host.map_or(0, str::len) <= MAX_KEY_BYTES {
            let owned = Key { local: key.local, host: key.host.map(Box::from), path: key.path.into() };
            self.routes.insert(owned, Arc::clone(resolved));
        }
    }
}
