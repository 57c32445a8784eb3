//! Fills: one running download for each registry and digest, owned by no client and followed by all its readers.
//!
//! [`Fills::join_or_start`] gives the running fill, or starts one as a task of its own ([`task`]). The task waits for its
//! turn ([`admission`]), downloads over one or more connections ([`download`]), proves the digest and hands the blob to
//! the cache. Readers follow what is there ([`progress`], [`reader`]).
//!
//! A fill knows no freshness and no grants. Its caller decides who may join it.

mod admission;
mod download;
mod error;
mod in_flight;
mod pass_through;
mod progress;
mod reader;
mod task;

use std::sync::Arc;

pub use admission::FillLimits;
pub use error::FillError;
pub use in_flight::RunningFill;
pub use pass_through::{PassThroughSource, read_whole};
pub use progress::{Fill, FillWatcher, Priority, WITHHELD_BYTES};
pub use reader::{BlobReader, BlobSource, BodyPart, FillSource, unreadable};

use crate::cache::retention::Evictor;
use crate::cache::{Cache, RegistryFacts};
use crate::index::Scope;
use crate::oci::{Authority, Digest};
use crate::upstream::RegistryClient;

use admission::Queue;
use in_flight::InFlight;
use pass_through::ProvenTails;

/// All fills of this mirror.
pub struct Fills {
    cache: Arc<Cache>,
    evictor: Arc<Evictor>,
    in_flight: InFlight,
    admission: Queue,
    tails: Arc<ProvenTails>,
}

/// Where a fill's bytes come from: a registry.
pub struct Source {
    pub client: RegistryClient,
    pub facts: RegistryFacts,
}

impl Fills {
    pub fn new(cache: Arc<Cache>, evictor: Arc<Evictor>, limits: FillLimits) -> Arc<Self> {
        let in_flight = InFlight::new(cache.leases.clone());
        let tails = ProvenTails::new(cache.context.tasks.clone());
        Arc::new(Self { cache, evictor, in_flight, admission: Queue::new(limits), tails })
    }

    /// What gives a blob of `size_bytes` to one client without storing it. The caller has asked whether `scope` may read it.
    pub fn pass_through(
        &self,
        source: &Arc<Source>,
        scope: &Scope,
        digest: Digest,
        size_bytes: u64,
    ) -> Box<PassThroughSource> {
        let (origin, scope) = (Arc::clone(source), scope.clone());
        let (metrics, tails) = (self.cache.context.metrics.clone(), Arc::clone(&self.tails));
        Box::new(PassThroughSource { origin, scope, digest, size_bytes, metrics, tails, place: Arc::default() })
    }

    /// The running fill of this digest from this registry, for a client that asks for the blob.
    pub fn running(&self, authority: &Authority, digest: Digest) -> Option<Arc<Fill>> {
        self.in_flight.running(authority, digest).inspect(|fill| fill.ask())
    }

    /// The first of those that run or wait, in the order in which they began, and how many there are.
    pub fn list(&self, most: usize) -> (Vec<RunningFill>, usize) {
        self.in_flight.list(most)
    }

    /// How many fills of this registry run.
    pub fn count_running(&self, authority: &Authority) -> usize {
        self.admission.count_running(authority)
    }

    /// Whether a fill from here would run at once.
    pub fn has_place(&self, source: &Source) -> bool {
        self.admission.has_place(source.client.authority(), source.client.settings().max_connections)
    }

    /// The running fill, or a new one that is granted to `scope`. `true` if it is new.
    ///
    /// `may_be_stored`: another fill may have ended since the caller looked; the new one looks again.
    pub fn join_or_start(
        self: &Arc<Self>,
        source: &Arc<Source>,
        scope: &Scope,
        digest: Digest,
        priority: Priority,
        may_be_stored: impl FnOnce() -> bool,
    ) -> (Arc<Fill>, bool) {
        let new = || Fill::new(digest, scope.clone(), priority);
        let (fill, is_new) = self.in_flight.join_or_start(&scope.authority, digest, new);
        if priority == Priority::Client {
            fill.ask();
        }
        if is_new {
            let task = task::FillTask::new(self, source, scope, Arc::clone(&fill));
            self.cache.context.tasks.spawn(task.run(may_be_stored()));
        }
        (fill, is_new)
    }

    /// Ends the downloads of what may not be read in any scope any more.
    pub fn end_blocked(&self) {
        self.in_flight.end_blocked(&self.cache.blocks);
    }

    /// Grants in this scope do not stand any more: running fills grant it nothing.
    pub fn revoke(&self, scope: &Scope) {
        self.in_flight.revoke(scope);
    }
}
