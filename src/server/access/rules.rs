//! Who may read what. Pure. The first rule that matches decides; where there are rules, a request that none matches is
//! refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::oci::{Authority, PinPattern, Repository};

/// One of `who`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A glob over the names of users: of the htpasswd file, and of keys.
    User(glob::Pattern),
    /// A glob over groups, of the configuration and of a token.
    Group(glob::Pattern),
    /// A glob over the names in the certificate of the connection: SAN (DNS, URI, mail) and common name.
    Certificate(glob::Pattern),
    /// The address that the connection comes from.
    Network(IpNet),
    /// A client that shows nothing, where `anonymous = true`.
    Anonymous,
}

/// The text names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWho {
    #[error("must begin with `user:`, `group:`, `network:` or `certificate:`, or be `anonymous`")]
    Kind,
    #[error("needs a glob behind the colon, as in \"user:ci-*\"")]
    Glob,
    #[error("needs a network behind `network:`, as in \"network:10.0.0.0/8\"")]
    Network,
}

impl FromStr for Who {
    type Err = InvalidWho;

    fn from_str(text: &str) -> Result<Self, InvalidWho> {
        if text == super::client::ANONYMOUS {
            return Ok(Self::Anonymous);
        }
        let glob = |text: &str| match text {
            "" => Err(InvalidWho::Glob),
            text => glob::Pattern::new(text).map_err(|_not_a_glob| InvalidWho::Glob),
        };
        match text.split_once(':').ok_or(InvalidWho::Kind)? {
            ("user", text) => glob(text).map(Self::User),
            ("group", text) => glob(text).map(Self::Group),
            ("certificate", text) => glob(text).map(Self::Certificate),
            ("network", network) => {
                let network: Option<IpNet> =
                    network.parse().ok().or_else(|| network.parse::<IpAddr>().ok().map(IpNet::from));
                network.map(|network| Self::Network(network.trunc())).ok_or(InvalidWho::Network)
            }
            _ => Err(InvalidWho::Kind),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(glob) => write!(f, "user:{glob}"),
            Self::Group(glob) => write!(f, "group:{glob}"),
            Self::Certificate(glob) => write!(f, "certificate:{glob}"),
            Self::Network(network) => write!(f, "network:{network}"),
            Self::Anonymous => f.write_str(super::client::ANONYMOUS),
        }
    }
}

/// `[[access.rules]]`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Any of them.
    pub who: Vec<Who>,
    /// Any of them.
    pub what: Vec<PinPattern>,
    pub allow: bool,
}

/// The client of a request, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// A user's name; `None` for a client that shows nothing.
    pub user: Option<&'a str>,
    /// Whether a client that shows nothing is `anonymous`.
    pub has_anonymous: bool,
    /// `None` if it is not known: no network matches.
    pub address: Option<IpAddr>,
    /// The names in the certificate of its connection; `None` without one.
    pub certificate: Option<&'a [String]>,
    /// By the configuration, and by its token.
    pub groups: [&'a [String]; 2],
}

/// The part of a repository that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    Tag(&'a str),
    /// What is named by its digest: a manifest, a blob, what refers to a manifest.
    Content,
    /// The list of all tags.
    Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There are no rules: all may read everything.
    NoRules,
    /// By the rule at this position.
    Rule {
        at: usize,
        allow: bool,
    },
    NoneMatches,
}

impl Decision {
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::NoRules | Self::Rule { allow: true, .. })
    }
}

impl Who {
    pub fn matches(&self, asker: &Asker<'_>) -> bool {
        match self {
            Self::User(glob) => asker.user.is_some_and(|user| glob.matches(user)),
            Self::Group(glob) => asker.groups.iter().copied().flatten().any(|group| glob.matches(group)),
            Self::Certificate(glob) => {
                asker.certificate.is_some_and(|names| names.iter().any(|name| glob.matches(name)))
            }
            Self::Network(network) => asker.address.is_some_and(|address| network.contains(&address.to_canonical())),
            Self::Anonymous => asker.user.is_none() && asker.certificate.is_none() && asker.has_anonymous,
        }
    }
}

impl Rule {
    pub fn is_about(&self, asker: &Asker<'_>) -> bool {
        self.who.iter().any(|who| who.matches(asker))
    }

    /// A pattern with a tag is about that tag. If it allows, the content of its repository is open by digest too, since a
    /// tag leads to digests only; if it refuses, it takes no content away, which other tags may have.
    pub fn covers(&self, authority: &Authority, repository: &Repository, wanted: Asked<'_>) -> bool {
        self.covering(authority, repository, wanted).next().is_some()
    }

    /// The patterns by which it covers something.
    pub fn covering(
        &self,
        authority: &Authority,
        repository: &Repository,
        wanted: Asked<'_>,
    ) -> impl Iterator<Item = &PinPattern> {
        self.what.iter().filter(move |what| match wanted {
            Asked::Tag(tag) => what.matches(authority, repository, Some(tag)),
            Asked::Content if self.allow => what.is_in(authority, repository),
            Asked::Content | Asked::Tags => what.matches(authority, repository, None),
        })
    }
}

pub fn decide(
    rules: &[Rule],
    asker: &Asker<'_>,
    authority: &Authority,
    repository: &Repository,
    wanted: Asked<'_>,
) -> Decision {
    if rules.is_empty() {
        return Decision::NoRules;
    }
    let matching = |rule: &Rule| rule.is_about(asker) && rule.covers(authority, repository, wanted);
    match rules.iter().enumerate().find(|(_, rule)| matching(rule)) {
        Some((at, rule)) => Decision::Rule { at, allow: rule.allow },
        None => Decision::NoneMatches,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(who: &[&str], what: &[&str], allow: bool) -> Rule {
        let who = who.iter().map(|who| who.parse().unwrap()).collect();
        let what = what.iter().map(|what| what.parse().unwrap()).collect();
        Rule { who, what, allow }
    }

    fn allowed(rules: &[Rule], user: Option<&str>, from: &str, repository: &str, wanted: Asked<'_>) -> bool {
        let asker = Asker {
            user,
            has_anonymous: true,
            address: Some(from.parse().unwrap()),
            certificate: None,
            groups: [&[], &[]],
        };
        let (authority, repository) = repository.split_once('/').unwrap();
        decide(rules, &asker, &authority.parse().unwrap(), &repository.parse().unwrap(), wanted).is_allowed()
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_without_one_it_is_refused() {
        let rules = [
            rule(&["user:ci-bad"], &["quay.io/**"], false),
            rule(&["user:ci-*", "network:10.0.0.0/8"], &["quay.io/org/*"], true),
            rule(&["anonymous"], &["docker.io/library/**"], true),
        ];
        let content = Asked::Content;
        assert!(allowed(&rules, Some("ci-a"), "192.0.2.1", "quay.io/org/app", content));
        assert!(!allowed(&rules, Some("ci-bad"), "10.1.2.3", "quay.io/org/app", content));
        assert!(allowed(&rules, None, "10.1.2.3", "quay.io/org/app", content));
        assert!(allowed(&rules, None, "::ffff:10.1.2.3", "quay.io/org/app", content), "IPv4 over an IPv6 socket");
        assert!(!allowed(&rules, None, "11.1.2.3", "quay.io/org/app", content));
        assert!(!allowed(&rules, Some("ci-a"), "192.0.2.1", "quay.io/org/deep/app", content));
        assert!(allowed(&rules, None, "192.0.2.1", "docker.io/library/app", Asked::Tags));
        assert!(!allowed(&rules, Some("ci-a"), "192.0.2.1", "docker.io/library/app", Asked::Tags), "a user is nobody");
        assert!(allowed(&[], None, "192.0.2.1", "docker.io/library/app", content), "no rules");
    }

    #[test]
    fn a_tag_opens_itself_and_content_and_closes_itself_only() {
        let rules =
            [rule(&["user:*"], &["quay.io/org/app:dev-*"], false), rule(&["user:*"], &["quay.io/org/app:v*"], true)];
        let may = |wanted| allowed(&rules, Some("a"), "192.0.2.1", "quay.io/org/app", wanted);
        assert!(may(Asked::Tag("v1")) && may(Asked::Content));
        assert!(!may(Asked::Tag("dev-1")) && !may(Asked::Tag("latest")) && !may(Asked::Tags));
    }

    #[test]
    fn nobody_is_named_by_a_typo() {
        for (text, err) in [
            ("ci", InvalidWho::Kind),
            ("usr:ci", InvalidWho::Kind),
            ("user:", InvalidWho::Glob),
            ("user:[", InvalidWho::Glob),
            ("group:", InvalidWho::Glob),
            ("certificate:[", InvalidWho::Glob),
            ("network:10.0.0.0/33", InvalidWho::Network),
            ("network:corp", InvalidWho::Network),
        ] {
            assert_eq!(text.parse::<Who>(), Err(err), "{text}");
        }
        assert_eq!("network:10.1.2.3/8".parse::<Who>().unwrap().to_string(), "network:10.0.0.0/8");
        assert_eq!("network:10.1.2.3".parse::<Who>().unwrap().to_string(), "network:10.1.2.3/32");
    }
}
