//! `Link` (RFC 8288) of a paginated list. Only the query of `rel="next"` is used; we build the path ourselves.

use http::HeaderMap;
use http::header::LINK;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

use crate::upstream::error::Failure;

/// The query of the next page, without `?`; empty if the link has none. Characters that a URL cannot hold are
/// percent-encoded.
pub fn next_page_query(header: &str) -> Option<String> {
    let mut rest = header;
    // Some write the target without its brackets.
    if !header.contains('<') {
        let (target, parameters) = header.split_once(';')?;
        return is_next(parameters).then(|| query_of(target.trim()));
    }
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = end_of_link(parameters);
        let (mine, next) = parameters.split_at(end);
        if is_next(mine) {
            return Some(query_of(target));
        }
        rest = next;
    }
    None
}

/// The same of all `Link` headers. One that names a next page and cannot be read is no end of the list.
pub(super) fn next_page(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut has_next = false;
    for value in headers.get_all(LINK) {
        let value = percent_encode(value.as_bytes(), NOT_TEXT).to_string();
        if let Some(query) = next_page_query(&value) {
            return Ok(Some(query));
        }
        let told: String = value.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
        has_next |= told.to_ascii_lowercase().contains("rel=next");
    }
    if has_next { Err(Failure::Refused("its link to the next page cannot be read".to_owned())) } else { Ok(None) }
}

fn is_next(parameters: &str) -> bool {
    parameters.split(';').any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel") && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

fn query_of(target: &str) -> String {
    let target = target.split('#').next().unwrap_or(target);
    let query = target.split_once('?').map_or("", |(_, query)| query);
    utf8_percent_encode(query, UNFIT).to_string()
}

/// What is not visible ASCII, or would end a link.
const UNFIT: &AsciiSet = &CONTROLS.add(b' ').add(b'<').add(b'>');
/// Bytes of a header that are no text. Those beyond ASCII are always encoded.
const NOT_TEXT: &AsciiSet = &CONTROLS.remove(b'\t');

/// Position of the comma that ends this link's parameters; a comma inside quotes does not.
fn end_of_link(parameters: &str) -> usize {
    let mut quoted = false;
    for (at, c) in parameters.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => return at,
            _ => {}
        }
    }
    parameters.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(header: &str) -> Option<String> {
        next_page_query(header)
    }

    #[test]
    fn t4_only_the_query_of_the_next_page_is_read() {
        assert_eq!(next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#).unwrap(), "n=2&last=b");
        assert_eq!(next(r"<https://evil.test/x?next_page=abc#f>;rel=next").unwrap(), "next_page=abc");
        assert_eq!(next(r#"</a?x=1>; rel="prev", </a?x=2>; title="a,b"; rel="next""#).unwrap(), "x=2");
        assert_eq!(next(r#"</a?x=1>; rel="prev""#), None);
        assert_eq!(next("nonsense"), None);
        assert_eq!(next("</a?x=\u{1}>; rel=next").unwrap(), "x=%01");
    }

    #[test]
    fn a_next_page_is_found_however_its_link_is_written() {
        assert_eq!(next(r#"</a?page=1&hint=a b>; rel="next""#).unwrap(), "page=1&hint=a%20b");
        assert_eq!(next("</a?hint=\u{e4}>; rel=next").unwrap(), "hint=%C3%A4");
        assert_eq!(next(r#"/v2/a/tags/list?last=b; rel="next""#).unwrap(), "last=b");
        let read = |value: &'static [u8]| {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            next_page(&HeaderMap::from_iter([(LINK, value)])).map_err(drop)
        };
        assert_eq!(read("</a?hint=\u{e4}>; rel=next".as_bytes()), Ok(Some("hint=%C3%A4".to_owned())));
        assert_eq!(read(b"</a?x=1>; rel=prev"), Ok(None));
        assert_eq!(read(b"</a?x=1; rel=\"next\""), Err(()), "a broken link is not the end");
    }
}
