//! Answers of token servers (distribution, `docs/content/spec/auth/token.md`).

use std::time::Duration;

use serde::Deserialize;

use crate::oci::{Scalar, read_object};
use crate::secret::Secret;

/// Longest token. Real ones have a few KiB; larger ones fit into no request's header.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Life of a token whose server names none, or a shorter one.
const MIN_LIFE: Duration = Duration::from_mins(1);

/// A token and the time for which it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAnswer {
    /// Valid as a header value.
    pub token: Secret,
    /// From now, at least a minute.
    pub life: Duration,
}

#[derive(Deserialize)]
struct Raw<'a> {
    token: Option<String>,
    access_token: Option<String>,
    /// Ignored if it is not a number.
    #[serde(borrow, default)]
    expires_in: Scalar<'a>,
}

impl TokenAnswer {
    /// `None` if it is invalid, without a reason: a parser's message may quote the token.
    pub fn read(body: &[u8]) -> Option<Self> {
        let raw: Raw<'_> = read_object(body)?;
        let token = raw.token.filter(|token| !token.is_empty()).or(raw.access_token)?;
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || http::HeaderValue::from_str(&token).is_err() {
            return None;
        }
        let seconds = raw.expires_in.number().unwrap_or(0);
        Some(Self { token: Secret::new(token), life: Duration::from_secs(seconds).max(MIN_LIFE) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t43_answers_of_real_token_servers_are_read() {
        let read = |body: &str| {
            TokenAnswer::read(body.as_bytes()).map(|answer| (answer.token.expose().to_owned(), answer.life.as_secs()))
        };
        let token = |life| Some(("t".to_owned(), life));
        assert_eq!(read(r#"{"token":"t","expires_in":300,"issued_at":"2026-11-22T17:48:46Z"}"#), token(300));
        assert_eq!(read(r#"{"access_token":"t","token":""}"#), token(60));
        assert_eq!(read(r#"{"token":"t","expires_in":5}"#), token(60));
        assert_eq!(read(r#"{"token":"t","expires_in":"soon"}"#), token(60));
        assert_eq!(read(r#"{"token":"a\r\nb"}"#), None);
        assert_eq!(read("{}"), None);
        for (length, is_usable) in [(MAX_TOKEN_BYTES, true), (MAX_TOKEN_BYTES + 1, false)] {
            assert_eq!(read(&format!(r#"{{"token":"{}"}}"#, "t".repeat(length))).is_some(), is_usable, "{length}");
        }
        assert_eq!(read(r#"["t",null,300]"#), None);
    }
}
