//! What an endpoint is known to demand: the challenges that were answered with success, by repository, and that of `/v2/`.
//!
//! Some registries send no challenge, or another realm, after a token has expired. Some have a token server for each group of
//! repositories, which knows nothing of the others: a challenge counts for the repository that it came from.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::oci::Repository;

use super::challenge::Challenge;

/// Bytes that the challenges of one endpoint take together. Those used least are forgotten, which costs one request each.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long the answer of `/v2/` is believed.
const PING_LIFE: Duration = Duration::from_mins(1);

/// What `/v2/` demands.
#[derive(Debug, Clone)]
pub(super) enum PingAnswer {
    NoChallenge,
    Challenge(Challenge),
}

impl From<Option<Challenge>> for PingAnswer {
    fn from(challenge: Option<Challenge>) -> Self {
        challenge.map_or(Self::NoChallenge, Self::Challenge)
    }
}

impl From<PingAnswer> for Option<Challenge> {
    fn from(answer: PingAnswer) -> Self {
        match answer {
            PingAnswer::NoChallenge => None,
            PingAnswer::Challenge(challenge) => Some(challenge),
        }
    }
}

#[derive(Debug)]
pub(in crate::upstream) struct KnownChallenges {
    clock: Clock,
    by_repository: moka::sync::Cache<Repository, Challenge>,
    /// The answer of `/v2/`, and until when it is believed.
    ping: Mutex<Option<(PingAnswer, Timestamp)>>,
}

impl KnownChallenges {
    pub(in crate::upstream) fn new(clock: Clock) -> Self {
        let size = |repository: &Repository, challenge: &Challenge| {
            u32::try_from(repository.as_str().len() + challenge.size_bytes()).unwrap_or(u32::MAX)
        };
        let by_repository = moka::sync::Cache::builder().max_capacity(MAX_BYTES).weigher(size).build();
        Self { clock, by_repository, ping: Mutex::new(None) }
    }

    pub(in crate::upstream) fn of(&self, repository: &Repository) -> Option<Challenge> {
        self.by_repository.get(repository)
    }

    /// Remembers a challenge that was answered with success. One that cannot be answered must not hide the next one.
    pub(in crate::upstream) fn remember(&self, repository: &Repository, challenge: Challenge) {
        if self.of(repository).as_ref() != Some(&challenge) {
            self.by_repository.insert(repository.clone(), challenge);
        }
    }

    pub(in crate::upstream) fn forget(&self, repository: &Repository) {
        self.by_repository.invalidate(repository);
    }

    /// Forgets a challenge in all repositories: its token server refuses the login, and each would have to find that out.
    pub(super) fn forget_everywhere(&self, challenge: &Challenge) {
        for (repository, known) in &self.by_repository {
            if known == *challenge {
                self.by_repository.invalidate(&*repository);
            }
        }
    }

    /// The answer of `/v2/`; `None` if it is not known now.
    pub(super) fn of_ping(&self) -> Option<PingAnswer> {
        let ping = self.ping.lock().unwrap_or_else(PoisonError::into_inner);
        ping.as_ref().filter(|(_, until)| self.clock.now() < *until).map(|(answer, _)| answer.clone())
    }

    pub(super) fn remember_ping(&self, answer: PingAnswer) {
        let until = self.clock.now().plus(PING_LIFE);
        *self.ping.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t40_challenges_of_made_up_repositories_take_bounded_memory() {
        let challenges = KnownChallenges::new(Clock::default());
        for n in 0..2000 {
            let challenge =
                Challenge::Bearer { realm: format!("https://auth.test/{}", "x".repeat(3000)), service: None };
            challenges.remember(&format!("org/app{n}").parse().unwrap(), challenge);
        }
        challenges.by_repository.run_pending_tasks();
        assert!(challenges.by_repository.weighted_size() <= MAX_BYTES);
    }
}
