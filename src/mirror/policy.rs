//! The policy of one upstream: how long its content is believed, and which of it is served.

use std::time::Duration;

use regex_lite::Regex;

use crate::oci::{Platform, Repository, RepositoryPattern, Tag};

/// Largest config that is read, and that is fetched though nobody asked for it. Bytes: configs have kilobytes.
pub(super) const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
pub struct Policy {
    /// How long a tag or list is believed without asking.
    pub tag_ttl: Duration,
    /// How long a 404 is believed.
    pub negative_ttl: Duration,
    pub keep_deleted: bool,
    pub on_denied: OnDenied,
    pub when_rationed: WhenRationed,
    /// One grant opens a digest to the whole authority.
    pub public: bool,
    pub offline: bool,
    /// Oldest answer that may be served when upstream cannot be asked; `None` is any.
    pub max_stale: Option<Duration>,
    /// Deadline of a check while a copy is held.
    pub check_timeout: Duration,
    /// Most that its blobs and running downloads take together. Bytes.
    pub max_size: Option<u64>,
    /// Empty allows all.
    pub allow: Vec<RepositoryPattern>,
    pub deny: Vec<RepositoryPattern>,
    pub freshness: Vec<FreshnessRule>,
    pub min_age: MinAge,
    /// The first rule that matches a tag stands in place of [`Self::min_age`].
    pub min_age_rules: Vec<MinAgeRule>,
    pub completion: Completion,
    /// The first rule that matches a repository stands in place of [`Self::completion`].
    pub completion_rules: Vec<(RepositoryPattern, Completion)>,
    /// Repositories whose blobs are read lazily: short ranges in the withheld tail come from upstream, unproven.
    pub lazy: Vec<RepositoryPattern>,
    /// A client's `Cache-Control: no-cache` has a fresh tag checked.
    pub honour_no_cache: bool,
}

/// What is fetched in the background after a manifest was pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    pub complete: Complete,
    /// Manifests of an index that are fetched though nobody asked for them.
    pub platforms: Platforms,
    /// Also what refers to the manifest: signatures, SBOMs, attestations.
    pub referrers: bool,
}

/// The blobs of a manifest that are fetched though nobody asked for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Complete {
    Off,
    /// The config of an image, some kilobytes.
    #[default]
    Config,
    /// Every blob.
    Image,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    All,
    Only(Vec<Platform>),
}

impl Default for Platforms {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Platforms {
    /// Whether a manifest of an index is one of these. One without a platform is one of all.
    pub(super) fn contain(&self, platform: Option<&Platform>) -> bool {
        match self {
            Self::All => true,
            Self::Only(wanted) => platform.is_some_and(|platform| wanted.iter().any(|w| w.names(platform))),
        }
    }
}

/// The meaning of a 401 or 403 for held content. A refused login is neither: it proves nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDenied {
    /// Access was revoked: refuse, and forget that it was ever granted.
    Refuse,
    /// Serve what is held, as if upstream could not be asked.
    Stale,
}

/// What a client is told to do while upstream limits pulls, and nothing held can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRationed {
    /// Come back later. Some clients do so for minutes before they ask their next registry.
    Wait,
    /// Ask another registry.
    GoElsewhere,
}

/// The first rule that matches a tag decides how long it is believed.
#[derive(Debug, Clone)]
pub struct FreshnessRule {
    pub repositories: RepositoryPattern,
    /// Anchored at both ends; `None` matches every tag.
    pub tag: Option<Regex>,
    pub ttl: Ttl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    For(Duration),
    /// Once fetched, never checked again.
    Immutable,
}

/// How long a digest must have been named by a tag before the tag moves to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinAge {
    /// Zero: tags move at once.
    pub age: Duration,
    /// Tags move at once, and younger digests are only told of.
    pub is_audit: bool,
}

/// The minimal age of some tags.
#[derive(Debug, Clone)]
pub struct MinAgeRule {
    pub repositories: RepositoryPattern,
    /// Anchored at both ends; `None` matches every tag.
    pub tag: Option<Regex>,
    pub min_age: MinAge,
}

fn matches(repositories: &RepositoryPattern, tags: Option<&Regex>, (repository, tag): (&Repository, &Tag)) -> bool {
    repositories.matches(repository) && tags.is_none_or(|pattern| pattern.is_match(tag.as_str()))
}

impl Policy {
    pub(super) fn within_max_stale(&self, age: Duration) -> bool {
        self.max_stale.is_none_or(|max| age <= max)
    }

    pub(super) fn is_lazy(&self, repository: &Repository) -> bool {
        self.lazy.iter().any(|pattern| pattern.matches(repository))
    }

    pub fn allows(&self, repository: &Repository) -> bool {
        let listed = |patterns: &[RepositoryPattern]| patterns.iter().any(|pattern| pattern.matches(repository));
        (self.allow.is_empty() || listed(&self.allow)) && !listed(&self.deny)
    }

    pub(super) fn completion_of(&self, repository: &Repository) -> &Completion {
        let matching = self.completion_rules.iter().find(|(pattern, _)| pattern.matches(repository));
        matching.map_or(&self.completion, |(_, completion)| completion)
    }

    pub fn ttl(&self, repository: &Repository, tag: &Tag) -> Ttl {
        let matching =
            self.freshness.iter().find(|rule| matches(&rule.repositories, rule.tag.as_ref(), (repository, tag)));
        matching.map_or(Ttl::For(self.tag_ttl), |rule| rule.ttl)
    }

    pub(super) fn min_age(&self, repository: &Repository, tag: &Tag) -> MinAge {
        let matching =
            self.min_age_rules.iter().find(|rule| matches(&rule.repositories, rule.tag.as_ref(), (repository, tag)));
        matching.map_or(self.min_age, |rule| rule.min_age)
    }
}
