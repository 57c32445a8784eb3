//! Where a request leads, by its exact words: reading them is the same work every time, with the same result, since the
//! configuration stands still. Only the way is remembered; whether it may be taken is asked each time.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::quality::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use crate::mirror::Target;
use crate::oci::Authority;

use crate::server::access_log::labels::Labels;
use crate::server::request::route::{Endpoint, Route};
use crate::server::response::headers::CachedHeaders;

/// Bytes of keys and targets: clients choose what is asked for.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// A request with a longer key is read every time.
const MAX_WORDS: usize = 2048;
/// A target's own words, those of its line, its headers, and the entry. Bytes.
const TARGET_BYTES: u64 = 4096;

/// What a request asks for, and of whom.
#[derive(Debug)]
pub(in crate::server) struct ResolvedRequest {
    pub(in crate::server) route: Route,
    pub(in crate::server) place: Target,
    /// What `OCI-Namespace` says.
    pub(in crate::server) ns: Option<Authority>,
    pub(in crate::server) labels: Arc<Labels>,
    pub(in crate::server) ready: CachedHeaders,
}

/// All that decides where a request leads, but for `Via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::server) struct RequestKey<'a> {
    /// Tells the listener, and its own names.
    pub(in crate::server) local: SocketAddr,
    pub(in crate::server) host: Option<&'a str>,
    /// Path and query.
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
        // The words are there some four times: as they came, as names, and as a line has them.
        TARGET_BYTES + 4 * (key.path.len() + key.host.as_deref().map_or(0, str::len)) as u64
    }
}

pub(in crate::server) struct RouteCache {
    targets: Cache<Key, Arc<ResolvedRequest>, Weight, RandomState>,
}

impl Default for RouteCache {
    fn default() -> Self {
        let items = usize::try_from(CACHE_BYTES / (2 * TARGET_BYTES)).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new().estimated_items_capacity(items).weight_capacity(CACHE_BYTES).build();
        let options = options.expect("both capacities are given");
        let targets = Cache::with_options(options, Weight, RandomState::default(), DefaultLifecycle::default());
        Self { targets }
    }
}

impl RouteCache {
    pub(in crate::server) fn find(&self, words: &RequestKey<'_>) -> Option<Arc<ResolvedRequest>> {
        self.targets.get(words)
    }

    pub(in crate::server) fn keep(&self, words: &RequestKey<'_>, target: &Arc<ResolvedRequest>) {
        // The others are asked seldom, and have queries of many forms.
        let is_content = matches!(target.route.endpoint, Endpoint::Manifest(_) | Endpoint::Blob(_));
        if is_content && words.path.len() + words.host.map_or(0, str::len) <= MAX_WORDS {
            let key = Key { local: words.local, host: words.host.map(Box::from), path: words.path.into() };
            self.targets.insert(key, Arc::clone(target));
        }
    }
}
