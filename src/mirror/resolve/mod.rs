//! Which registry and repository a request means (docs/ARCHITECTURE.md, "Names and namespaces"). Pure: no I/O, no
//! state.

pub(super) mod alias;

use std::collections::HashMap;
use std::net::IpAddr;

use crate::index::Scope;
use crate::oci::{Authority, InvalidPin, PinPattern, Repository};
use crate::quote::quoted;
use crate::upstream::is_public;

pub const DOCKER_HUB: &str = "docker.io";

/// The closed world: which authorities there are, and by which names.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    /// Every name of every configured authority, itself included.
    names: HashMap<Authority, Authority>,
    /// Short names that count only as a path prefix.
    prefixes: HashMap<String, Authority>,
    wildcards: Vec<Wildcard>,
}

/// `*` or `*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    /// `.example.com`; empty for `*`.
    suffix: String,
}

/// The words of a request about its upstream, unchecked.
#[derive(Debug, Clone, Default)]
pub struct Claims<'a> {
    /// Every `ns` in the query, decoded.
    pub ns: Vec<&'a str>,
    /// Every `oci-ref-name` in the query, decoded.
    pub oci_ref_name: Vec<&'a str>,
    /// The `Host` header, unless it is one of the listener's own names.
    pub host: Option<&'a str>,
    /// The segment in front of `/v2/`, as in `/docker.io/v2/…`.
    pub segment: Option<&'a str>,
    /// The part between `/v2/` and the endpoint's part of the path.
    pub name: &'a str,
}

/// The registry and repository that a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub authority: Authority,
    pub repository: Repository,
    /// `Via` as received: the proxies that the request came through, so that a loop over several shows.
    pub via: Option<String>,
}

/// A repository, asked with the mirror's own credentials.
pub(super) fn scope_of(authority: &Authority, repository: &Repository) -> Scope {
    Scope { domain: 0, authority: authority.clone(), repository: repository.clone() }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    #[error("{0}")]
    Invalid(String),
    #[error("{0} is not mirrored here")]
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    Invalid(#[from] InvalidPin),
    #[error("names a registry that is not among the upstreams")]
    UnknownRegistry,
}

fn invalid<T>(message: impl Into<String>) -> Result<T, NamespaceError> {
    Err(NamespaceError::Invalid(message.into()))
}

impl Wildcard {
    pub fn parse(text: &str) -> Option<Self> {
        let suffix = text.strip_prefix('*')?;
        let valid = suffix.is_empty() || suffix.strip_prefix('.').is_some_and(|rest| rest.parse::<Authority>().is_ok());
        valid.then(|| Self { suffix: suffix.to_ascii_lowercase() })
    }

    /// `*`, or `*.example.com`: the key in the configuration.
    pub fn name(&self) -> String {
        format!("*{}", self.suffix)
    }

    /// Names of one label and private addresses are never admitted; where a public name leads is checked when it is dialled.
    fn admits(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let reachable = address.map_or_else(|| host.contains('.') && !is_local_name(host), is_public);
        reachable && host.ends_with(&self.suffix) && (self.suffix.is_empty() || address.is_none())
    }
}

/// Names that never leave the site (RFC 6761, RFC 6762, RFC 8375).
fn is_local_name(host: &str) -> bool {
    [".localhost", ".local", ".internal", ".home.arpa"].iter().any(|suffix| host.ends_with(suffix))
}

impl Namespaces {
    /// Adds an authority under its own name. `false` if the name is taken.
    pub fn add(&mut self, authority: &Authority) -> bool {
        self.add_alias(authority.clone(), authority)
    }

    /// Adds another name of `authority`. `false` if it is taken by another.
    pub fn add_alias(&mut self, alias: Authority, authority: &Authority) -> bool {
        let owner = self.names.entry(alias).or_insert_with(|| authority.clone());
        *owner == *authority
    }

    /// Adds a short name for paths. `false` if it is taken by another.
    pub fn add_prefix(&mut self, prefix: String, authority: &Authority) -> bool {
        let owner = self.prefixes.entry(prefix).or_insert_with(|| authority.clone());
        *owner == *authority
    }

    pub fn add_wildcard(&mut self, wildcard: Wildcard) {
        self.wildcards.push(wildcard);
        self.wildcards.sort_by_key(|wildcard| std::cmp::Reverse(wildcard.suffix.len()));
    }

    /// The authority that a configured name or alias stands for.
    pub fn configured(&self, name: &Authority) -> Option<&Authority> {
        self.names.get(name)
    }

    /// The most specific wildcard that lets `authority` in, if no configuration names it.
    pub fn admitted_by(&self, authority: &Authority) -> Option<&Wildcard> {
        self.wildcards.iter().find(|wildcard| wildcard.admits(authority))
    }

    /// Reads a pin; its registry's own name stands in place of an alias.
    pub fn pin(&self, text: &str) -> Result<PinPattern, PinError> {
        let pin: PinPattern = text.parse()?;
        let Some((Ok(authority), rest)) = text.split_once('/').map(|(name, rest)| (name.parse::<Authority>(), rest))
        else {
            // A glob over registries.
            return Ok(pin);
        };
        match self.configured(&authority) {
            Some(configured) => Ok(format!("{configured}/{rest}").parse()?),
            None if self.admitted_by(&authority).is_some() => Ok(pin),
            None => Err(PinError::UnknownRegistry),
        }
    }

    pub(in crate::mirror) fn known(&self, name: &Authority) -> Option<Authority> {
        self.names.get(name).cloned().or_else(|| self.admitted_by(name).map(|_| name.clone()))
    }

    /// Decides; the first that speaks of `ns`, `oci-ref-name`, Host, the path and `default`.
    pub fn resolve(&self, claims: &Claims<'_>, default: &Authority) -> Result<Target, NamespaceError> {
        let ns = self.read_ns(&claims.ns)?.map(|(_, authority)| authority);
        let (authority, repository) = self.decide(claims, ns, default)?;
        Ok(Target { authority, repository, via: None })
    }

    /// `ns` alone, as received and normalised: the value of `OCI-Namespace`. `None` if there is none.
    pub fn admitted_ns(&self, claims: &Claims<'_>) -> Result<Option<Authority>, NamespaceError> {
        Ok(self.read_ns(&claims.ns)?.map(|(received, _)| received))
    }

    /// Whether a registry's `/v2/` itself is here: `ns` and the segment in front of it are checked.
    pub fn ping(&self, claims: &Claims<'_>) -> Result<(), NamespaceError> {
        let ns = self.read_ns(&claims.ns)?.map(|(_, authority)| authority);
        self.with_segment(ns, claims.segment).map(|_| ())
    }

    fn decide(
        &self,
        claims: &Claims<'_>,
        ns: Option<Authority>,
        default: &Authority,
    ) -> Result<(Authority, Repository), NamespaceError> {
        let named = self.read_oci_ref_name(&claims.oci_ref_name)?;
        let (by_reference, expected) = named.map_or((None, None), |(authority, name)| (Some(authority), name));
        if let (Some(ns), Some(by_reference)) = (&ns, &by_reference)
            && ns != by_reference
        {
            return invalid(format!("`ns` says {ns}, `oci-ref-name` says {by_reference}"));
        }
        let decided = ns.or(by_reference).or_else(|| self.read_host(claims.host));
        let decided = self.with_segment(decided, claims.segment)?;
        let (authority, name) = match decided {
            Some(authority) => {
                let name = self.without_own_prefix(&authority, claims.name)?;
                (authority, name)
            }
            None => self.read_path(claims.name, default)?,
        };
        let repository = repository_in(&authority, name)?;
        let Some(expected) = expected else { return Ok((authority, repository)) };
        let named = repository_in(&authority, &expected)?;
        // A repository may begin with what is also a short name of its registry.
        if named != repository && repository_in(&authority, claims.name) != Ok(named.clone()) {
            return invalid(format!(
                "`oci-ref-name` names {}, the path names {}",
                quoted(expected),
                quoted(repository)
            ));
        }
        Ok((authority, named))
    }

    fn read_ns(&self, values: &[&str]) -> Result<Option<(Authority, Authority)>, NamespaceError> {
        let value = match values {
            [] => return Ok(None),
            [value] => value,
            _ => return invalid("`ns` is given more than once"),
        };
        let Ok(received) = value.parse::<Authority>() else { return invalid("`ns` is not a registry's `host[:port]`") };
        match self.known(&received) {
            Some(authority) => Ok(Some((received, authority))),
            None => Err(NamespaceError::Unknown(received.to_string())),
        }
    }

    /// The authority, and the repository unless the value is an authority alone.
    fn read_oci_ref_name(&self, values: &[&str]) -> Result<Option<(Authority, Option<String>)>, NamespaceError> {
        let value = match values {
            [] => return Ok(None),
            [value] => *value,
            _ => return invalid("`oci-ref-name` is given more than once"),
        };
        let configured = |text: &str| text.parse().ok().and_then(|name: Authority| self.names.get(&name).cloned());
        match value.split_once('/') {
            None => {
                if let Some(authority) = configured(value) {
                    return Ok(Some((authority, None)));
                }
            }
            Some((first, rest)) if Authority::looks_like_a_host(first) || configured(first).is_some() => {
                let Ok(name) = first.parse::<Authority>() else {
                    return invalid("`oci-ref-name` does not begin with a registry's `host[:port]`");
                };
                let authority = self.known(&name).ok_or_else(|| NamespaceError::Unknown(name.to_string()))?;
                return Ok(Some((authority, Some(without_reference(rest).to_owned()))));
            }
            Some(_) => {}
        }
        let hub = configured(DOCKER_HUB).ok_or_else(|| NamespaceError::Unknown(DOCKER_HUB.to_owned()))?;
        Ok(Some((hub, Some(without_reference(value).to_owned()))))
    }

    fn read_host(&self, host: Option<&str>) -> Option<Authority> {
        self.names.get(&host?.parse().ok()?).cloned()
    }

    /// The authority that was decided already, or that the segment in front of `/v2/` names. They must agree.
    fn with_segment(
        &self,
        decided: Option<Authority>,
        segment: Option<&str>,
    ) -> Result<Option<Authority>, NamespaceError> {
        let Some(segment) = segment else { return Ok(decided) };
        let name = segment.parse::<Authority>().ok();
        let configured = name.as_ref().and_then(|name| self.names.get(name)).or_else(|| self.prefixes.get(segment));
        let admitted = || name.clone().filter(|name| segment.contains('.') && self.admitted_by(name).is_some());
        let Some(named) = configured.cloned().or_else(admitted) else {
            return Err(NamespaceError::Unknown(name.map_or_else(|| "this path".to_owned(), |name| name.to_string())));
        };
        match decided {
            Some(decided) if decided != named => {
                invalid(format!("the request is for {decided}, but its path begins with {}", quoted(segment)))
            }
            _ => Ok(Some(named)),
        }
    }

    /// Drops a first segment that repeats the authority which was decided already: a name, or its own short name. Another's
    /// short name belongs to the repository, and another's name is a contradiction.
    fn without_own_prefix<'a>(&self, decided: &Authority, name: &'a str) -> Result<&'a str, NamespaceError> {
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let is_short_name = || !rest.is_empty() && self.prefixes.get(first) == Some(decided);
        let Ok(named) = first.parse::<Authority>() else { return Ok(if is_short_name() { rest } else { name }) };
        match self.names.get(&named) {
            None if is_short_name() => Ok(rest),
            Some(other) if other != decided => {
                invalid(format!("the request is for {decided}, but its path begins with {named}"))
            }
            None if named != *decided => Ok(name),
            _ if rest.is_empty() => invalid(format!("no repository behind {named}")),
            _ => Ok(rest),
        }
    }

    fn read_path<'a>(&self, name: &'a str, default: &Authority) -> Result<(Authority, &'a str), NamespaceError> {
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let named = first.parse::<Authority>().ok();
        let short = self.prefixes.get(first).cloned();
        let authority = named.as_ref().and_then(|named| self.names.get(named).cloned()).or(short).or_else(|| {
            // A wildcard admits what is unmistakably a host.
            named.clone().filter(|named| first.contains('.') && self.admitted_by(named).is_some() && !rest.is_empty())
        });
        match authority {
            Some(_) if rest.is_empty() => invalid(format!("no repository behind {}", quoted(first))),
            Some(authority) => Ok((authority, rest)),
            None if !rest.is_empty() && Authority::looks_like_a_host(first) => match named {
                Some(named) => Err(NamespaceError::Unknown(named.to_string())),
                None => invalid("the path does not begin with a registry or a repository"),
            },
            None if !self.names.contains_key(default) => Err(NamespaceError::Unknown(default.to_string())),
            None => Ok((default.clone(), name)),
        }
    }
}

fn repository_in(authority: &Authority, name: &str) -> Result<Repository, NamespaceError> {
    let repository: Repository =
        name.parse().map_err(|err: crate::oci::InvalidRepository| NamespaceError::Invalid(err.to_string()))?;
    Ok(if authority.as_str() == DOCKER_HUB { repository.with_library() } else { repository })
}

/// Cuts `:tag` or `@digest` off.
fn without_reference(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _digest)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests;
