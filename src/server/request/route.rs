//! Parses path and query into a [`Route`]. Pure.

use percent_encoding::percent_decode_str;

use crate::mirror::Target;
use crate::oci::{Digest, ErrorCode, Reference};
use crate::quote::quoted;

/// A parsed request under `/v2/`, before an authority is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The endpoint, with its digest, tag or reference.
    pub endpoint: Endpoint,
    /// The path in front of `/v2/`, as received: links lead there again.
    pub base: String,
    /// The segment in front of `/v2/`, decoded, where a mount does not end there: it names a registry.
    pub segment: Option<String>,
    /// The text between `/v2/` and the endpoint: a repository, perhaps with an authority in front.
    pub name: String,
    /// Decoded pairs of the query.
    pub query: Vec<(String, String)>,
}

/// An endpoint of distribution-spec that a pull uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/` itself.
    Ping,
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

/// A path or query without a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not under `/v2/`, or not an endpoint of a registry.
    #[error("there is nothing at this path; a registry's paths begin with /v2/")]
    NotHere,
    #[error("{message}")]
    Malformed { code: ErrorCode, message: String },
    /// `_catalog` and uploads.
    #[error("a pull-through mirror has no {0}")]
    Unsupported(&'static str),
}

impl Endpoint {
    /// The name in logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest(_) => "manifest",
            Self::Blob(_) => "blob",
            Self::Tags => "tags",
            Self::Referrers(_) => "referrers",
        }
    }

    /// The tag or digest, for logs; empty without one.
    pub fn reference(&self) -> String {
        match self {
            Self::Ping | Self::Tags => String::new(),
            Self::Manifest(reference) => reference.to_string(),
            Self::Blob(digest) | Self::Referrers(digest) => digest.to_string(),
        }
    }
}

fn malformed<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, RouteError> {
    Err(RouteError::Malformed { code, message: message.into() })
}

impl Route {
    /// What is asked of a registry, as in `docker.io/library/nginx:latest`.
    pub fn asked_of(&self, target: &Target) -> String {
        let repository = quoted(&target.repository);
        match self.endpoint.reference().as_str() {
            "" => format!("{}/{repository}", target.authority),
            reference if reference.contains(':') => format!("{}/{repository}@{reference}", target.authority),
            reference => format!("{}/{repository}:{reference}", target.authority),
        }
    }

    /// Whether `path` is under a `/v2/` of this server, valid or not.
    pub fn is_under(mounts: &[impl AsRef<str>], path: &str) -> bool {
        split(mounts, path).is_some()
    }

    /// Decoded pairs of a query.
    pub fn pairs(query: Option<&str>) -> Vec<(String, String)> {
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
    }

    /// Parses `path` from the right, since a repository may be named like an endpoint. Decodes it once. An encoded slash
    /// could mean two repositories and is refused.
    pub fn parse(mounts: &[impl AsRef<str>], path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        let query = Self::pairs(query);
        let (base, segment, rest) = split(mounts, path).ok_or(RouteError::NotHere)?;
        if path.to_ascii_lowercase().contains("%2f") {
            return malformed(ErrorCode::NameInvalid, "an encoded slash in the path");
        }
        let base = base.to_owned();
        let segment = match segment.map(|segment| percent_decode_str(segment).decode_utf8()) {
            None => None,
            Some(Ok(segment)) => Some(segment.into_owned()),
            Some(Err(_)) => return malformed(ErrorCode::NameInvalid, "the path is not UTF-8"),
        };
        let rest = rest.strip_prefix('/').unwrap_or_default();
        if rest.is_empty() {
            return Ok(Self { endpoint: Endpoint::Ping, base, segment, name: String::new(), query });
        }
        let Ok(decoded) = percent_decode_str(rest).decode_utf8() else {
            return malformed(ErrorCode::NameInvalid, "the path is not UTF-8");
        };
        if decoded == "_catalog" {
            return Err(RouteError::Unsupported("catalog"));
        }
        let (before, last) = decoded.rsplit_once('/').ok_or(RouteError::NotHere)?;
        if before.ends_with("/blobs/uploads") {
            return Err(RouteError::Unsupported("uploads"));
        }
        let (name, kind) = before.rsplit_once('/').ok_or(RouteError::NotHere)?;
        let endpoint = match (kind, last) {
            ("manifests", reference) => match reference.parse() {
                Ok(reference) => Endpoint::Manifest(reference),
                Err(err) => {
                    let is_digest = reference.contains(':');
                    let code = if is_digest { ErrorCode::DigestInvalid } else { ErrorCode::ManifestInvalid };
                    return malformed(code, err.to_string());
                }
            },
            ("blobs", digest) => Endpoint::Blob(parse_digest(digest)?),
            ("referrers", digest) => Endpoint::Referrers(parse_digest(digest)?),
            ("tags", "list") => Endpoint::Tags,
            _ => return Err(RouteError::NotHere),
        };
        Ok(Self { endpoint, base, segment, name: name.to_owned(), query })
    }

    /// Every value of a query parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The path in front of `/v2`, its last segment unless that belongs to the mount, and the rest behind `/v2`.
fn split<'a>(mounts: &[impl AsRef<str>], path: &'a str) -> Option<(&'a str, Option<&'a str>, &'a str)> {
    let behind_v2 =
        |path: &'a str| path.strip_prefix("/v2").filter(|rest: &&str| rest.is_empty() || rest.starts_with('/'));
    let base = |rest: &str| path.get(..path.len() - rest.len() - "/v2".len());
    let mounted = |mount: &str| {
        let rest = behind_v2(path.strip_prefix(mount)?)?;
        Some((base(rest)?, None, rest))
    };
    let named = |mount: &str| {
        let behind = path.strip_prefix(mount)?.strip_prefix('/')?;
        let (segment, after) = behind.split_at(behind.find('/')?);
        let rest = behind_v2(after).filter(|_| !segment.is_empty())?;
        Some((base(rest)?, Some(segment), rest))
    };
    let mounts = || mounts.iter().map(AsRef::as_ref);
    mounts().find_map(mounted).or_else(|| mounts().find_map(named))
}

fn parse_digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().or_else(|err: crate::oci::InvalidDigest| malformed(ErrorCode::DigestInvalid, err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, RouteError> {
        Route::parse(&[""], path, None)
    }

    #[test]
    fn paths_are_read_from_the_right() {
        let route = parse("/v2/a/manifests/b/manifests/latest").unwrap();
        assert_eq!((route.name.as_str(), route.endpoint.reference().as_str()), ("a/manifests/b", "latest"));
        assert_eq!(parse("/v2/a/tags/list").unwrap().endpoint, Endpoint::Tags);
        assert_eq!(parse("/v2/tags/tags/list").unwrap().name, "tags");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(parse(&format!("/v2/a/b/blobs/{digest}")).unwrap().endpoint.reference(), digest);
        assert_eq!(
            parse(&format!("/v2/a/referrers/{}", digest.replace(':', "%3A"))).unwrap().endpoint.kind(),
            "referrers"
        );
        assert_eq!(parse("/v2").unwrap().endpoint, Endpoint::Ping);
        assert_eq!(parse("/v2/").unwrap().endpoint, Endpoint::Ping);
    }

    #[test]
    fn t6_forms_that_could_mean_two_things_are_refused() {
        for (path, code) in [
            ("/v2/a%2fb/manifests/x", ErrorCode::NameInvalid),
            ("/v2/a%2Fb/manifests/x", ErrorCode::NameInvalid),
            ("/v2/a%ff/manifests/x", ErrorCode::NameInvalid),
            ("/v2/a/manifests/..", ErrorCode::ManifestInvalid),
            ("/v2/a/manifests/%252f", ErrorCode::ManifestInvalid),
            ("/v2/a/manifests/sha256:xx", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/latest", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/sha256:../../etc", ErrorCode::DigestInvalid),
        ] {
            match parse(path) {
                Err(RouteError::Malformed { code: got, .. }) => assert_eq!(got, code, "{path}"),
                // With a `..` component, the endpoint is not where it seems to be.
                Err(RouteError::NotHere) => assert!(path.contains("../"), "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_mirror_does_not_have_is_named() {
        assert!(matches!(parse("/v2/_catalog"), Err(RouteError::Unsupported(_))));
        assert!(matches!(parse("/v2/a/blobs/uploads/"), Err(RouteError::Unsupported(_))));
        assert!(matches!(parse("/v2/a/blobs/uploads/123"), Err(RouteError::Unsupported(_))));
        for nothing in ["/", "/v1/", "/v2x", "/metrics", "/v2/a", "/v2/a/b", "/v2/manifests/x"] {
            assert_eq!(parse(nothing), Err(RouteError::NotHere), "{nothing}");
        }
        assert_eq!(Route::parse(&["/p"], "/v2/", None), Err(RouteError::NotHere));
        assert!(Route::parse(&["/p"], "/p/v2/", None).is_ok());
    }

    #[test]
    fn a_mount_or_a_registry_stands_in_front_of_v2() {
        let base = |path: &str| {
            let route = Route::parse(&["", "/p/q", "/v2"], path, None).ok()?;
            Some((route.base, route.segment.unwrap_or_default(), route.name))
        };
        let found =
            |base: &str, segment: &str, name: &str| Some((base.to_owned(), segment.to_owned(), name.to_owned()));
        assert_eq!(base("/v2/a/tags/list"), found("", "", "a"));
        assert_eq!(base("/p/q/v2/a/tags/list"), found("/p/q", "", "a"));
        assert_eq!(base("/v2/v2/a/tags/list"), found("", "", "v2/a"));
        assert_eq!(base("/quay.io/v2/a/tags/list"), found("/quay.io", "quay.io", "a"));
        assert_eq!(base("/p/q/quay.io/v2/a/tags/list"), found("/p/q/quay.io", "quay.io", "a"));
        assert_eq!(base("/corp%3A5000/v2/"), found("/corp%3A5000", "corp:5000", ""));
        for nothing in ["/p/r/v2/", "//v2/", "/a/b/v2/", "/quay.io/v2x/", "/quay.io", "/a%2fb/v2/"] {
            assert_eq!(base(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_query_is_decoded_and_repeated_keys_are_kept() {
        let route = Route::parse(&[""], "/v2/a/tags/list", Some("ns=myregistry.io%3A5000&ns=b")).unwrap();
        assert_eq!(route.all("ns").collect::<Vec<_>>(), ["myregistry.io:5000", "b"]);
    }
}
