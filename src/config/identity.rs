//! Credentials, client certificates, trusted CAs and the proxy of an upstream.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use crate::secret::Secret;
use crate::server::{TlsSettings, load_identity};
use crate::upstream::{ClientIdentity, CredentialRule, CredentialSource, EndpointSettings, ProxySettings, check_ca};

use super::rules::{certificate_problem, its_file, pattern, require_file};
use super::section::Section;
use super::upstreams::cloud::cloud_identity;

/// `name` is that of the upstream.
pub(super) fn credentials(section: &Section<'_>, name: &str, endpoints: &[EndpointSettings]) -> Vec<CredentialRule> {
    let mut rules = Vec::new();
    let admits_all = name == "*";
    let credential_source = |section: &Section<'_>| credential_source(section, name, endpoints);
    if admits_all && (section.has("password_file") || section.has("credentials")) {
        let message = "\"*\" would give them to any registry that a request names; `docker_config` and \
                       `credential_helper` tell registries apart";
        section.problem(if section.has("credentials") { "credentials" } else { "password_file" }, message);
    }
    rules.extend(credential_source(section).map(|source| CredentialRule { pattern: None, source }));
    for rule in section.sections("credentials") {
        let pattern = rule.text("match").and_then(|text| pattern(&rule, "match", &text));
        if !rule.has("match") {
            rule.problem("match", "is missing: the repositories that these credentials are for");
        }
        let source = credential_source(&rule);
        if source.is_none()
            && !["username", "docker_config", "credential_helper", "auth"].iter().any(|key| rule.has(key))
        {
            rule.problem("username", "is missing; or use `docker_config`, `credential_helper` or `auth`");
        }
        if let (Some(pattern), Some(source)) = (pattern, source) {
            rules.push(CredentialRule { pattern: Some(pattern), source });
        }
        rule.finish();
    }
    rules
}

fn credential_source(section: &Section<'_>, name: &str, endpoints: &[EndpointSettings]) -> Option<CredentialSource> {
    let (username, file) = (section.text("username"), section.text("password_file").map(PathBuf::from));
    let docker_config = section.text("docker_config").map(PathBuf::from);
    let helper = section.text("credential_helper");
    let cloud = section.text("auth");
    let ways = usize::from(username.is_some() || file.is_some())
        + usize::from(docker_config.is_some())
        + usize::from(helper.is_some())
        + usize::from(cloud.is_some());
    if ways > 1 {
        section.problem(
            "username",
            "give one of `username` with `password_file`, `docker_config`, `credential_helper`, and `auth`",
        );
    }
    match (username, file) {
        (Some(username), Some(file)) => {
            require_file(section, "password_file", &file);
            return Some(CredentialSource::PasswordFile { username, file });
        }
        (Some(_), None) => {
            section.problem("password_file", "is missing: the file that holds the password of `username`");
        }
        (None, Some(_)) => section.problem("username", "is missing beside `password_file`"),
        (None, None) => {}
    }
    if let Some(file) = docker_config {
        require_file(section, "docker_config", &file);
        return Some(CredentialSource::DockerConfig(file));
    }
    if let Some(cloud) = cloud {
        return cloud_identity(section, &cloud, name, endpoints).map(CredentialSource::Cloud);
    }
    helper.map(CredentialSource::Helper)
}

pub(super) fn certificates(section: &Section<'_>, file: &Path) -> Vec<CertificateDer<'static>> {
    if !section.reads_secrets() {
        return Vec::new();
    }
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => match certificates.iter().try_for_each(check_ca) {
            Ok(()) => return certificates,
            Err(err) => section.problem("ca", format!("{} holds what is no certificate: {err}", its_file(file))),
        },
        Ok(_) => section.problem("ca", format!("{} holds no certificate", its_file(file))),
        Err(err) => section.problem("ca", format!("{} cannot be read: {err}", its_file(file))),
    }
    Vec::new()
}

pub(super) fn client_identity(section: &Section<'_>) -> Option<ClientIdentity> {
    let (certificate, key) = (section.text("client_certificate"), section.text("client_key"));
    if certificate.is_some() != key.is_some() {
        section.problem("client_certificate", "goes with `client_key`");
    }
    let (certificate, key) = certificate.zip(key).filter(|_| section.reads_secrets())?;
    match load_identity(&TlsSettings::new(certificate, key)) {
        Ok((chain, key)) => Some(ClientIdentity { chain, key }),
        Err(err) => {
            section.problem("client_certificate", certificate_problem(&err));
            None
        }
    }
}

/// What a section says of an egress proxy.
pub(super) enum Proxy {
    /// There is none, whatever other sections say.
    Without,
    Through(ProxySettings),
}

impl Proxy {
    pub(super) fn settings(self) -> Option<ProxySettings> {
        match self {
            Self::Without => None,
            Self::Through(settings) => Some(settings),
        }
    }
}

pub(super) fn proxy(section: &Section<'_>) -> Option<Proxy> {
    let (username, file) = (section.text("proxy_username"), section.text("proxy_password_file").map(PathBuf::from));
    let text = section.text("proxy")?;
    if text == "none" {
        if username.is_some() || file.is_some() {
            section.problem("proxy_username", "goes with a `proxy` that is not \"none\"");
        }
        return Some(Proxy::Without);
    }
    let url = match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host() => url,
        _ => {
            section.problem(
                "proxy",
                "must be a URL that begins with http://, https://, socks5:// or socks5h://, or \"none\"",
            );
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        section.problem("proxy", "must not hold credentials: use `proxy_username` and `proxy_password_file`");
        return None;
    }
    let login = match (username, file) {
        (Some(_), Some(_)) if !section.reads_secrets() => None,
        (Some(username), Some(file)) => match std::fs::read_to_string(&file) {
            Ok(password) => Some((username, Secret::new(password.trim_end_matches(['\r', '\n'])))),
            Err(err) => {
                section.problem("proxy_password_file", format!("{} cannot be read: {err}", its_file(&file)));
                None
            }
        },
        (None, None) => None,
        _ => {
            section.problem("proxy_username", "goes with `proxy_password_file`");
            None
        }
    };
    Some(Proxy::Through(ProxySettings { url, login }))
}
