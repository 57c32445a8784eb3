//! Basic credentials against the htpasswd file. A check costs a core up to a second, so few run at one time, off the
//! runtime; a password that was right is remembered, by its keyed hash.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_cache::sync::Cache;
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::client::{Client, Clients};
use super::htpasswd::Htpasswd;
use super::keyed_hash::{KeyedHash, keyed_hash};
use crate::coalesce::{Coalesce, queued};
use crate::metrics::Metrics;

/// Right logins that are remembered: about 100 bytes each.
const MAX_RIGHT: usize = 10_000;
/// Wrong ones, remembered for a moment: clients repeat them.
const MAX_WRONG: u64 = 10_000;
const WRONG_FOR: Duration = Duration::from_secs(10);
/// Checks at one time, and those that wait, of all clients and of one.
const MAX_CHECKS: usize = 2;
const MAX_WAITING: usize = 64;
const MAX_WAITING_OF_ONE: usize = 8;
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Longest header with a name and a password, in bytes.
const MAX_LOGIN_BYTES: usize = 4096;

/// What came of a login.
#[derive(Clone)]
pub(super) enum Verdict {
    Right(Arc<Client>),
    Wrong,
    /// Too many other logins are being checked.
    Busy,
}

pub(super) struct Logins {
    secret: hmac::Key,
    checks: Coalesce<KeyedHash, Verdict>,
    checker: Arc<Checker>,
}

struct Checker {
    right: Cache<KeyedHash, Arc<Client>>,
    wrong: moka::sync::Cache<KeyedHash, ()>,
    htpasswd: Htpasswd,
    clients: HashMap<String, Arc<Client>>,
    permits: Arc<Semaphore>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
    metrics: Metrics,
}

impl Logins {
    pub(super) fn new(htpasswd: &Htpasswd, secret: &hmac::Key, clients: &mut Clients<'_>, metrics: &Metrics) -> Self {
        let clients = htpasswd.names().map(|name| (name.to_owned(), clients.user(name))).collect();
        let checker = Checker {
            right: Cache::new(MAX_RIGHT),
            wrong: moka::sync::Cache::builder().max_capacity(MAX_WRONG).time_to_live(WRONG_FOR).build(),
            htpasswd: htpasswd.clone(),
            clients,
            permits: Arc::new(Semaphore::new(MAX_CHECKS)),
            waiting: Mutex::default(),
            metrics: metrics.clone(),
        };
        Self { secret: secret.clone(), checks: Coalesce::new(TaskTracker::new()), checker: Arc::new(checker) }
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.checker.clients.values()
    }

    /// `encoded` is what follows `Basic`.
    pub(super) async fn check(&self, encoded: &[u8], peer: IpAddr) -> Verdict {
        let hash = keyed_hash(&self.secret, encoded);
        if let Some(verdict) = self.checker.remembered(&hash) {
            return verdict;
        }
        let Some((name, password)) = decode(encoded) else { return Verdict::Wrong };
        let look = || {
            let checker = Arc::clone(&self.checker);
            async move { checker.remembered(&hash) }
        };
        let work = || Arc::clone(&self.checker).check(hash, name.clone(), password.clone(), peer);
        let checked = Box::pin(self.checks.run_unless(hash, look, work)).await;
        checked.map_or(Verdict::Busy, |(verdict, _)| verdict)
    }
}

fn decode(encoded: &[u8]) -> Option<(String, Arc<str>)> {
    if encoded.len() > MAX_LOGIN_BYTES {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.into()))
}

impl Checker {
    fn remembered(&self, hash: &KeyedHash) -> Option<Verdict> {
        let right = self.right.get(hash).map(Verdict::Right);
        right.or_else(|| self.wrong.contains_key(hash).then_some(Verdict::Wrong))
    }

    async fn check(self: Arc<Self>, hash: KeyedHash, name: String, password: Arc<str>, peer: IpAddr) -> Verdict {
        let known = self.clients.get(&name).cloned();
        let verdict = match self.run(name, password, peer).await {
            Some(true) => known.clone().map_or(Verdict::Wrong, Verdict::Right),
            Some(false) => Verdict::Wrong,
            None => Verdict::Busy,
        };
        let result = match &verdict {
            Verdict::Right(client) => {
                self.right.insert(hash, Arc::clone(client));
                "accepted"
            }
            Verdict::Wrong => {
                self.wrong.insert(hash, ());
                // A name that nobody has may be a password in the wrong place.
                let name = known.as_ref().map_or("unknown", |client| &client.name);
                tracing::warn!(client = %peer, identity = name, "a login was refused");
                "refused"
            }
            Verdict::Busy => "busy",
        };
        self.metrics.logins.get_or_create(&[("result", result)]).inc();
        verdict
    }

    async fn run(self: &Arc<Self>, name: String, password: Arc<str>, peer: IpAddr) -> Option<bool> {
        let _waiting = Waiting::begin(self, peer)?;
        let permit = timeout(MAX_WAIT, queued(Arc::clone(&self.permits).acquire_owned())).await.ok()?.ok()?;
        let checker = Arc::clone(self);
        let check = move || {
            let _permit = permit;
            checker.htpasswd.is_right(&name, &password)
        };
        tokio::task::spawn_blocking(check).await.ok()
    }
}

/// Counts a check of a client from its place in the queue to its end.
struct Waiting {
    checker: Arc<Checker>,
    peer: IpAddr,
}

impl Waiting {
    fn begin(checker: &Arc<Checker>, peer: IpAddr) -> Option<Self> {
        let mut waiting = checker.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let own = waiting.get(&peer).copied().unwrap_or_default();
        if own >= MAX_WAITING_OF_ONE || waiting.values().sum::<usize>() >= MAX_WAITING {
            return None;
        }
        waiting.insert(peer, own + 1);
        Some(Self { checker: Arc::clone(checker), peer })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.checker.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = waiting.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&self.peer);
            }
        }
    }
}
