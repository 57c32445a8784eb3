//! `Link` (RFC 8288) of a paginated list. Only the query of `rel="next"` is used; we build the path ourselves.

/// The query of the next page, without `?`; empty if the link has none.
pub fn next_page_query(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = end_of_link(parameters);
        let (mine, next) = parameters.split_at(end);
        let is_next = mine.split(';').any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if is_next {
            let target = target.split('#').next().unwrap_or(target);
            let query = target.split_once('?').map_or("", |(_, query)| query);
            return query.bytes().all(|b| b.is_ascii_graphic()).then(|| query.to_owned());
        }
        rest = next;
    }
    None
}

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
        assert_eq!(next("</a?x=\u{1}>; rel=next"), None);
    }
}
