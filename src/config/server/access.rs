//! The section `[access]`.

use std::path::PathBuf;

use http::HeaderName;

use super::oidc;
use crate::config::rules::its_file;
use crate::config::section::Section;
use crate::mirror::{DOCKER_HUB, Namespaces, PinError};
use crate::oci::{InvalidPin, PinPattern};
use crate::server::{AccessSettings, BrokenLine, HeaderKeys, Htpasswd, ListenerSettings, Rule, Who};

/// Largest file of passwords or keys, in bytes.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Broken lines of one file that are reported.
const MAX_BROKEN: usize = 20;
/// A shorter key may be guessed.
const SENSIBLE_KEY_BYTES: usize = 16;

/// Whether clients have what rules may be about.
struct Has {
    certificates: bool,
    groups: bool,
}

pub(in crate::config) fn check(
    root: &Section<'_>,
    namespaces: &Namespaces,
    listeners: &[ListenerSettings],
) -> Option<AccessSettings> {
    let is_there = root.has("access");
    let access = root.section("access");
    let asks_for_certificates =
        |listener: &ListenerSettings| listener.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    let htpasswd = htpasswd(&access);
    let header = header(&access);
    let (oidc, groups) = (oidc::issuers(&access), oidc::groups(&access));
    let has = Has {
        certificates: listeners.iter().any(asks_for_certificates),
        groups: !groups.is_empty() || oidc.iter().any(|issuer| issuer.groups.is_some()),
    };
    let settings = AccessSettings {
        anonymous: access.flag("anonymous").unwrap_or(true),
        token_server: access.flag("token_server").unwrap_or(false),
        rules: rules(&access, namespaces, &has),
        oidc,
        groups,
        htpasswd,
        header,
    };
    if settings.token_server && settings.htpasswd.is_none() && settings.oidc.is_empty() {
        access.doubt("token_server", "gives tokens to nobody by name without `htpasswd` or `[[access.oidc]]`");
    }
    let allows_networks = settings.rules.iter().filter(|rule| rule.allow).flat_map(|rule| &rule.who);
    let has_networks = allows_networks.into_iter().any(|who| matches!(who, Who::Network(_)));
    let signs_in =
        settings.htpasswd.is_some() || settings.header.is_some() || !settings.oidc.is_empty() || has.certificates;
    if !settings.anonymous && !signs_in && !has_networks {
        access.problem(
            "anonymous",
            "shuts everybody out: there is neither `htpasswd`, nor `header`, nor `oidc`, nor `client_ca` of a listener, nor a rule that \
             allows a `network:`",
        );
    }
    let is_bare = |listener: &ListenerSettings| listener.tls.is_none() && !listener.address.ip().is_loopback();
    if (settings.htpasswd.is_some() || settings.header.is_some()) && listeners.iter().any(is_bare) {
        let key = if settings.htpasswd.is_some() { "htpasswd" } else { "header" };
        access.doubt(key, "is sent in the clear to a listener off loopback that has no `tls`");
    }
    access.finish();
    is_there.then_some(settings)
}

fn htpasswd(access: &Section<'_>) -> Option<Htpasswd> {
    let file = access.text("htpasswd").map(PathBuf::from)?;
    if !access.reads_secrets() {
        return Some(Htpasswd::default());
    }
    let text = read(access, "htpasswd", &file)?;
    report_broken(access, "htpasswd", &file, Htpasswd::parse(&text))
}

fn header(access: &Section<'_>) -> Option<HeaderKeys> {
    if !access.has("header") {
        // Known to be a key all the same.
        access.section("header").finish();
        return None;
    }
    let section = access.section("header");
    let (name, file) = (section.text("name"), section.text("keys").map(PathBuf::from));
    for (key, is_missing) in [("name", name.is_none()), ("keys", file.is_none())] {
        if is_missing && !section.has(key) {
            section
                .problem(key, "is missing: give `name` and `keys`, the header's name and the file of NAME KEY lines");
        }
    }
    let name = name.and_then(|name| match name.parse::<HeaderName>() {
        Ok(name) if !is_taken(&name) => Some(name),
        Ok(_) => {
            section.problem("name", "is a header of HTTP's own: use one as \"X-Roadstead-Key\"");
            None
        }
        Err(_) => {
            section.problem("name", "is no name of a header");
            None
        }
    });
    let keys = name.zip(file).and_then(|(name, file)| {
        if !section.reads_secrets() {
            return Some(HeaderKeys { header: name, keys: Vec::new() });
        }
        let text = read(&section, "keys", &file)?;
        report_broken(&section, "keys", &file, HeaderKeys::parse(name, &text))
    });
    if keys.iter().flat_map(|keys| &keys.keys).any(|(_, key)| key.expose().len() < SENSIBLE_KEY_BYTES) {
        section.doubt("keys", "has a key of less than 16 bytes, which may be guessed");
    }
    section.finish();
    keys
}

/// Headers that mean something else to clients, proxies or this server.
fn is_taken(name: &HeaderName) -> bool {
    let taken =
        ["accept", "authorization", "connection", "content-length", "cookie", "host", "range", "user-agent", "via"];
    taken.contains(&name.as_str()) || name.as_str().starts_with("if-") || name.as_str().starts_with("proxy-")
}

fn read(section: &Section<'_>, key: &str, file: &std::path::Path) -> Option<String> {
    let size = std::fs::metadata(file).map(|metadata| metadata.len());
    let read =
        size.and_then(|size| if size > MAX_FILE_BYTES { Ok(None) } else { std::fs::read_to_string(file).map(Some) });
    match read {
        Ok(Some(text)) => return Some(text),
        Ok(None) => section.problem(key, format!("{} has more than 8 MiB", its_file(file))),
        Err(err) => section.problem(key, format!("{} cannot be read: {err}", its_file(file))),
    }
    None
}

fn report_broken<T>(
    section: &Section<'_>,
    key: &str,
    file: &std::path::Path,
    read: Result<T, Vec<BrokenLine>>,
) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(broken) => {
            for line in broken.iter().take(MAX_BROKEN) {
                section.problem(key, format!("{}: {line}", its_file(file)));
            }
            None
        }
    }
}

fn rules(access: &Section<'_>, namespaces: &Namespaces, has: &Has) -> Vec<Rule> {
    let mut rules = Vec::<Rule>::new();
    for section in access.sections("rules") {
        let who = section.parsed_list::<Who>("who");
        let what = section.each("what", |text| pattern(namespaces, text));
        let allow = section.flag("allow");
        let told = [
            ("who", who.as_ref().map(Vec::len), "whom the rule is about, as [\"user:ci-*\"]"),
            ("what", what.as_ref().map(Vec::len), "what it is about, as [\"docker.io/library/**\"]"),
            ("allow", allow.map(|_| 1), "true or false"),
        ];
        for (key, entries, meant) in told {
            if !section.has(key) {
                section.problem(key, format!("is missing: {meant}"));
            } else if entries == Some(0) && section.texts(key).is_some_and(|texts| texts.is_empty()) {
                section.problem(key, format!("is empty: {meant}"));
            }
        }
        if let (Some(who), Some(what), Some(allow)) = (who, what, allow) {
            let rule = Rule { who, what: what.iter().map(|(what, _)| what.clone()).collect(), allow };
            for (at, who) in rule.who.iter().enumerate() {
                let why = match who {
                    Who::Group(_) if !has.groups => "there are no `groups`, of [access] or of an issuer",
                    Who::Certificate(_) if !has.certificates => "no listener has `client_ca`",
                    Who::Group(_) | Who::Certificate(_) | Who::User(_) | Who::Network(_) | Who::Anonymous => continue,
                };
                void(&section, allow, &format!("who[{at}]"), &format!("{who} matches nobody: {why}"));
            }
            for (at, _) in what.iter().enumerate().filter(|(_, (_, is_served))| !is_served) {
                void(&section, allow, &format!("what[{at}]"), "names a registry that is not among the upstreams");
            }
            if let Some(at) = rules.iter().position(|earlier| hides(earlier, &rule)) {
                let is_same = rules.get(at).is_some_and(|earlier| earlier.allow == allow);
                let says = if is_same { "the same" } else { "the opposite" };
                section.doubt(
                    "allow",
                    format!(
                        "never counts: access.rules[{at}] says {says} of all of it, and the first that matches decides"
                    ),
                );
            }
            rules.push(rule);
        }
        section.finish();
    }
    rules
}

/// A part of a rule that is about nothing. A rule that refuses must not be without effect.
fn void(section: &Section<'_>, allow: bool, key: &str, why: &str) {
    if allow { section.doubt_at(key, why) } else { section.problem_at(key, why) }
}

/// Whether an earlier rule names all that a later one names.
fn hides(earlier: &Rule, later: &Rule) -> bool {
    later.who.iter().all(|who| earlier.who.contains(who)) && later.what.iter().all(|what| earlier.what.contains(what))
}

/// The pattern, and whether its registry is served.
fn pattern(namespaces: &Namespaces, text: &str) -> Result<(PinPattern, bool), String> {
    let (pattern, is_served) = match namespaces.pin(text) {
        Ok(pattern) => (pattern, true),
        Err(PinError::UnknownRegistry) => (text.parse().map_err(|err: InvalidPin| err.to_string())?, false),
        Err(PinError::Invalid(_)) => {
            let message =
                "must be a glob over `registry/repository`, perhaps with `:tag`, as in \"docker.io/library/**\"";
            return Err(message.to_owned());
        }
    };
    let of_hub = pattern.as_str().strip_prefix(DOCKER_HUB).and_then(|rest| rest.strip_prefix('/'));
    if of_hub.is_some_and(|repositories| !repositories.contains('/') && !repositories.starts_with("**")) {
        let message = "matches nothing: repositories of Docker Hub have two parts, as in \"docker.io/library/nginx\"";
        return Err(message.to_owned());
    }
    Ok((pattern, is_served))
}
