//! The variables by which the clouds' own SDKs are configured. They are read once, with the configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use url::{Host, Url};

use crate::secret::Secret;

const PREFIXES: [&str; 5] = ["AWS_", "AZURE_", "GCE_METADATA_", "GOOGLE_", "IDENTITY_"];

/// The variables of the process that are about clouds. Their values may be secrets.
#[derive(Debug, Clone, Default)]
pub struct CloudVariables(BTreeMap<String, Secret>);

/// A variable with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidVariable {
    pub name: &'static str,
    /// Without the value, which may be a secret.
    pub message: String,
}

impl CloudVariables {
    /// Those of the environment that are about clouds. Empty ones count as missing, as in the SDKs.
    pub fn of<'e>(environment: impl IntoIterator<Item = &'e (String, String)>) -> Self {
        let named = environment
            .into_iter()
            .filter(|(name, value)| !value.trim().is_empty() && PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        Self(named.map(|(name, value)| (name.clone(), Secret::new(value.trim()))).collect())
    }
}

/// Reads variables, and collects what is wrong with them.
pub(super) struct Reader<'v> {
    variables: &'v CloudVariables,
    invalid: RefCell<Vec<InvalidVariable>>,
}

/// Which addresses a variable may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// https, or http at this machine: a secret goes there.
    Private,
    /// http too: a service of the machine's own, which the operator named.
    Metadata,
}

impl<'v> Reader<'v> {
    pub(super) fn of(variables: &'v CloudVariables) -> Self {
        Self { variables, invalid: RefCell::default() }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'v str> {
        self.variables.0.get(name).map(Secret::expose)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.variables.0.get(name).cloned()
    }

    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// `true`, as the SDKs write it.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    pub(super) fn problem(&self, name: &'static str, message: impl Into<String>) {
        self.invalid.borrow_mut().push(InvalidVariable { name, message: message.into() });
    }

    /// A URL, or nothing if it is missing or not allowed.
    pub(super) fn url(&self, name: &'static str, allowed: Allowed) -> Option<Url> {
        let url = self.text(name)?.parse::<Url>().ok();
        let url = url.filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
        let Some(url) = url else {
            self.problem(name, "must be a URL, as in \"https://sts.example.com\"");
            return None;
        };
        let is_allowed = match allowed {
            Allowed::Private => may_hear_secrets(&url),
            Allowed::Metadata => matches!(url.scheme(), "http" | "https"),
        };
        if !is_allowed {
            self.problem(name, "must begin with https://, because secrets go there (http:// at this machine only)");
        }
        Some(url).filter(|_| is_allowed)
    }

    /// What was read, or all that is wrong.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<InvalidVariable>> {
        let invalid = self.invalid.into_inner();
        if invalid.is_empty() { Ok(value) } else { Err(invalid) }
    }
}

/// Whether secrets may be sent there: over TLS, or within this machine.
pub fn may_hear_secrets(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(_) => address_of(url).is_some_and(|address| address.is_loopback()),
            None => false,
        },
        _ => false,
    }
}

/// The address in a URL that names its host by one.
pub(super) fn address_of(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}
