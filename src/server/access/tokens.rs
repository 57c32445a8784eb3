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
const MAX_TOKEN_BYTES: usize = 1024;
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

    /// A new token, and when it was issued.
    pub(super) fn issue(&self, bearer: &Bearer) -> (String, Timestamp) {
        let now = self.clock.now();
        let name = match bearer {
            Bearer::User(name) => name.as_str(),
            Bearer::Nobody => "",
        };
        let mut token = now.as_millis().to_be_bytes().to_vec();
        token.extend_from_slice(name.as_bytes());
        let mac = hmac::sign(&self.secret, &token);
        token.extend_from_slice(mac.as_ref());
        (URL_SAFE_NO_PAD.encode(token), now)
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
        let (token, _) = tokens.issue(&user);
        assert_eq!(tokens.read(token.as_bytes()), Ok(user));
        assert_eq!(tokens.read(tokens.issue(&Bearer::Nobody).0.as_bytes()), Ok(Bearer::Nobody));
        let decoded = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..decoded.len() {
            let mut forged = decoded.clone();
            forged[at] ^= 1;
            assert_eq!(tokens.read(URL_SAFE_NO_PAD.encode(forged).as_bytes()), Err(BadToken), "{at}");
        }
        for length in 0..token.len() {
            assert_eq!(tokens.read(&token.as_bytes()[..length]), Err(BadToken));
        }
        assert_eq!(tokens.read(Tokens::new(clock.clone()).issue(&Bearer::Nobody).0.as_bytes()), Err(BadToken));
        // A JWT without a signature: {"alg":"none"}.{"sub":"ci-a"}.
        assert_eq!(tokens.read(b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJjaS1hIn0."), Err(BadToken));
        assert_eq!(tokens.read(&vec![b'A'; 100_000]), Err(BadToken));
        clock.advance(LIFETIME);
        assert_eq!(tokens.read(token.as_bytes()), Err(BadToken), "expired");
        let later = Clock::default();
        later.advance(Duration::from_hours(1));
        let ahead = Tokens { secret: tokens.secret.clone(), clock: later };
        let (token, _) = ahead.issue(&Bearer::Nobody);
        assert_eq!(Tokens { secret: tokens.secret, clock: Clock::default() }.read(token.as_bytes()), Err(BadToken));
    }
}
