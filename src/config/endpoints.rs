//! The endpoints of an upstream.

use url::Url;

use crate::oci::Repository;
use crate::upstream::EndpointSettings;

use super::presets::Preset;
use super::section::Section;

pub(super) fn endpoints(section: &Section<'_>, preset: Option<&Preset>, is_wildcard: bool) -> Vec<EndpointSettings> {
    let forward_ns = section.flag("forward_ns").unwrap_or(false);
    let mut endpoints = Vec::new();
    let mut add = |url: Option<Url>, forward_ns, partial| {
        endpoints.extend(url.map(|url| EndpointSettings { url, forward_ns, partial }));
    };
    add(section.text("url").and_then(|url| endpoint_url(section, "url", &url)), forward_ns, false);
    let listed = section.texts_or_sections("endpoints");
    if section.has("url") && section.has("endpoints") {
        section.problem("endpoints", "give either `url` or `endpoints`");
    }
    for endpoint in listed {
        match endpoint {
            Ok(url) => add(endpoint_url(section, "endpoints", &url), forward_ns, false),
            Err(table) => {
                let url = table.text("url").and_then(|url| endpoint_url(&table, "url", &url));
                if !table.has("url") {
                    table.problem("url", "is missing");
                }
                add(url, table.flag("forward_ns").unwrap_or(forward_ns), table.flag("partial").unwrap_or(false));
                table.finish();
            }
        }
    }
    let given = section.has("url") || section.has("endpoints");
    match (is_wildcard, given, preset) {
        (true, true, _) => {
            section.problem("url", "a wildcard has no endpoint: each registry that it admits is its own");
        }
        (false, false, Some(preset)) => {
            add(Some(Url::parse(preset.url).expect("a preset's URL is valid")), forward_ns, false);
        }
        (false, false, None) => {
            section.problem("url", "is missing: where this registry is reached, as in \"https://registry.corp\"");
        }
        _ => {}
    }
    if endpoints.last().is_some_and(|endpoint| endpoint.partial) {
        section.problem("endpoints", "the last one must not be `partial`: there is none to ask after it");
    }
    endpoints
}

fn endpoint_url(section: &Section<'_>, key: &str, text: &str) -> Option<Url> {
    let problem = |message: &str| {
        section.problem(key, message);
        None
    };
    let Ok(url) = Url::parse(text) else { return problem("must be a URL, as in \"https://registry.corp\"") };
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return problem("must begin with https:// (or http://) and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return problem("must not hold credentials: use `username` and `password_file`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return problem("must have neither a query nor a fragment");
    }
    let path = url.path().trim_matches('/');
    if path == "v2" || path.starts_with("v2/") {
        return problem(
            "must not begin with /v2: a path is a repository prefix, put behind /v2/, or ends in /v2 where the API is below a path",
        );
    }
    if let Some(before) = path.strip_suffix("/v2") {
        let is_plain = before.split('/').all(|part| !part.is_empty()) && !before.contains('%');
        return if is_plain { Some(url) } else { problem("has a path before /v2 that is not plain") };
    }
    if !path.is_empty() && path.parse::<Repository>().is_err() {
        return problem("its path must be a repository prefix, as in https://harbor.corp/hub-proxy");
    }
    Some(url)
}
