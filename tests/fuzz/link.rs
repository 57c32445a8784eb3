//! T4, T8: of `Link`, a query is read, and only that.

use roadstead::upstream::next_page_query;
use url::Url;

use crate::fuzz;
use crate::text::text;

const PIECES: &[&str] = &[
    "<",
    ">",
    ";",
    ",",
    "\"",
    "rel",
    "=",
    "next",
    "rel=\"next\"",
    "rel=next",
    " ",
    "?",
    "#",
    "&",
    "n=1",
    "last=b",
    "https://evil.test/x",
    "/v2/a/tags/list",
    "\r\n",
    "\0",
    "%0d%0a",
    "ns=evil.test",
    "@",
    "//evil.test",
    "\u{e9}",
    "hint=a b",
];

#[test]
fn t4_t8_the_next_page_is_a_query_without_any_character_that_could_lead_elsewhere() {
    fuzz(|u| {
        let header = text(u, PIECES, 20)?;
        let Some(query) = next_page_query(&header) else { return Ok(()) };
        assert!(query.bytes().all(|b| b.is_ascii_graphic()), "{header:?}");
        assert!(!query.contains(['#', '>']), "{header:?}");
        let mut url = Url::parse("https://registry.test/v2/a/tags/list").unwrap();
        url.set_query(Some(&query));
        let place = (url.scheme(), url.host_str(), url.path(), url.fragment());
        assert_eq!(place, ("https", Some("registry.test"), "/v2/a/tags/list", None), "{header:?}");
        Ok(())
    });
}

#[test]
fn the_query_of_a_next_page_is_found_among_other_links() {
    fuzz(|u| {
        let query = text(u, &["n=1", "&", "last=b", "%20", "?", "=", "/", ":"], 6)?;
        if !query.bytes().all(|b| b.is_ascii_graphic() && !b"<>#".contains(&b)) {
            return Ok(());
        }
        let before = if u.arbitrary()? { "</a?x=1>; rel=\"prev\"; title=\"a,b\", " } else { "" };
        let header = format!("{before}</v2/a/tags/list?{query}>; rel=\"next\"");
        assert_eq!(next_page_query(&header).as_deref(), Some(query.as_str()), "{header:?}");
        Ok(())
    });
}
