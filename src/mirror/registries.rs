//! The registries of this mirror: those that are configured, and those that a wildcard admits. Each is a client to ask and
//! a policy for what it gave.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::PullError;
use super::policy::{OnDenied, Policy};
use super::resolve::Namespaces;
use crate::cache::{self, RegistryFacts};
use crate::fill::Source;
use crate::oci::Authority;
use crate::upstream::{self, ClientError, EndpointState, RegistryClient, Trouble, UpstreamClients, UpstreamSettings};

/// Registries that wildcards admitted, kept at one time.
const MAX_ADMITTED: u64 = 1000;

/// One configured upstream, checked.
pub struct RegistrySettings {
    /// `docker.io`, or a wildcard's key.
    pub key: RegistryKey,
    pub upstream: Arc<UpstreamSettings>,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryKey {
    Authority(Authority),
    /// By [`super::Wildcard::name`].
    Wildcard(String),
}

/// One registry: the client that asks it, and what the configuration lets its content do.
pub(super) struct Registry {
    pub(super) source: Arc<Source>,
    pub(super) policy: Policy,
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the upstream {name} cannot be set up: {err}")]
    Client { name: String, err: ClientError },
    #[error("the upstream {name} cannot be set up: {err}")]
    Url { name: String, err: url::ParseError },
}

/// A configured upstream, and how it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamState {
    /// The upstream as it is configured: the label of its metrics.
    pub name: String,
    /// By configuration.
    pub is_offline: bool,
    /// None of a wildcard, which has those that clients name.
    pub endpoints: Vec<EndpointState>,
}

pub(super) struct Registries {
    namespaces: Namespaces,
    configured: HashMap<Authority, Arc<Registry>>,
    templates: HashMap<String, Template>,
    admitted: moka::sync::Cache<Authority, Arc<Registry>>,
    context: upstream::Context,
}

/// A registry that a wildcard may admit.
struct Template {
    settings: Arc<UpstreamSettings>,
    clients: UpstreamClients,
    policy: Policy,
}

impl Registry {
    fn new(client: RegistryClient, policy: Policy) -> Arc<Self> {
        let facts = RegistryFacts {
            name: client.settings().name.clone(),
            max_size: policy.max_size,
            is_offline: policy.offline,
            is_public: policy.public,
        };
        Arc::new(Self { source: Arc::new(Source { client, facts }), policy })
    }

    /// The same registry, asked on behalf of the proxies that a request came through.
    pub(super) fn on_behalf_of(&self, hops: &str) -> Arc<Self> {
        Self::new(self.client().on_behalf_of(hops), self.policy.clone())
    }

    pub(super) fn client(&self) -> &RegistryClient {
        &self.source.client
    }

    pub(super) fn facts(&self) -> &RegistryFacts {
        &self.source.facts
    }

    /// The upstream as it is configured: the label of its metrics.
    pub(super) fn name(&self) -> &str {
        &self.source.facts.name
    }

    pub(super) fn takes_manifest_of(&self, length: usize) -> bool {
        length as u64 <= self.client().settings().max_manifest_size
    }

    pub(super) fn not_found(&self, remembered: bool) -> PullError {
        let offline = self.policy.offline;
        PullError::NotFound { authority: self.client().authority().clone(), remembered, offline }
    }

    /// Whether what was checked `age` ago may be served although the check ended with `error`
    /// (docs/ARCHITECTURE.md, "Freshness and staleness").
    pub(super) fn serves_despite(&self, error: &PullError, age: Duration) -> bool {
        let by_cause = if error.is_not_found() {
            self.policy.keep_deleted
        } else if error.is_denied() {
            self.policy.on_denied == OnDenied::Stale
        } else {
            !error.is_upstreams_word()
        };
        by_cause && self.policy.within_max_stale(age)
    }
}

impl Registries {
    /// Connects to nothing: every upstream may be down.
    pub(super) fn new(
        namespaces: Namespaces,
        settings: Vec<RegistrySettings>,
        context: upstream::Context,
    ) -> Result<Self, RegistryError> {
        let (mut configured, mut templates) = (HashMap::new(), HashMap::new());
        for RegistrySettings { key, upstream: settings, policy } in settings {
            let name = settings.name.clone();
            let clients = UpstreamClients::new(&settings, &context);
            let clients = clients.map_err(|err| RegistryError::Client { name: name.clone(), err })?;
            match key {
                RegistryKey::Authority(authority) => {
                    let client = RegistryClient::new(authority.clone(), settings, &clients, &context)
                        .map_err(|err| RegistryError::Url { name, err })?;
                    configured.insert(authority, Registry::new(client, policy));
                }
                RegistryKey::Wildcard(wildcard) => {
                    templates.insert(wildcard, Template { settings, clients, policy });
                }
            }
        }
        Ok(Self { namespaces, configured, templates, admitted: moka::sync::Cache::new(MAX_ADMITTED), context })
    }

    pub(super) const fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub(super) fn states(&self) -> Vec<UpstreamState> {
        let configured = self.configured.values().map(|registry| UpstreamState {
            name: registry.name().to_owned(),
            is_offline: registry.policy.offline,
            endpoints: registry.client().endpoint_states(),
        });
        let templates = self.templates.values().map(|template| UpstreamState {
            name: template.settings.name.clone(),
            is_offline: template.policy.offline,
            endpoints: Vec::new(),
        });
        let mut states: Vec<_> = configured.chain(templates).collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        states
    }

    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.context.troubles.list()
    }

    pub(super) fn get(&self, authority: &Authority) -> Option<Arc<Registry>> {
        if let Some(registry) = self.configured.get(authority) {
            return Some(Arc::clone(registry));
        }
        let wildcard = self.namespaces.admitted_by(authority)?;
        let template = self.templates.get(&wildcard.name())?;
        self.admitted.optionally_get_with(authority.clone(), || {
            let settings = Arc::clone(&template.settings);
            let client = RegistryClient::new(authority.clone(), settings, &template.clients, &self.context).ok()?;
            Some(Registry::new(client, template.policy.clone()))
        })
    }
}

impl cache::Registries for Registries {
    fn facts(&self, authority: &Authority) -> Option<RegistryFacts> {
        self.get(authority).map(|registry| registry.facts().clone())
    }

    fn configured(&self) -> Vec<(Authority, RegistryFacts)> {
        self.configured.iter().map(|(authority, registry)| (authority.clone(), registry.facts().clone())).collect()
    }
}
