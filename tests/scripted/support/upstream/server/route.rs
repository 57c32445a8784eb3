//! Parses a path. From the right, since repository names have any number of slashes.

use percent_encoding::percent_decode_str;

/// The sort of thing that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Manifest,
    Blob,
    Tags,
    Referrers,
    Token,
    Ping,
    /// Anything else, such as a signed path on a content network.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) repository: Option<String>,
    pub(crate) reference: Option<String>,
}

impl Route {
    fn bare(kind: Kind) -> Self {
        Self { kind, repository: None, reference: None }
    }

    pub(crate) fn parse(path: &str, token_path: &str) -> Self {
        if path == token_path {
            return Self::bare(Kind::Token);
        }
        if path == "/v2" || path == "/v2/" {
            return Self::bare(Kind::Ping);
        }
        let file = Self::bare(Kind::File);
        let Some(rest) = path.strip_prefix("/v2/") else { return file };
        let Some((rest, last)) = rest.rsplit_once('/') else { return file };
        let Some((repository, word)) = rest.rsplit_once('/') else { return file };
        let kind = match (word, last) {
            ("manifests", _) => Kind::Manifest,
            ("blobs", _) => Kind::Blob,
            ("referrers", _) => Kind::Referrers,
            ("tags", "list") => Kind::Tags,
            _ => return file,
        };
        let reference = percent_decode_str(last).decode_utf8_lossy().into_owned();
        Self {
            kind,
            repository: Some(percent_decode_str(repository).decode_utf8_lossy().into_owned()),
            reference: (kind != Kind::Tags).then_some(reference),
        }
    }
}

/// The values of `key` in a query, decoded, in order.
pub(crate) fn query_values(query: &str, key: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == key)
        .map(|(_, value)| value.into_owned())
        .collect()
}
