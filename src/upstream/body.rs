//! Reads bodies and header values from upstream, within limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RETRY_AFTER};

use crate::clock::Clock;

use crate::upstream::error::Failure;

/// Longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(6);

/// Reads a whole body of at most `limit_bytes`.
pub(super) async fn read_capped(
    mut response: reqwest::Response,
    limit_bytes: u64,
    key: &'static str,
    idle: Duration,
) -> Result<Bytes, Failure> {
    let too_large = Failure::TooLarge { limit_bytes, key };
    if content_length(response.headers()).is_some_and(|length| length > limit_bytes) {
        return Err(too_large);
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = tokio::time::timeout(idle, response.chunk())
            .await
            .map_err(|_elapsed| Failure::Timeout("its answer stopped coming"))?
            .map_err(Failure::of_reqwest)?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        if body.len() as u64 + chunk.len() as u64 > limit_bytes {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// First position and total of `bytes a-b/total`; the total is `None` for `*`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Refuses a body with a content encoding: the digest covers the bytes as they are stored.
pub(super) fn require_identity(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Failure::Refused("its body is compressed, though identity was asked for".to_owned()))
        }
        _ => Ok(()),
    }
}

/// `Retry-After`, as seconds or as a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        date.saturating_sub(Duration::from_millis(clock.now().as_millis()))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let clock = Clock::default();
        let read = |value| retry_after(&headers("retry-after", value), &clock);
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Wed, 06 Nov 2999 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn content_range_gives_its_start_and_total() {
        let read = |value| content_range(&headers("content-range", value));
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        assert_eq!(read("bytes */10"), None);
    }
}
