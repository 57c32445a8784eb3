//! The keys of one issuer as they are now: fetched when a token needs them, kept while the issuer is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use url::Url;

use super::issuer::{OidcIssuer, is_safe};
use super::signature::{Key, read_keys};
use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::secret::Secret;
use crate::upstream::{DocumentError, read_document};

/// The issuer is asked no more often, whatever tokens name.
const ASK_EVERY: Duration = Duration::from_mins(1);
/// Keys are fetched again after this, so that one that was withdrawn is forgotten.
const FRESH_FOR: Duration = Duration::from_hours(1);
/// Keys of an issuer that does not answer are used for so long.
const KEPT_FOR: Duration = Duration::from_hours(24);

/// What is known of a key.
pub(super) enum Found {
    Key(Arc<Key>),
    /// The issuer has no such key.
    Unknown,
    /// The issuer cannot be asked, and was not for too long.
    Away,
}

pub(super) struct Keys {
    issuer: Arc<OidcIssuer>,
    clock: Clock,
    held: Arc<Mutex<Held>>,
    fetches: Coalesce<(), ()>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<String, Arc<Key>>,
    /// When `keys` came.
    fetched: Option<Timestamp>,
    /// When the issuer was asked last.
    asked: Option<Timestamp>,
    is_asking: bool,
}

impl Keys {
    pub(super) fn new(issuer: Arc<OidcIssuer>, clock: Clock) -> Self {
        Self { issuer, clock, held: Arc::default(), fetches: Coalesce::new(TaskTracker::new()) }
    }

    pub(super) async fn find(&self, id: &str) -> Found {
        let now = self.clock.now();
        if self.is_to_ask(id, now) {
            let is_over = |held: &Arc<Mutex<Held>>| !locked(held).is_asking;
            let look = || {
                let held = Arc::clone(&self.held);
                async move { is_over(&held).then_some(()) }
            };
            let work = || renew(Arc::clone(&self.issuer), Arc::clone(&self.held), now);
            // If it died, what is held counts.
            let _asked = self.fetches.run_unless((), look, work).await;
        }
        let held = locked(&self.held);
        match held.fetched {
            Some(fetched) if now.since(fetched) < KEPT_FOR => {
                held.keys.get(id).cloned().map_or(Found::Unknown, Found::Key)
            }
            Some(_) | None => Found::Away,
        }
    }

    /// Whether the issuer is to be asked, or is being asked, before the answer is known.
    fn is_to_ask(&self, id: &str, now: Timestamp) -> bool {
        let mut held = locked(&self.held);
        let is_fresh = held.fetched.is_some_and(|fetched| now.since(fetched) < FRESH_FOR);
        if is_fresh && held.keys.contains_key(id) {
            return false;
        }
        if held.asked.is_none_or(|asked| now.since(asked) >= ASK_EVERY) {
            held.asked = Some(now);
            held.is_asking = true;
        }
        held.is_asking
    }
}

fn locked(held: &Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn renew(issuer: Arc<OidcIssuer>, held: Arc<Mutex<Held>>, now: Timestamp) {
    let fetched = fetch(&issuer).await;
    let mut held = locked(&held);
    held.is_asking = false;
    match fetched {
        Ok(keys) => {
            held.keys = keys.into_iter().map(|(id, key)| (id, Arc::new(key))).collect();
            held.fetched = Some(now);
        }
        Err(err) => {
            let since = held.fetched.map(Timestamp::rfc3339);
            tracing::warn!(
                issuer = issuer.issuer,
                error = %err,
                keys_of = since,
                "the keys of an issuer cannot be fetched; those that are held count for a day"
            );
        }
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}: {1}")]
    Document(Url, DocumentError),
    #[error("{0} is no set of keys, or none of them can be used")]
    NoKeys(Url),
    #[error("{0} is not the configuration of this issuer, or names no `jwks_uri` by https")]
    Discovery(Url),
    #[error("`token_file` cannot be read: {0}")]
    TokenFile(std::io::Error),
}

async fn fetch(issuer: &OidcIssuer) -> Result<HashMap<String, Key>, FetchError> {
    let url = match &issuer.jwks {
        Some(url) => url.clone(),
        None => discover(issuer).await?,
    };
    let document = read(issuer, &url).await?;
    let keys = read_keys(&document).filter(|keys| !keys.is_empty());
    keys.ok_or(FetchError::NoKeys(url))
}

/// The place of the keys, by the issuer's own configuration (OIDC Discovery 1.0).
async fn discover(issuer: &OidcIssuer) -> Result<Url, FetchError> {
    #[derive(serde::Deserialize)]
    struct Configuration {
        issuer: String,
        jwks_uri: String,
    }
    let mut url = issuer.url.clone();
    url.set_path(&format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/')));
    let document = read(issuer, &url).await?;
    let read = serde_json::from_slice::<Configuration>(&document).ok().filter(|read| read.issuer == issuer.issuer);
    let keys = read.and_then(|read| Url::parse(&read.jwks_uri).ok()).filter(is_safe);
    keys.ok_or(FetchError::Discovery(url))
}

async fn read(issuer: &OidcIssuer, url: &Url) -> Result<bytes::Bytes, FetchError> {
    // The token is for the place that the operator has named.
    let own = issuer.jwks.as_ref().unwrap_or(&issuer.url);
    let bearer = match issuer.token_file.as_ref().filter(|_| own.origin() == url.origin()) {
        Some(file) => {
            let token = tokio::fs::read_to_string(file).await.map_err(FetchError::TokenFile)?;
            Some(Secret::new(token.trim()))
        }
        None => None,
    };
    let read = Box::pin(read_document(url, &issuer.ca, bearer.as_ref())).await;
    read.map_err(|err| FetchError::Document(url.clone(), err))
}
