use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::text::{reads_from_text, writes_as_text};
use super::{Digest, InvalidDigest};

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// The tag or digest by which a manifest is requested.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

/// The text is neither a tag nor a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    #[error("a tag is up to 128 letters, digits, `_`, `.` and `-`, and starts with neither `.` nor `-`")]
    Tag,
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl Tag {
    /// Those under which cosign keeps signatures, attestations and SBOMs, where it does not use the referrers API.
    pub fn of_cosign(subject: Digest) -> impl Iterator<Item = Self> {
        let tag = subject.referrers_tag();
        ["sig", "att", "sbom"].into_iter().filter_map(move |suffix| format!("{tag}.{suffix}").parse().ok())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

writes_as_text!(Tag);
reads_from_text!(Tag);

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let first = text.bytes().next().is_some_and(word);
        if first && text.len() <= 128 && text.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidReference::Tag)
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// A text with `:` is read as a digest, because tags have none.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_tag_or_a_digest_and_nothing_else() {
        for tag in ["latest", "_", "1.2.3-rc_4", "V1", &"a".repeat(128)] {
            assert!(matches!(tag.parse(), Ok(Reference::Tag(_))), "{tag}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "..", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(bad.parse::<Reference>(), Err(InvalidReference::Tag), "{bad}");
        }
        assert!(matches!("sha256:x".parse::<Reference>(), Err(InvalidReference::Digest(_))));
    }
}
