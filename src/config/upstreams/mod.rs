//! The sections `[defaults]` and `[upstreams]`.

pub(super) mod cloud;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::mirror::{
    FreshnessRule, Namespaces, OnDenied, Policy, RegistryKey, RegistrySettings, Ttl, WhenRationed, Wildcard,
};
use crate::oci::{Authority, InvalidAuthority, Repository, RepositoryPattern};
use crate::upstream::UpstreamSettings;

use crate::config::completion::completion;
use crate::config::cooldown::cooldown;
use crate::config::endpoints::endpoints;
use crate::config::identity::{Proxy, certificates, client_identity, credentials, proxy};
use crate::config::presets::{DEFAULT_MAX_PAGE, PRESETS, Preset};
use crate::config::problems::Collected;
use crate::config::rules::{pattern, tags};
use crate::config::section::Section;

/// Keys that tell a registry who asks.
const SIGNS_IN: [&str; 7] =
    ["username", "password_file", "docker_config", "credential_helper", "auth", "credentials", "client_certificate"];

pub(super) struct Upstreams {
    pub(super) namespaces: Namespaces,
    pub(super) registries: Vec<RegistrySettings>,
    pub(super) served: Vec<String>,
    /// Upstreams whose preset may have more names for them.
    with_preset: Vec<(Authority, &'static Preset)>,
}

/// Sections in order: a key that is missing in one comes from the next.
struct Layered<'s, 'a>([&'s Section<'a>; 2]);

impl Layered<'_, '_> {
    /// Reads every section, so that the problems of all are found.
    fn first<T>(&self, read: impl Fn(&Section<'_>) -> Option<T>) -> Option<T> {
        let Self([own, defaults]) = self;
        let (own, default) = (read(own), read(defaults));
        own.or(default)
    }
}

pub(super) fn check(root: &Section<'_>) -> Upstreams {
    let defaults = root.section("defaults");
    let with_presets = root.flag("presets").unwrap_or(false) || !root.has("upstreams");
    let table = root.section("upstreams");
    let mut upstreams = Upstreams {
        namespaces: Namespaces::default(),
        registries: Vec::new(),
        served: Vec::new(),
        with_preset: Vec::new(),
    };
    let (mut named, mut has_unquoted) = (Vec::new(), false);
    for (name, section) in table.children() {
        let unquoted = section.nested_names();
        if !name.contains('.') && !unquoted.is_empty() {
            for rest in unquoted {
                let message = "must be in quotes, as it is here: without them, each dot begins another table";
                table.problem(&format!("{name}.{rest}"), message);
            }
            has_unquoted = true;
            section.ignore();
            continue;
        }
        named.extend(upstreams.add(root, name, &section, &defaults));
        section.finish();
    }
    upstreams.add_preset_aliases();
    let problems = Collected::default();
    let empty = figment::value::Dict::new();
    for preset in PRESETS.iter().filter(|preset| with_presets && !named.contains(&preset.name.to_owned())) {
        // An alias of another upstream has taken the name.
        if preset.name.parse().is_ok_and(|name| upstreams.namespaces.configured(&name).is_some()) {
            continue;
        }
        let section = Section::root(&empty, &problems);
        upstreams.add(root, preset.name, &section, &defaults);
        section.finish();
    }
    upstreams.add_preset_aliases();
    if upstreams.registries.is_empty() {
        // No upstream uses the defaults. Their keys are checked all the same.
        let nobody = Section::root(&empty, &problems);
        let layers = Layered([&nobody, &defaults]);
        settings("", false, None, &layers, policy(&layers).offline);
        nobody.finish();
    }
    if named.is_empty() && !has_unquoted && root.has("upstreams") && !with_presets {
        root.problem("upstreams", "names no registry that can be served; leave it out to serve the presets");
    }
    defaults.finish();
    upstreams.served.sort_unstable();
    upstreams
}

impl Upstreams {
    /// Adds one upstream; gives its canonical name.
    fn add(&mut self, root: &Section<'_>, name: &str, section: &Section<'_>, defaults: &Section<'_>) -> Option<String> {
        let layers = Layered([section, defaults]);
        let policy = policy(&layers);
        let uses_preset = section.flag("use_preset").unwrap_or(true);
        let key = match read_name(name) {
            Ok(key) => key,
            Err(message) => {
                root.problem("upstreams", format!("\"{name}\": {message}"));
                // Read all the same, so that its other problems are reported and its keys do not count as unknown.
                self.name(section, None);
                settings(name, name.starts_with('*'), None, &layers, policy.offline);
                return None;
            }
        };
        let (canonical, preset) = match &key {
            RegistryKey::Authority(authority) => {
                let owner = PRESETS.iter().find(|preset| preset.aliases.contains(&authority.as_str()));
                if let Some(Preset { name: known, .. }) = owner
                    && !section.has("url")
                    && !section.has("endpoints")
                {
                    root.problem("upstreams", format!("\"{name}\": is another name of {known}; configure that"));
                }
                (authority.to_string(), PRESETS.iter().find(|preset| uses_preset && preset.name == authority.as_str()))
            }
            RegistryKey::Wildcard(name) => (name.clone(), None),
        };
        match &key {
            RegistryKey::Authority(authority) => {
                self.name(section, Some(authority));
                self.with_preset.extend(preset.map(|preset| (authority.clone(), preset)));
            }
            RegistryKey::Wildcard(_) => self.namespaces.add_wildcard(Wildcard::parse(name)?),
        }
        let is_wildcard = matches!(key, RegistryKey::Wildcard(_));
        let upstream = Arc::new(settings(&canonical, is_wildcard, preset, &layers, policy.offline));
        if self.served.contains(&canonical) {
            root.problem("upstreams", format!("\"{name}\": {canonical} is there under another spelling too"));
            return None;
        }
        self.registries.push(RegistrySettings { key, upstream, policy });
        self.served.push(canonical.clone());
        Some(canonical)
    }

    /// Adds the names that presets have for their upstreams, unless the configuration gives them to another.
    fn add_preset_aliases(&mut self) {
        for (authority, preset) in self.with_preset.drain(..) {
            for alias in preset.aliases.iter().filter_map(|alias| alias.parse().ok()) {
                let _taken_by_another = self.namespaces.add_alias(alias, &authority);
            }
        }
    }

    /// The names of an upstream. If its own name is invalid, they are only checked.
    fn name(&mut self, section: &Section<'_>, authority: Option<&Authority>) {
        if let Some(authority) = authority
            && !self.namespaces.add(authority)
        {
            section.problem("aliases", format!("{authority} is an alias of another upstream"));
        }
        for alias in section.parsed_list::<Authority>("aliases").unwrap_or_default() {
            if authority.is_some_and(|authority| !self.namespaces.add_alias(alias.clone(), authority)) {
                section.problem("aliases", format!("{alias} belongs to another upstream"));
            }
        }
        if let Some(prefix) = section.text("prefix") {
            let valid =
                prefix.parse::<Repository>().is_ok() && !prefix.contains('/') && !Authority::looks_like_a_host(&prefix);
            if !valid {
                section.problem("prefix", "must be one short lower-case word, as in \"hub\"");
            } else if authority.is_some_and(|authority| !self.namespaces.add_prefix(prefix, authority)) {
                section.problem("prefix", "belongs to another upstream");
            }
        }
    }
}

/// The name of an upstream: an authority or a wildcard.
fn read_name(name: &str) -> Result<RegistryKey, String> {
    if name.starts_with('*') {
        let wildcard = Wildcard::parse(name).ok_or("a wildcard is \"*\" or \"*.example.com\"")?;
        return Ok(RegistryKey::Wildcard(wildcard.name()));
    }
    name.parse().map(RegistryKey::Authority).map_err(|err: InvalidAuthority| err.to_string())
}

fn policy(layers: &Layered<'_, '_>) -> Policy {
    let on_denied = layers.first(|section| match section.text("on_denied")?.as_str() {
        "refuse" => Some(OnDenied::Refuse),
        "stale" => Some(OnDenied::Stale),
        _ => {
            section.problem("on_denied", "must be \"refuse\" or \"stale\"");
            None
        }
    });
    let when_rationed = layers.first(|section| match section.text("when_rationed")?.as_str() {
        "429" => Some(WhenRationed::Wait),
        "503" => Some(WhenRationed::GoElsewhere),
        _ => {
            section.problem("when_rationed", "must be \"429\" or \"503\"");
            None
        }
    });
    let Layered([own, defaults]) = layers;
    // Where nobody signs in, a refusal takes back nothing that was granted to us.
    let is_signed_in = SIGNS_IN.iter().any(|key| own.has(key));
    let mut freshness = freshness(own);
    freshness.extend(self::freshness(defaults));
    let (completion, completion_rules) = completion(own, defaults);
    let (min_age, min_age_rules) = cooldown(own, defaults);
    Policy {
        tag_ttl: layers.first(|s| s.duration("tag_ttl")).unwrap_or(Duration::from_mins(1)),
        negative_ttl: layers.first(|s| s.duration("negative_ttl")).unwrap_or(Duration::from_secs(10)),
        keep_deleted: layers.first(|s| s.flag("keep_deleted")).unwrap_or(false),
        on_denied: on_denied.unwrap_or(if is_signed_in { OnDenied::Refuse } else { OnDenied::Stale }),
        when_rationed: when_rationed.unwrap_or(WhenRationed::Wait),
        public: layers.first(|s| s.flag("public")).unwrap_or(false),
        offline: layers.first(|s| s.flag("offline")).unwrap_or(false),
        max_stale: layers.first(|s| s.duration("max_stale")),
        check_timeout: layers.first(|s| s.duration("check_timeout")).unwrap_or(Duration::from_secs(3)),
        max_size: own.size("max_size"),
        allow: layers.first(|s| patterns(s, "allow")).unwrap_or_default(),
        deny: layers.first(|s| patterns(s, "deny")).unwrap_or_default(),
        freshness,
        min_age,
        min_age_rules,
        completion,
        completion_rules,
        lazy: layers.first(lazy).unwrap_or_default(),
        honour_no_cache: layers.first(|s| s.flag("honour_no_cache")).unwrap_or(false),
    }
}

/// `true`, `false`, or globs over repositories.
fn lazy(section: &Section<'_>) -> Option<Vec<RepositoryPattern>> {
    let globs = section.texts("lazy")?;
    match globs.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["false"] => Some(Vec::new()),
        ["true"] => RepositoryPattern::parse("**").ok().map(|all| vec![all]),
        _ => patterns(section, "lazy"),
    }
}

fn patterns(section: &Section<'_>, key: &'static str) -> Option<Vec<RepositoryPattern>> {
    section.each(key, RepositoryPattern::parse)
}

fn freshness(section: &Section<'_>) -> Vec<FreshnessRule> {
    let mut rules = Vec::new();
    for rule in section.sections("freshness") {
        let repositories = pattern(&rule, "match", &rule.text("match").unwrap_or_else(|| "**".to_owned()));
        let tag = tags(&rule);
        let ttl = match (rule.duration("tag_ttl"), rule.flag("immutable")) {
            (None, Some(true)) => Some(Ttl::Immutable),
            (Some(ttl), None | Some(false)) => Some(Ttl::For(ttl)),
            _ => {
                rule.problem("tag_ttl", "a rule has either `tag_ttl` or `immutable = true`");
                None
            }
        };
        if let (Some(repositories), Some(ttl)) = (repositories, ttl) {
            rules.push(FreshnessRule { repositories, tag, ttl });
        }
        rule.finish();
    }
    rules
}

fn settings(
    name: &str,
    is_wildcard: bool,
    preset: Option<&Preset>,
    layers: &Layered<'_, '_>,
    offline: bool,
) -> UpstreamSettings {
    let Layered([section, _]) = layers;
    let endpoints = endpoints(section, preset, is_wildcard);
    let texts = |key: &'static str| section.texts(key);
    let seconds =
        |key: &'static str, default: u64| layers.first(|s| s.duration(key)).unwrap_or(Duration::from_secs(default));
    let ca = section.text("ca").map(PathBuf::from);
    UpstreamSettings {
        name: name.to_owned(),
        credentials: credentials(section, name, &endpoints),
        endpoints,
        token_hosts: token_hosts(section, preset),
        private_hosts: texts("private_hosts").unwrap_or_default(),
        ca: ca.map(|file| certificates(section, &file)).unwrap_or_default(),
        client_identity: client_identity(section),
        skip_verify: section.flag("insecure_skip_verify").unwrap_or(false),
        proxy: layers.first(proxy).and_then(Proxy::settings),
        public_only: is_wildcard,
        offline,
        connect_timeout: seconds("connect_timeout", 4),
        response_timeout: seconds("response_timeout", 18),
        idle_timeout: seconds("idle_timeout", 30),
        max_connections: layers.first(|s| s.number("max_connections", 1)).unwrap_or(64) as usize,
        segments: layers.first(|s| s.number("segments", 1)).unwrap_or(8) as usize,
        breaker_window: seconds("breaker_window", 10),
        counts_pulls: section.flag("rations").or(preset.map(|preset| preset.counts_pulls)).unwrap_or(false),
        max_page: section.number("max_page", 1).or(preset.map(|preset| preset.max_page)).unwrap_or(DEFAULT_MAX_PAGE),
        max_manifest_size: layers.first(|s| s.size("max_manifest_size")).unwrap_or(4 * 1024 * 1024),
        max_list_size: layers.first(|s| s.size("max_list_size")).unwrap_or(4 * 1024 * 1024),
    }
}

/// Those of the table, and those of the preset.
fn token_hosts(section: &Section<'_>, preset: Option<&Preset>) -> Vec<String> {
    let mut hosts = section.texts("token_hosts").unwrap_or_default();
    for host in preset.map(|preset| preset.token_hosts).unwrap_or_default() {
        if !hosts.iter().any(|listed| listed == host) {
            hosts.push((*host).to_owned());
        }
    }
    hosts
}
