//! Reads bodies and header values from upstream, within limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::clock::Clock;
use crate::shared_bytes::SHORT;
use crate::upstream::error::Failure;

/// Room is counted in pages of so many bytes.
const PAGE: usize = 4096;
/// For the long bodies of one registry: 64 MiB, in pages.
const OWN_ROOM: usize = 64 * 1024 * 1024 / PAGE;
/// For those of all registries: 128 MiB.
static ALL_ROOM: Semaphore = Semaphore::const_new(2 * OWN_ROOM);
/// Longest wait for room.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is believed. A longer one says no more than that there is one.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(6);
/// A number this near to the present, as Unix time, is an instant and no count of seconds.
const NEAR: Duration = Duration::from_hours(24);
/// The codings that clients and servers agree on. Other labels, such as `aws-chunked`, `utf-8` and nothing, are found on
/// bodies without any.
const CODINGS: [&str; 8] = ["gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcz"];

/// Room in memory for the long bodies of one registry, and of all.
pub(super) struct Rooms(Arc<Semaphore>);

/// The room that a body takes, as long as it is held.
#[derive(Debug)]
pub(super) struct Room {
    _own: OwnedSemaphorePermit,
    _all: SemaphorePermit<'static>,
}

/// A body that was read.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) room: Option<Room>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OWN_ROOM)))
    }
}

impl Rooms {
    async fn take(&self, bytes: usize) -> Result<Room, Failure> {
        // One that is longer than all there is takes all.
        let pages = u32::try_from(bytes.div_ceil(PAGE).min(OWN_ROOM)).unwrap_or(u32::MAX);
        let both = async {
            let own = Arc::clone(&self.0).acquire_many_owned(pages).await.ok()?;
            Some(Room { _own: own, _all: ALL_ROOM.acquire_many(pages).await.ok()? })
        };
        let room = tokio::time::timeout(ROOM_PATIENCE, both).await.ok().flatten();
        room.ok_or(Failure::Crowded("too many other long answers are being read"))
    }
}

/// Reads a whole body of at most `limit_bytes`. One that is longer than [`SHORT`] waits for room.
pub(super) async fn read_capped(
    mut response: reqwest::Response,
    limit_bytes: u64,
    key: &'static str,
    idle: Duration,
    rooms: &Rooms,
) -> Result<Body, Failure> {
    let too_large = Failure::TooLarge { limit_bytes, key };
    let announced = content_length(response.headers()).unwrap_or(limit_bytes);
    if announced > limit_bytes {
        return Err(too_large);
    }
    let most = usize::try_from(announced).unwrap_or(usize::MAX);
    let (mut body, mut room): (Vec<u8>, _) = (Vec::new(), None);
    loop {
        let chunk = next_chunk(&mut response, idle, "its answer stopped coming").await?;
        let Some(chunk) = chunk else { return Ok(Body { bytes: body.into(), room }) };
        if body.len() as u64 + chunk.len() as u64 > limit_bytes {
            return Err(too_large);
        }
        // Room is taken as bytes come, and no more than there can be: twice the whole would be held for long.
        let needed = body.len() + chunk.len();
        if needed > SHORT && room.is_none() {
            room = Some(rooms.take(most).await?);
        }
        if needed > body.capacity() {
            let room = (2 * body.capacity()).min(most).max(needed);
            body.reserve_exact(room - body.len());
        }
        body.extend_from_slice(&chunk);
    }
}

/// The next chunk of a body; `None` at its end.
pub(super) async fn next_chunk(
    response: &mut reqwest::Response,
    idle: Duration,
    late: &'static str,
) -> Result<Option<Bytes>, Failure> {
    match tokio::time::timeout(idle, response.chunk()).await.map_err(|_elapsed| Failure::Timeout(late))? {
        Err(err) if is_unannounced_end(response, &err) => Ok(None),
        chunk => chunk.map_err(Failure::of_reqwest),
    }
}

/// Whether a body without a length ended with its connection, and only the notice of TLS is missing. Nothing is lost by
/// that: a blob is proven by its digest, and a part of a JSON object is none.
fn is_unannounced_end(response: &reqwest::Response, err: &reqwest::Error) -> bool {
    let headers = response.headers();
    let has_length = response.version() > Version::HTTP_11
        || headers.contains_key(CONTENT_LENGTH)
        || headers.contains_key(TRANSFER_ENCODING);
    let mut source: Option<&dyn std::error::Error> = Some(err);
    while let Some(error) = source.filter(|_| !has_length) {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        source = error.source();
    }
    false
}

/// `Content-Length`, if it is what frames the body (RFC 9112 section 6.3).
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// First position and total of `bytes a-b/total`; the total is `None` for `*`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Whether the body is labelled as compressed. The label proves nothing.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut labels = values.flat_map(|value| value.split(',')).map(str::trim);
    labels.any(|label| CODINGS.iter().any(|coding| label.eq_ignore_ascii_case(coding)))
}

/// `Retry-After` (RFC 9110 section 10.2.3), in seconds or as a date. Also an instant as a number, which some servers send.
/// Instants are compared with the answer's own `Date`, since its clock may be wrong. `None` for what cannot be meant: a wait
/// of nothing, and one longer than [`MAX_RETRY_AFTER`].
pub(super) fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = headers.get(DATE).and_then(|date| unix_time(date.to_str().ok()?));
    let now = date.unwrap_or_else(|| Duration::from_millis(clock.now().as_millis()));
    let wait = match value.parse() {
        Ok(number) => {
            let instants = [Duration::from_secs(number), Duration::from_millis(number)];
            let instant = instants.into_iter().find(|instant| instant.abs_diff(now) <= NEAR);
            instant.map_or(Duration::from_secs(number), |instant| instant.saturating_sub(now))
        }
        Err(_no_number) => unix_time(value)?.saturating_sub(now),
    };
    (!wait.is_zero() && wait <= MAX_RETRY_AFTER).then_some(wait)
}

fn unix_time(date: &str) -> Option<Duration> {
    httpdate::parse_http_date(date.trim()).ok()?.duration_since(std::time::UNIX_EPOCH).ok()
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
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn a_retry_after_that_cannot_be_meant_is_none() {
        let clock = Clock::default();
        let read = |value| retry_after(&headers("retry-after", value), &clock);
        for value in
            ["0", "21601", "18446744073709551615", "Sun, 06 Nov 1994 08:49:37 GMT", "Wed, 06 Nov 2999 08:49:37 GMT"]
        {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn an_instant_in_retry_after_is_compared_with_the_answers_own_date() {
        let read = |value: &str| {
            let mut headers = headers("date", "Sun, 06 Nov 1994 08:49:37 GMT");
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, &Clock::default())
        };
        for instant in ["Sun, 06 Nov 1994 08:50:07 GMT", "784111807", "784111807000"] {
            assert_eq!(read(instant), Some(Duration::from_secs(30)), "{instant}");
        }
        for past in ["Sun, 06 Nov 1994 08:49:27 GMT", "784111767"] {
            assert_eq!(read(past), None, "{past}");
        }
        assert_eq!(read("30"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn t46_a_content_length_beside_a_transfer_encoding_does_not_count() {
        let mut headers = headers("content-length", "7");
        assert_eq!(content_length(&headers), Some(7));
        headers.insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
        assert_eq!(content_length(&headers), None);
    }

    #[test]
    fn only_labels_of_codings_say_that_a_body_is_compressed() {
        for (label, is_one) in [
            ("gzip", true),
            ("aws-chunked,GZip", true),
            ("zstd", true),
            ("", false),
            ("aws-chunked", false),
            ("utf-8", false),
        ] {
            assert_eq!(is_compressed(&headers("content-encoding", label)), is_one, "{label}");
        }
    }

    #[test]
    fn content_range_gives_its_start_and_total() {
        let read = |value| content_range(&headers("content-range", value));
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        assert_eq!(read("bytes */10"), None);
    }
}
