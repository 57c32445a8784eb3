use super::Repository;

/// A glob over repositories: `*` and `?` stay within one part, `**` spans parts.
#[derive(Debug, Clone)]
pub struct RepositoryPattern(glob::Pattern);

/// The text is no glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a repository pattern ({0}); `*` matches within one part of a name, `**` across parts")]
pub struct InvalidPattern(&'static str);

impl RepositoryPattern {
    /// Reads a glob.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        glob::Pattern::new(text).map(Self).map_err(|err| InvalidPattern(err.msg))
    }

    pub fn matches(&self, repository: &Repository) -> bool {
        const BY_PART: glob::MatchOptions = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.0.matches_with(repository.as_str(), BY_PART)
    }

    /// The number of literal characters. The more a matching pattern has, the more specific it is.
    pub fn specificity(&self) -> usize {
        self.0.as_str().chars().filter(|c| !"*?[]".contains(*c)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, repository: &str) -> bool {
        RepositoryPattern::parse(pattern).unwrap().matches(&repository.parse().unwrap())
    }

    #[test]
    fn one_star_stays_within_a_part_and_two_span_parts() {
        assert!(matches("library/**", "library/nginx"));
        assert!(matches("library/**", "library/a/b"));
        assert!(matches("bitnami/*", "bitnami/redis"));
        assert!(matches("**", "a/b/c") && matches("**/app", "a/b/app") && matches("a?c", "abc"));
        assert!(!matches("bitnami/*", "bitnami/a/b") && !matches("*", "a/b") && !matches("library/**", "other/x"));
        assert!(RepositoryPattern::parse("a**b").is_err());
    }
}
