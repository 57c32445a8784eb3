//! Sessions of browsers that have shown the token (T131). None is stored: a cookie holds when it ends, and a proof that only
//! this process can make, of that and of the token. Another token, and the next start, end all of them.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use ring::hmac;

use crate::clock::Timestamp;
use crate::server::access::keyed_hash::new_key;

const COOKIE_NAME: &str = "roadstead_session";
/// How long one lasts.
const LASTS: Duration = Duration::from_hours(8);
/// Cookies of this name that are looked at: another page of the same host may have set some.
const MOST: usize = 8;

pub(in crate::server::admin) struct Sessions(Mutex<hmac::Key>);

/// Whoever sent a request.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself")]
pub(in crate::server::admin) struct Visitor {
    /// Reading is for everybody here, on the page and by the API.
    pub(in crate::server::admin) is_open: bool,
    pub(in crate::server::admin) may_change: bool,
    /// By a cookie.
    pub(in crate::server::admin) has_session: bool,
    /// There is a token, so that signing in is possible.
    pub(in crate::server::admin) has_token_to_show: bool,
    /// It came over the network: a browser may have been led to send it.
    pub(in crate::server::admin) is_remote: bool,
}

impl Visitor {
    pub(super) const fn may_read(self) -> bool {
        self.is_open || self.may_change
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self(Mutex::new(new_key()))
    }
}

impl Sessions {
    fn key(&self) -> MutexGuard<'_, hmac::Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cookie for somebody who has shown the token: no script reads it, no other site has it sent. `by_tls`: the browser has
    /// come by TLS, and sends it that way only.
    pub(super) fn begin(&self, token: &str, now: Timestamp, by_tls: bool) -> String {
        let ends = now.plus(LASTS).as_millis();
        let mut proof = String::new();
        for byte in hmac::sign(&self.key(), what(ends, token).as_bytes()).as_ref() {
            let _infallible = write!(proof, "{byte:02x}");
        }
        let lasts = LASTS.as_secs();
        let secure = if by_tls { "; Secure" } else { "" };
        format!("{COOKIE_NAME}={ends}.{proof}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Whether a request has the cookie of a session that has not ended.
    pub(in crate::server::admin) fn holds(&self, headers: &HeaderMap, token: &str, now: Timestamp) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let cookies = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let mut own = cookies.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value).take(MOST);
        own.any(|value| self.is_proved(value, token, now))
    }

    fn is_proved(&self, cookie: &str, token: &str, now: Timestamp) -> bool {
        let Some((ends, proof)) = cookie.split_once('.') else { return false };
        let (Ok(ends), Some(proof)) = (ends.parse::<u64>(), unhex(proof)) else { return false };
        // In constant time. The time is believed only because it is a part of what is proved.
        hmac::verify(&self.key(), what(ends, token).as_bytes(), &proof).is_ok() && now.as_millis() < ends
    }

    /// Ends all sessions; the cookie that takes the browser's own away.
    pub(super) fn end_all(&self) -> String {
        *self.key() = new_key();
        format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    }
}

/// Compares secrets in constant time.
pub(in crate::server::admin) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// What a cookie proves.
fn what(ends: u64, token: &str) -> String {
    format!("{ends}\n{token}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t131_a_cookie_holds_for_its_token_its_time_and_its_process() {
        let (sessions, now) = (Sessions::default(), Timestamp::from_millis(1_000_000));
        let cookie = sessions.begin("token", now, false);
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"));
        let sent = cookie.split(';').next().unwrap().to_owned();
        let with = |text: &str| HeaderMap::from_iter([(COOKIE, text.parse().unwrap())]);
        let holds = |text: &str| sessions.holds(&with(text), "token", now);
        assert!(holds(&sent) && holds(&format!("a=b; {COOKIE_NAME}=planted; {sent}")));
        let (name, value) = sent.split_once('=').unwrap();
        let (ends, proof) = value.split_once('.').unwrap();
        let later = ends.parse::<u64>().unwrap() + 1;
        for wrong in [
            String::new(),
            format!("{name}="),
            format!("{name}={ends}."),
            format!("{name}={later}.{proof}"),
            format!("{name}={ends}.{}", "0".repeat(64)),
            format!("{name}={ends}.{}", "é".repeat(32)),
            format!("other={value}"),
            format!("{}; {sent}", format!("{name}=x; ").repeat(MOST)),
        ] {
            assert!(!holds(&wrong), "{wrong}");
        }
        assert!(!sessions.holds(&with(&sent), "another token", now));
        assert!(!sessions.holds(&with(&sent), "token", now.plus(LASTS)));
        assert!(!Sessions::default().holds(&with(&sent), "token", now), "another process");
        let _gone = sessions.end_all();
        assert!(!holds(&sent));
    }
}
