//! Tokens that an issuer signs (OIDC, RFC 7519): service accounts of Kubernetes, jobs of a CI. A token that was
//! verified is remembered, by its keyed hash, until it expires.

mod claims;
mod issuer;
mod keys;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use ring::hmac;

use super::client::{Client, Strangers};
use super::keyed_hash::{KeyedHash, keyed_hash};
use crate::clock::{Clock, Timestamp};
use claims::Bearer;
use keys::{Found, Keys};

pub use issuer::{OidcIssuer, is_safe};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Good tokens that are remembered.
const MAX_GOOD: usize = 10_000;
/// Bad ones, remembered for a moment: clients repeat them.
const MAX_BAD: u64 = 10_000;
const BAD_FOR: Duration = Duration::from_secs(10);

/// The bearer of a good token.
#[derive(Clone)]
pub(super) struct Stranger {
    pub(super) client: Arc<Client>,
    pub(super) groups: Arc<[String]>,
    pub(super) until: Timestamp,
}

/// What came of a token.
pub(super) enum Verdict {
    Good(Stranger),
    Bad,
    /// Its issuer cannot be asked for keys.
    IssuerAway,
}

pub(super) struct Oidc {
    issuers: Vec<(Arc<OidcIssuer>, Keys)>,
    secret: hmac::Key,
    good: Cache<KeyedHash, Stranger>,
    bad: moka::sync::Cache<KeyedHash, ()>,
    clock: Clock,
}

impl Oidc {
    /// `None` without issuers.
    pub(super) fn new(issuers: &[OidcIssuer], secret: &hmac::Key, clock: &Clock) -> Option<Self> {
        if issuers.is_empty() {
            return None;
        }
        signature::use_ring();
        let issuers = issuers.iter().cloned().map(Arc::new);
        Some(Self {
            issuers: issuers.map(|issuer| (Arc::clone(&issuer), Keys::new(issuer, clock.clone()))).collect(),
            secret: secret.clone(),
            good: Cache::new(MAX_GOOD),
            bad: moka::sync::Cache::builder().max_capacity(MAX_BAD).time_to_live(BAD_FOR).build(),
            clock: clock.clone(),
        })
    }

    /// Whether it has the form of a JWT, which neither passwords nor our own tokens have.
    pub(super) fn has_the_form(token: &[u8]) -> bool {
        token.starts_with(b"eyJ") && token.split(|byte| *byte == b'.').count() == 3
    }

    /// `is_taken`: names that the configuration gives to others, which no issuer can give.
    pub(super) async fn check(
        &self,
        token: &[u8],
        strangers: &Strangers,
        is_taken: impl Fn(&str) -> bool,
        peer: std::net::IpAddr,
    ) -> Verdict {
        let token = token.trim_ascii();
        let hash = keyed_hash(&self.secret, token);
        if let Some(known) = self.good.get(&hash).filter(|known| known.until > self.clock.now()) {
            return Verdict::Good(known);
        }
        if token.len() > MAX_TOKEN_BYTES || self.bad.contains_key(&hash) {
            return Verdict::Bad;
        }
        match Box::pin(self.verify(token)).await {
            Ok(Bearer { name, groups, until }) if !is_taken(&name) => {
                tracing::info!(client = %peer, identity = name, ?groups, "a token was accepted");
                let stranger = Stranger { client: strangers.find(&name.into(), true), groups: groups.into(), until };
                self.good.insert(hash, stranger.clone());
                Verdict::Good(stranger)
            }
            Ok(_) => self.refuse(hash, "its name is that of a user or a key", peer),
            Err(Some(why)) => self.refuse(hash, &why, peer),
            Err(None) => Verdict::IssuerAway,
        }
    }

    fn refuse(&self, hash: KeyedHash, why: &str, peer: std::net::IpAddr) -> Verdict {
        self.bad.insert(hash, ());
        tracing::warn!(client = %peer, error = why, "a token was refused");
        Verdict::Bad
    }

    /// The error is the reason; `None`: the issuer is away.
    async fn verify(&self, token: &[u8]) -> Result<Bearer, Option<String>> {
        let bad = |why: &str| Some(why.to_owned());
        let header = jsonwebtoken::decode_header(token).map_err(|_malformed| bad("its algorithm is not known"))?;
        let named = claims::claimed_issuer(token).ok_or_else(|| bad("it names no issuer"))?;
        let by_name = self.issuers.iter().find(|(issuer, _)| issuer.issuer == named);
        let (issuer, keys) = by_name.ok_or_else(|| bad("its issuer is not in `access.oidc`"))?;
        let id = header.kid.ok_or_else(|| bad("it names no key"))?;
        let key = match keys.find(&id).await {
            Found::Key(key) => key,
            Found::Unknown => return Err(bad("its key is not one of its issuer's")),
            Found::Away => return Err(None),
        };
        claims::verify(token, header.alg, &key, issuer, self.clock.now()).map_err(|err| bad(&err.to_string()))
    }
}
