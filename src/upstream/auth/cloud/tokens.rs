//! The logins that clouds have given, in memory: each is fetched by one at a time, for all who ask, and renewed before it ends.
//! If that fails, the old one is used until its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use url::Url;

use super::ask::Asker;
use super::aws::EcrRegistry;
use super::azure::AcrRegistry;
use super::error::CloudError;
use super::minted::Minted;
use super::troubles::CloudTroubles;
use super::{CloudIdentity, Source};
use crate::clock::{Clock, Timestamp};
use crate::coalesce::Coalesce;
use crate::secret::Secret;
use crate::upstream::Context;
use crate::upstream::body::Rooms;
use crate::upstream::clients::{ClientError, clients_for_clouds};
use crate::upstream::settings::UpstreamSettings;

/// Longest time for all requests that one login takes.
const PATIENCE: Duration = Duration::from_secs(15);
/// After a failure, nobody asks again for so long.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// A login that is refused is fetched anew if it is older than this. A younger one is as good as a new one.
const YOUNG: Duration = Duration::from_mins(1);
/// Registries whose logins are kept. A wildcard may admit as many.
const MAX_KEPT: usize = 1000;

/// The logins of one configured upstream.
pub(in crate::upstream) struct CloudTokens {
    asker: Asker,
    clock: Clock,
    tasks: TaskTracker,
    kept: Mutex<HashMap<Key, Kept>>,
    fetches: Coalesce<Key, Result<Token, CloudError>>,
    troubles: CloudTroubles,
}

/// What a login is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Ecr(EcrRegistry),
    Gar,
    Acr(AcrRegistry),
}

#[derive(Default)]
struct Kept {
    token: Option<Token>,
    /// The last failure, and until when it counts.
    failed: Option<(Timestamp, CloudError)>,
}

#[derive(Debug, Clone)]
struct Token {
    username: String,
    password: Secret,
    since: Timestamp,
    /// From this time on, the first use starts a renewal in the background.
    renew: Timestamp,
    expires: Timestamp,
}

enum Look {
    Good(Token),
    Ageing(Token),
    Failed(CloudError),
    Nothing,
}

impl Key {
    fn of(identity: &CloudIdentity, endpoint: &Url, names: &[&str]) -> Result<Self, CloudError> {
        let key = match &*identity.source {
            Source::Ecr(_) => names.iter().find_map(|name| EcrRegistry::of(name)).map(Self::Ecr),
            Source::Gar(_) => Some(Self::Gar),
            Source::Acr(_) => AcrRegistry::of(endpoint, names).map(Self::Acr),
        };
        key.ok_or_else(|| CloudError::Foreign { registry: names.first().copied().unwrap_or_default().to_owned() })
    }
}

impl CloudTokens {
    pub(in crate::upstream) fn new(settings: &UpstreamSettings, context: &Context) -> Result<Self, ClientError> {
        let (direct, outside) = clients_for_clouds(settings)?;
        let (name, metrics) = (settings.name.clone(), context.metrics.clone());
        Ok(Self {
            troubles: CloudTroubles::new(name.clone(), context.health.clone(), metrics.clone()),
            asker: Asker { direct, outside, metrics, name, rooms: Rooms::default() },
            clock: context.clock.clone(),
            tasks: context.tasks.clone(),
            kept: Mutex::default(),
            fetches: Coalesce::new(context.tasks.clone()),
        })
    }

    /// A user name and a password. `names` are those of the registry: the endpoint's host, the authority.
    pub(in crate::upstream) async fn login(
        self: &Arc<Self>,
        identity: &CloudIdentity,
        endpoint: &Url,
        names: &[&str],
    ) -> Result<(String, Secret), CloudError> {
        let key = Key::of(identity, endpoint, names)?;
        let fetch = {
            let (tokens, identity, key) = (Arc::clone(self), identity.clone(), key.clone());
            move || Arc::clone(&tokens).fetch(identity.clone(), key.clone())
        };
        let token = match self.look(&key) {
            Look::Good(token) => token,
            Look::Ageing(token) => {
                let tokens = Arc::clone(self);
                self.tasks.spawn(async move {
                    // A failure is told by who finds it.
                    let _told = tokens.fetches.run(key, fetch).await;
                });
                token
            }
            Look::Failed(err) => return Err(err),
            Look::Nothing => {
                let (fetched, _) = self.fetches.run(key, fetch).await.map_err(|_died| CloudError::Late)?;
                fetched?
            }
        };
        Ok((token.username, token.password))
    }

    /// Drops a login that a registry has refused, unless it is young.
    pub(in crate::upstream) fn drop_refused(
        &self,
        identity: &CloudIdentity,
        endpoint: &Url,
        names: &[&str],
        password: &Secret,
    ) {
        let Ok(key) = Key::of(identity, endpoint, names) else { return };
        let now = self.clock.now();
        if let Some(kept) = self.kept().get_mut(&key) {
            kept.token.take_if(|token| token.password == *password && now.since(token.since) >= YOUNG);
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, key: &Key) -> Look {
        let now = self.clock.now();
        let mut kept = self.kept();
        let Some(Kept { token, failed }) = kept.get_mut(key) else { return Look::Nothing };
        let failed = failed.as_ref().filter(|(until, _)| now < *until).map(|(_, err)| err.clone());
        match (token.as_mut().filter(|token| now < token.expires), failed) {
            (Some(token), None) if token.renew <= now => {
                // One renewal for all who ask meanwhile.
                token.renew = now.plus(LEFT_ALONE);
                Look::Ageing(token.clone())
            }
            (Some(token), _) => Look::Good(token.clone()),
            (None, Some(err)) => Look::Failed(err),
            (None, None) => Look::Nothing,
        }
    }

    async fn fetch(self: Arc<Self>, identity: CloudIdentity, key: Key) -> Result<Token, CloudError> {
        let minted = tokio::time::timeout(PATIENCE, self.mint(&identity, &key)).await;
        let fetched = minted.unwrap_or(Err(CloudError::Late)).map(|minted| self.token(minted));
        self.troubles.tell(identity.name(), fetched.as_ref().err());
        self.keep(key, &fetched);
        fetched
    }

    /// Asks once more after a failure of a moment.
    async fn mint(&self, identity: &CloudIdentity, key: &Key) -> Result<Minted, CloudError> {
        match self.mint_once(identity, key).await {
            Err(err) if err.may_be_over_soon() => self.mint_once(identity, key).await,
            minted => minted,
        }
    }

    async fn mint_once(&self, identity: &CloudIdentity, key: &Key) -> Result<Minted, CloudError> {
        let now = self.clock.now();
        match (&*identity.source, key) {
            (Source::Ecr(identity), Key::Ecr(registry)) => identity.mint(&self.asker, registry, now).await,
            (Source::Gar(identity), Key::Gar) => identity.mint(&self.asker, now).await,
            (Source::Acr(identity), Key::Acr(registry)) => identity.mint(&self.asker, registry, now).await,
            (Source::Ecr(_) | Source::Gar(_) | Source::Acr(_), _) => {
                Err(CloudError::Foreign { registry: self.asker.name.clone() })
            }
        }
    }

    fn token(&self, minted: Minted) -> Token {
        let Minted { username, password, life } = minted;
        let since = self.clock.now();
        let mut random = [0];
        // Several mirrors that were started together do not renew together. Without randomness they do.
        let _none = getrandom::fill(&mut random);
        let part = 70 + u32::from(random[0]) * 15 / 255;
        let margin = (life / 10).min(Duration::from_mins(1));
        Token {
            username,
            password,
            since,
            renew: since.plus(life / 100 * part),
            expires: since.plus(life.saturating_sub(margin)),
        }
    }

    fn keep(&self, key: Key, fetched: &Result<Token, CloudError>) {
        let now = self.clock.now();
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT && !kept.contains_key(&key) {
            kept.retain(|_, kept| kept.token.as_ref().is_some_and(|token| now < token.expires));
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        let entry = kept.entry(key).or_default();
        match fetched {
            Ok(token) => *entry = Kept { token: Some(token.clone()), failed: None },
            Err(err) => entry.failed = Some((now.plus(LEFT_ALONE), err.clone())),
        }
    }
}
