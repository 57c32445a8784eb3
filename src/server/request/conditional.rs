//! `Cache-Control` of a request, and `If-None-Match` and `If-Range` (RFC 9110 section 13) against an entity tag that is a digest, hence strong.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::oci::RangeHeader;

/// Whether the client has this content already, by weak comparison.
pub(in crate::server) fn is_not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// Whether the client wants what is cached to be checked: `Cache-Control: no-cache` or `max-age=0`.
pub(in crate::server) fn wants_a_check(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.any(|said| said.eq_ignore_ascii_case("no-cache") || said.eq_ignore_ascii_case("max-age=0"))
}

/// The requested range, unless `If-Range` names other content. A date never matches: no answer has a `Last-Modified`.
pub(in crate::server) fn range(headers: &HeaderMap, etag: &str) -> RangeHeader {
    let condition = headers.get(IF_RANGE).and_then(|value| value.to_str().ok()).map(str::trim);
    if headers.contains_key(IF_RANGE) && condition != Some(etag) {
        return RangeHeader::Ignored;
    }
    headers.get(RANGE).and_then(|value| value.to_str().ok()).map_or(RangeHeader::Ignored, RangeHeader::parse)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn entity_tags_are_compared_weakly_and_in_lists() {
        assert!(is_not_modified(&headers(&[("if-none-match", "\"a\", W/\"b\"")]), "\"b\""));
        assert!(is_not_modified(&headers(&[("if-none-match", "*")]), "\"b\""));
        assert!(!is_not_modified(&headers(&[("if-none-match", "\"a\"")]), "\"b\""));
        assert!(!is_not_modified(&headers(&[]), "\"b\""));
    }

    #[test]
    fn a_range_counts_only_if_its_condition_holds() {
        let asked = |condition| range(&headers(&[("range", "bytes=0-1"), ("if-range", condition)]), "\"a\"");
        assert!(matches!(asked("\"a\""), RangeHeader::One(_)));
        assert_eq!(asked("\"b\""), RangeHeader::Ignored);
        assert_eq!(asked("W/\"a\""), RangeHeader::Ignored);
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), RangeHeader::Ignored);
    }
}
