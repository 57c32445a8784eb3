//! Bearer tokens of our own: who a client is, until when, and an HMAC by a key of this process. No algorithm is negotiated,
//! and nobody but this process reads them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::keyed_hash::new_key;
use crate::clock::{Clock, Timestamp};

/// How long a token is good.
pub(super) const LIFETIME: Duration = Duration::from_mins(5);
/// The clock may be set back by less.
const MAX_AHEAD: Duration = Duration::from_secs(5);
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 128 * 1024;
/// Stands in front of the name of a stranger, and between it and its groups. It is in no name.
const SEPARATOR: char = '\n';
/// The time of issue in milliseconds, in front of the name.
const TIME_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

pub(super) struct Tokens {
    /// For nothing but tokens.
    secret: hmac::Key,
    clock: Clock,
}

/// The bearer of a good token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    User(String),
    /// One whom an issuer of tokens vouched for.
    Stranger {
        name: String,
        groups: Vec<String>,
    },
    /// A client that showed nothing when it asked for a token.
    Nobody,
}

/// The token is foreign, forged, expired, or of the future.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadToken;

impl Tokens {
    pub(super) fn new(clock: Clock) -> Self {
        Self { secret: new_key(), clock }
    }

    /// A new token, and the time it counts from: earlier than now, if the bearer is vouched for `until` sooner.
    pub(super) fn issue(&self, bearer: &Bearer, until: Option<Timestamp>) -> (String, Timestamp) {
        let now = self.clock.now();
        let issued = until.map_or(now, |until| until.before(LIFETIME).min(now));
        let name = match bearer {
            Bearer::User(name) => name.clone(),
            Bearer::Stranger { name, groups } => {
                let parts = [""].into_iter().chain([name.as_str()]).chain(groups.iter().map(String::as_str));
                parts.collect::<Vec<_>>().join(&SEPARATOR.to_string())
            }
            Bearer::Nobody => String::new(),
        };
        let mut token = issued.as_millis().to_be_bytes().to_vec();
        token.extend_from_slice(name.as_bytes());
        let mac = hmac::sign(&self.secret, &token);
        token.extend_from_slice(mac.as_ref());
        (URL_SAFE_NO_PAD.encode(token), issued)
    }

    pub(super) fn read(&self, token: &[u8]) -> Result<Bearer, BadToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(BadToken);
        }
        let token = URL_SAFE_NO_PAD.decode(token.trim_ascii()).map_err(|_foreign| BadToken)?;
        let (signed, mac) = token.split_at_checked(token.len().saturating_sub(MAC_BYTES)).ok_or(BadToken)?;
        hmac::verify(&self.secret, signed, mac).map_err(|_forged| BadToken)?;
        let (issued, name) = signed.split_first_chunk::<TIME_BYTES>().ok_or(BadToken)?;
        let (issued, now) = (Timestamp::from_millis(u64::from_be_bytes(*issued)), self.clock.now());
        if now.since(issued) >= LIFETIME || issued > now.plus(MAX_AHEAD) {
            return Err(BadToken);
        }
        let name = String::from_utf8(name.to_vec()).map_err(|_not_ours| BadToken)?;
        if let Some(stranger) = name.strip_prefix(SEPARATOR) {
            let mut parts = stranger.split(SEPARATOR).map(str::to_owned);
            return Ok(Bearer::Stranger { name: parts.next().unwrap_or_default(), groups: parts.collect() });
        }
        Ok(if name.is_empty() { Bearer::Nobody } else { Bearer::User(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t82_a_token_that_is_forged_foreign_expired_or_of_the_future_is_refused() {
        let clock = Clock::default();
        let tokens = Tokens::new(clock.clone());
        let user = Bearer::User("ci-a".to_owned());
        let (token, _) = tokens.issue(&user, None);
        assert_eq!(tokens.read(token.as_bytes()), Ok(user));
        assert_eq!(tokens.read(tokens.issue(&Bearer::Nobody, None).0.as_bytes()), Ok(Bearer::Nobody));
        let decoded = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..decoded.len() {
            let mut forged = decoded.clone();
            forged[at] ^= 1;
            assert_eq!(tokens.read(URL_SAFE_NO_PAD.encode(forged).as_bytes()), Err(BadToken), "{at}");
        }
        for length in 0..token.len() {
            assert_eq!(tokens.read(&token.as_bytes()[..length]), Err(BadToken));
        }
        assert_eq!(tokens.read(Tokens::new(clock.clone()).issue(&Bearer::Nobody, None).0.as_bytes()), Err(BadToken));
        for groups in [vec![], vec!["g".to_owned(), "h h".to_owned()]] {
            let stranger = Bearer::Stranger { name: "a".to_owned(), groups };
            let soon = clock.now().plus(Duration::from_secs(10));
            let (token, issued) = tokens.issue(&stranger, Some(soon));
            assert_eq!(issued.plus(LIFETIME), soon, "it does not outlive what it was given for");
            assert_eq!(tokens.read(token.as_bytes()), Ok(stranger));
        }
        // A JWT without a signature: {"alg":"none"}.{"sub":"ci-a"}.
        assert_eq!(tokens.read(b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJjaS1hIn0."), Err(BadToken));
        assert_eq!(tokens.read(&vec![b'A'; 100_000]), Err(BadToken));
        clock.advance(LIFETIME);
        assert_eq!(tokens.read(token.as_bytes()), Err(BadToken), "expired");
        let later = Clock::default();
        later.advance(Duration::from_hours(1));
        let ahead = Tokens { secret: tokens.secret.clone(), clock: later };
        let (token, _) = ahead.issue(&Bearer::Nobody, None);
        assert_eq!(Tokens { secret: tokens.secret, clock: Clock::default() }.read(token.as_bytes()), Err(BadToken));
    }
}
