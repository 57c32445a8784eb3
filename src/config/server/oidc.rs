//! `[[access.oidc]]`: issuers of tokens; and `[access.groups]`.

use std::path::PathBuf;

use url::Url;

use crate::config::identity::certificates;
use crate::config::rules::require_file;
use crate::config::section::Section;
use crate::server::{Group, OidcIssuer, is_safe};

pub(super) fn issuers(access: &Section<'_>) -> Vec<OidcIssuer> {
    let mut issuers = Vec::<OidcIssuer>::new();
    for section in access.sections("oidc") {
        let issuer = section.text("issuer");
        let audiences = section.texts("audience");
        let told = [
            ("issuer", "the URL that tokens name as `iss`"),
            ("audience", "the name of this server in the `aud` of tokens that are for it"),
        ];
        for (key, meant) in told {
            if !section.has(key) {
                section.problem(key, format!("is missing: {meant}"));
            }
        }
        if audiences.as_ref().is_some_and(|audiences| audiences.iter().any(String::is_empty) || audiences.is_empty()) {
            section.problem("audience", "is empty: tokens that are for others would do");
        }
        let place = issuer.as_ref().and_then(|issuer| url(&section, "issuer", issuer));
        let jwks = section.text("jwks").and_then(|text| url(&section, "jwks", &text));
        let token_file = section.text("token_file").map(PathBuf::from);
        if let Some(file) = &token_file {
            require_file(&section, "token_file", file);
        }
        let ca = section.text("ca").map(PathBuf::from).map(|file| certificates(&section, &file)).unwrap_or_default();
        let (name, groups) = (section.text("name"), section.text("groups"));
        let prefix = section.text("prefix").unwrap_or_default();
        if issuers.iter().any(|earlier| Some(&earlier.issuer) == issuer.as_ref()) {
            section.problem("issuer", "is that of an earlier `[[access.oidc]]`; `audience` may be a list");
        }
        if let (Some(issuer), Some(url), Some(audiences)) = (issuer, place, audiences) {
            let name = name.unwrap_or_else(|| "sub".to_owned());
            issuers.push(OidcIssuer { issuer, url, audiences, jwks, name, groups, prefix, ca, token_file });
        }
        section.finish();
    }
    issuers
}

fn url(section: &Section<'_>, key: &str, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| is_safe(url) && url.username().is_empty() && url.password().is_none());
    if url.is_none() {
        section.problem(key, "must be a URL that begins with https://, or with http:// and a name of loopback");
    }
    url
}

pub(super) fn groups(access: &Section<'_>) -> Vec<Group> {
    let section = access.section("groups");
    let mut groups = Vec::new();
    for (name, members) in section.named_texts() {
        let mut read = Vec::new();
        for (at, member) in members.iter().enumerate() {
            match glob::Pattern::new(member).ok().filter(|_| !member.is_empty()) {
                Some(member) => read.push(member),
                None => {
                    section
                        .problem_at(&format!("{name}[{at}]"), "must be a name, or a glob over names, as in \"ci-*\"");
                }
            }
        }
        groups.push(Group { name: name.to_owned(), members: read });
    }
    groups
}
