//! Full names of images as people type them: a registry, a repository, a tag, a digest.

use std::fmt;
use std::str::FromStr;

use super::{
    Authority, Digest, InvalidAuthority, InvalidDigest, InvalidReference, InvalidRepository, Reference, Repository, Tag,
};

/// The registry of a name that names none, as Docker reads it, and its other names.
const HUB: &str = "docker.io";
const HUB_ALIASES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const LATEST: &str = "latest";

/// `docker.io/library/app:1`, `quay.io/org/app@sha256:…`, both at once, or a familiar name of Docker Hub such as `app`.
///
/// The registry is as it is typed: an alias is folded by whoever knows the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    pub authority: Authority,
    pub repository: Repository,
    pub tag: Option<Tag>,
    /// If a tag is given too, the digest decides, as Docker has it.
    pub digest: Option<ShortDigest>,
}

/// A digest, or its beginning where that is unambiguous.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ShortDigest {
    /// `algorithm:` and hex digits.
    text: String,
}

/// An image, or bytes by their digest alone, in whatever repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Named {
    Image(ImageName),
    Content(ShortDigest),
}

/// The text is no name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error(transparent)]
    Authority(#[from] InvalidAuthority),
    #[error(transparent)]
    Repository(#[from] InvalidRepository),
    #[error(transparent)]
    Tag(#[from] InvalidReference),
    #[error(transparent)]
    Digest(#[from] InvalidShortDigest),
}

/// The text is neither a digest nor the beginning of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShortDigest {
    #[error(transparent)]
    Whole(#[from] InvalidDigest),
    #[error("a digest may be shortened to no less than {} hex digits", ShortDigest::SHORTEST)]
    TooShort,
}

impl ShortDigest {
    /// Hex digits that are needed, so that a slip names nothing.
    pub const SHORTEST: usize = 4;

    /// `algorithm:` and the hex digits that are known.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The digest, if it is not shortened.
    pub fn whole(&self) -> Option<Digest> {
        self.text.parse().ok()
    }

    pub fn begins(&self, digest: Digest) -> bool {
        digest.to_string().starts_with(&self.text)
    }
}

impl From<Digest> for ShortDigest {
    fn from(digest: Digest) -> Self {
        Self { text: digest.to_string() }
    }
}

impl FromStr for ShortDigest {
    type Err = InvalidShortDigest;

    /// Without an algorithm it is SHA-256, as in what `docker images` prints.
    fn from_str(text: &str) -> Result<Self, InvalidShortDigest> {
        let (algorithm, hex) = text.split_once(':').unwrap_or(("sha256", text));
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            // For the reason.
            _ => return Err(text.parse::<Digest>().err().unwrap_or(InvalidDigest::Malformed).into()),
        };
        if hex.len() > length || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::Malformed.into());
        }
        if hex.len() < Self::SHORTEST {
            return Err(InvalidShortDigest::TooShort);
        }
        Ok(Self { text: format!("{algorithm}:{hex}") })
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ImageName {
    /// What a pull of this name asks for: the digest, else the tag, else `latest`. `None` if the digest is shortened.
    pub fn reference(&self) -> Option<Reference> {
        match &self.digest {
            Some(digest) => digest.whole().map(Reference::Digest),
            None => Some(Reference::Tag(self.tag_or_latest())),
        }
    }

    pub fn tag_or_latest(&self) -> Tag {
        self.tag.clone().unwrap_or_else(|| LATEST.parse().expect("it is a tag"))
    }

    /// Reads `registry/repository`, or a familiar name of Docker Hub, without tag and digest.
    pub fn parse_repository(text: &str) -> Result<(Authority, Repository), InvalidName> {
        let (authority, path) = match text.split_once('/') {
            Some((first, rest)) if Authority::looks_like_a_host(first) => (first.parse::<Authority>()?, rest),
            _ => (HUB.parse()?, text),
        };
        let repository: Repository = path.parse()?;
        let is_hub = HUB_ALIASES.contains(&authority.as_str());
        Ok((authority, if is_hub { repository.with_library() } else { repository }))
    }
}

impl FromStr for ImageName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse()?)),
            _ => (rest, None),
        };
        let (authority, repository) = Self::parse_repository(name)?;
        Ok(Self { authority, repository, tag, digest })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.authority, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Named {
    type Err = InvalidName;

    /// `sha256:` and hex digits are a digest, although Docker Hub could have a repository of that name.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digest = text.starts_with("sha256:") || text.starts_with("sha512:");
        if is_digest { Ok(Self::Content(text.parse()?)) } else { Ok(Self::Image(text.parse()?)) }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => name.fmt(f),
            Self::Content(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn familiar_and_full_names_are_one_name() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.2", "docker.io/library/nginx:1.2"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/nginx", "index.docker.io/library/nginx"),
            ("Quay.IO:443/org/app:v1", "quay.io/org/app:v1"),
            ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
            ("localhost/a", "localhost/a"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("registry.corp:5000/app", "registry.corp:5000/app"),
            ("nginx@sha256:ba78", "docker.io/library/nginx@sha256:ba78"),
            ("nginx:1@ba7816bf", "docker.io/library/nginx:1@sha256:ba7816bf"),
        ] {
            let name: ImageName = text.parse().unwrap_or_else(|err| panic!("{text}: {err}"));
            assert_eq!(name.to_string(), full, "{text}");
            assert_eq!(full.parse(), Ok(name), "{full}");
        }
    }

    #[test]
    fn the_digest_decides_then_the_tag_then_latest() {
        let asked = |text: &str| text.parse::<ImageName>().unwrap().reference().map(|found| found.to_string());
        assert_eq!(asked("a").as_deref(), Some("latest"));
        assert_eq!(asked("a:1").as_deref(), Some("1"));
        assert_eq!(asked(&format!("a:1@{DIGEST}")).as_deref(), Some(DIGEST));
        assert_eq!(asked("a:1@sha256:ba78"), None, "it has to be looked up");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "/",
            ":",
            "@",
            "a:",
            "a@",
            "a/",
            "/a",
            "A",
            "a//b",
            "a:b:c",
            "quay.io/",
            "a@b:c",
            "a b",
            "a@sha256:",
            "a@sha256:abc",
            "a@sha256:BA78",
            "a@md5:abcd",
            "a@sha256:ba78@sha256:ba78",
            "../a",
            "a:..",
            "http://quay.io/a",
            "user@quay.io/a",
            "quay.io./a",
            &format!("a@{DIGEST}0"),
            "*",
            "a:*",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_alone_names_content() {
        assert_eq!("sha256:ba7816".parse(), Ok(Named::Content("ba7816".parse().unwrap())));
        assert!(matches!("sha256".parse(), Ok(Named::Image(_))));
        assert!(matches!("ba7816".parse(), Ok(Named::Image(_))));
        assert_eq!("sha256:xyz".parse::<Named>(), Err(InvalidShortDigest::Whole(InvalidDigest::Malformed).into()));
        let short: ShortDigest = "ba7816".parse().unwrap();
        assert!(short.begins(DIGEST.parse().unwrap()) && short.whole().is_none());
        assert_eq!(DIGEST.parse::<ShortDigest>().unwrap().whole(), DIGEST.parse().ok());
    }
}
