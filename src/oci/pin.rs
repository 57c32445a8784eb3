use std::str::FromStr;

use super::text::{reads_from_text, writes_as_text};
use super::{Authority, Digest, Repository, RepositoryPattern};

/// Content that is never evicted: a glob over `authority/repository`, or `authority/repository:tag`. `*` stays within one
/// part, `**` spans parts.
#[derive(Clone)]
pub struct PinPattern {
    text: String,
    authority: glob::Pattern,
    repositories: RepositoryPattern,
    tag: Option<glob::Pattern>,
}

/// The text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin is `authority/repository` or `authority/repository:tag`, with globs, as in \"docker.io/library/**\"")]
pub struct InvalidPin;

impl PinPattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches this repository and, if it names a tag, this tag.
    pub fn matches(&self, authority: &Authority, repository: &Repository, tag: Option<&str>) -> bool {
        self.authority.matches(authority.as_str())
            && self.repositories.matches(repository)
            && match (&self.tag, tag) {
                (None, _) => true,
                (Some(pattern), Some(tag)) => pattern.matches(tag),
                (Some(_), None) => false,
            }
    }

    /// Whether it matches this repository, whatever tag it names.
    pub fn is_in(&self, authority: &Authority, repository: &Repository) -> bool {
        self.authority.matches(authority.as_str()) && self.repositories.matches(repository)
    }

    /// Whether it names tags, and not whole repositories.
    pub const fn is_of_tags(&self) -> bool {
        self.tag.is_some()
    }

    /// Whether it may match whole repositories of this authority.
    pub fn may_match(&self, authority: &Authority) -> bool {
        self.tag.is_none() && self.authority.matches(authority.as_str())
    }
}

writes_as_text!(PinPattern);
reads_from_text!(PinPattern);

impl FromStr for PinPattern {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let (authority, rest) = text.split_once('/').ok_or(InvalidPin)?;
        let (repositories, tag) = match rest.rsplit_once(':') {
            Some((repositories, tag)) => (repositories, Some(tag)),
            None => (rest, None),
        };
        let is_empty = authority.is_empty() || repositories.is_empty() || tag.is_some_and(str::is_empty);
        if is_empty || text.contains('@') {
            return Err(InvalidPin);
        }
        let glob = |text: &str| glob::Pattern::new(text).map_err(|_not_a_glob| InvalidPin);
        Ok(Self {
            text: text.to_owned(),
            authority: glob(&authority.to_ascii_lowercase())?,
            repositories: RepositoryPattern::parse(repositories).map_err(|_not_a_glob| InvalidPin)?,
            tag: tag.map(glob).transpose()?,
        })
    }
}

/// Content that may not be pulled: a digest, or a glob as pins have it.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockPattern {
    text: String,
    /// What the text says.
    pub names: BlockedNames,
}

/// What a [`BlockPattern`] names.
#[derive(Clone, PartialEq, Eq)]
pub enum BlockedNames {
    Content(Digest),
    Images(PinPattern),
}

/// The text names nothing that can be blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block is a digest, or a glob over `authority/repository` or `authority/repository:tag`")]
pub struct InvalidBlock;

impl BlockPattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

writes_as_text!(BlockPattern);
reads_from_text!(BlockPattern);

impl FromStr for BlockPattern {
    type Err = InvalidBlock;

    fn from_str(text: &str) -> Result<Self, InvalidBlock> {
        let names = match text.parse() {
            Ok(digest) => BlockedNames::Content(digest),
            Err(_no_digest) => BlockedNames::Images(text.parse().map_err(|_no_glob| InvalidBlock)?),
        };
        Ok(Self { text: text.to_owned(), names })
    }
}

impl PartialEq for PinPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PinPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_a_digest_or_images() {
        let digest = Digest::of(crate::oci::Algorithm::Sha256, b"a").to_string();
        let read = |text: &str| text.parse::<BlockPattern>().unwrap().names;
        assert!(matches!(read(&digest), BlockedNames::Content(named) if named.to_string() == digest));
        assert!(matches!(read("docker.io/library/app:1*"), BlockedNames::Images(_)));
        for wrong in ["", "sha256:12", "docker.io", "docker.io/app@sha256:12"] {
            assert!(wrong.parse::<BlockPattern>().is_err(), "{wrong}");
        }
    }

    fn matches(pin: &str, authority: &str, repository: &str, tag: Option<&str>) -> bool {
        let pin: PinPattern = pin.parse().unwrap();
        pin.matches(&authority.parse().unwrap(), &repository.parse().unwrap(), tag)
    }

    #[test]
    fn a_pin_names_repositories_and_perhaps_tags() {
        assert!(matches("docker.io/library/**", "docker.io", "library/nginx", None));
        assert!(matches("docker.io/library/**", "docker.io", "library/nginx", Some("1")));
        assert!(matches("quay.io/org/app:v1*", "quay.io", "org/app", Some("v1.2")));
        assert!(matches("registry.corp:5000/app", "registry.corp:5000", "app", Some("x")));
        assert!(matches("*/**:stable", "a.test", "b/c", Some("stable")));
        assert!(!matches("quay.io/org/app:v1*", "quay.io", "org/app", Some("v2")));
        assert!(!matches("quay.io/org/app:v1*", "quay.io", "org/app", None));
        assert!(!matches("docker.io/library/*", "quay.io", "library/nginx", None));
        for wrong in ["", "docker.io", "/x", "docker.io/", "docker.io/x:", "docker.io/a**b", "a/b@sha256:0"] {
            assert!(wrong.parse::<PinPattern>().is_err(), "{wrong}");
        }
    }
}
