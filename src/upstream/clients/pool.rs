//! Kept connections, and how a request does without them.
//!
//! A kept connection may have been closed, or be dead, when the next request goes out on it. A GET or HEAD that it does
//! not answer is sent once more on a new connection (RFC 9112 section 9.3.1): at once if the connection ended, beside it
//! if it is silent. Nothing of this happens on a connection that is new.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Method;
use tokio::time::Instant;
use url::Url;

use super::recipe::{ClientError, Keep, Recipe};
use super::trial::Trial;
use crate::upstream::breaker::Lane;
use crate::upstream::error::Failure;
use crate::upstream::settings::UpstreamSettings;

/// A kept connection that is silent for so long, or for half of the time that is left, is doubted. A blob gets the half: a
/// registry may have to fetch it first.
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// How long no request is sent twice after a doubted connection answered first: the upstream is slow, and asking twice
/// would make it slower.
const SLOW_FOR: Duration = Duration::from_mins(1);

/// The connections of one lane to the hosts that one client may reach.
#[derive(Debug)]
pub(in crate::upstream) struct Pool {
    recipe: Recipe,
    kept: Mutex<Kept>,
    /// Has a new connection for each request.
    fresh: reqwest::Client,
    response_timeout: Duration,
    max_patience: Duration,
    /// From this time on, a request is sent beside one that is silent.
    doubts_from: Mutex<Instant>,
}

/// The client that keeps connections, and how many were there before it.
#[derive(Debug, Clone)]
struct Kept {
    client: reqwest::Client,
    generation: u64,
}

/// A request that is out. If it is given up on a kept connection, the others that are kept are doubted too.
struct Out<'p> {
    pool: &'p Pool,
    trial: &'p Trial,
    generation: u64,
    doubted_from: Instant,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        if self.trial.waits_on_kept() && self.doubted_from <= Instant::now() {
            self.pool.renew(self.generation);
        }
    }
}

impl Pool {
    pub(super) fn new(settings: &UpstreamSettings, recipe: Recipe, lane: Lane) -> Result<Self, ClientError> {
        Ok(Self {
            kept: Mutex::new(Kept { client: recipe.build(Keep::Idle)?, generation: 0 }),
            fresh: recipe.build(Keep::Nothing)?,
            recipe,
            response_timeout: settings.response_timeout,
            max_patience: match lane {
                Lane::Manifests => MAX_PATIENCE,
                Lane::Blobs => Duration::MAX,
            },
            doubts_from: Mutex::new(Instant::now()),
        })
    }

    /// A request for [`Self::send`].
    pub(in crate::upstream) fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        self.fresh.request(method, url)
    }

    /// Sends a request and waits for the head of its answer.
    pub(in crate::upstream) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        let request = request.build().map_err(Failure::of_reqwest)?;
        let again = request.try_clone().filter(|again| matches!(*again.method(), Method::GET | Method::HEAD));
        let (trial, kept) = (Trial::current(), self.kept());
        trial.asks();
        let patience = self.max_patience.min(trial.time_left().unwrap_or(self.response_timeout) / 2);
        let doubted_from = Instant::now() + patience;
        let _out = Out { pool: self, trial: &trial, generation: kept.generation, doubted_from };
        let mut first = Box::pin(trial.watch(kept.client.execute(request)));
        let in_time = if self.doubts() {
            tokio::time::timeout_at(doubted_from, first.as_mut()).await.ok()
        } else {
            Some(first.as_mut().await)
        };
        let answer = match (in_time, again) {
            (Some(Err(err)), Some(again)) if trial.waits_on_kept() && !err.is_connect() => {
                trial.opens();
                self.fresh.execute(again).await
            }
            (Some(answer), _) => answer,
            (None, Some(again)) if trial.waits_on_kept() => {
                self.renew(kept.generation);
                trial.opens();
                self.beside(first.as_mut(), again).await
            }
            (None, _) => first.await,
        };
        trial.is_answered();
        answer.map_err(Failure::of_reqwest)
    }

    /// Sends a request on a new connection beside the one that is silent. The first answer counts.
    async fn beside<F>(&self, silent: Pin<&mut F>, again: reqwest::Request) -> reqwest::Result<reqwest::Response>
    where
        F: Future<Output = reqwest::Result<reqwest::Response>>,
    {
        match select(silent, Box::pin(self.fresh.execute(again))).await {
            Either::Left((Ok(answer), _)) => {
                *self.doubts_from.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + SLOW_FOR;
                Ok(answer)
            }
            Either::Left((Err(_ended), fresh)) => fresh.await,
            Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Right((Err(_failed), silent)) => silent.await,
        }
    }

    fn doubts(&self) -> bool {
        *self.doubts_from.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the idle connections of this generation. What is in flight on them goes on.
    fn renew(&self, generation: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The same recipe was good before; if it is not now, the old client is still better than none.
        if kept.generation == generation
            && let Ok(client) = self.recipe.build(Keep::Idle)
        {
            *kept = Kept { client, generation: generation + 1 };
        }
    }
}
