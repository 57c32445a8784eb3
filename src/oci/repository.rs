use std::str::FromStr;
use std::sync::Arc;

use super::text::{reads_from_text, writes_as_text};

/// A repository's name within one authority (distribution-spec, `<name>`), of any depth.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

/// Longest name in bytes. The spec sets no limit; this one bounds keys and log lines.
const MAX_LENGTH: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository is one or more lower-case parts joined by `/`, each of letters and digits with `.`, `_`, `__` or dashes between"
)]
/// The text is no repository's name.
pub struct InvalidRepository;

impl Repository {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts `library/` in front of a name of one part, as Docker Hub names its official images.
    #[must_use]
    pub fn with_library(self) -> Self {
        if self.0.contains('/') { self } else { Self(format!("library/{}", self.0).into()) }
    }
}

writes_as_text!(Repository);
reads_from_text!(Repository);

impl FromStr for Repository {
    type Err = InvalidRepository;

    fn from_str(text: &str) -> Result<Self, InvalidRepository> {
        if text.len() <= MAX_LENGTH && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRepository)
        }
    }
}

/// Whether the part matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut after_alphanumeric = false;
    for c in part.chars() {
        if u8::try_from(c).is_ok_and(is_alphanumeric) {
            let joined = after_alphanumeric && is_separator(&separator);
            if !separator.is_empty() && !joined {
                return false;
            }
            separator.clear();
            after_alphanumeric = true;
        } else {
            separator.push(c);
        }
    }
    after_alphanumeric && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_the_spec_is_accepted_at_any_depth() {
        for good in ["a", "library/nginx", "a/b/c/d/e/f", "a.b_c__d-e---f", "0/1", "docker.io/library/x"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
    }

    #[test]
    fn t6_what_the_grammar_excludes_is_refused() {
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "_a", "a_", "-a", "a-", ".", "..", "a/../b",
            "a:b", "a b", "a%2fb", "\u{e9}", "a\n",
        ] {
            assert_eq!(bad.parse::<Repository>(), Err(InvalidRepository), "{bad:?}");
        }
        assert!("a".repeat(MAX_LENGTH + 1).parse::<Repository>().is_err());
    }

    #[test]
    fn a_name_of_one_part_gets_library_in_front() {
        assert_eq!("nginx".parse::<Repository>().unwrap().with_library().as_str(), "library/nginx");
        assert_eq!("a/b".parse::<Repository>().unwrap().with_library().as_str(), "a/b");
    }
}
