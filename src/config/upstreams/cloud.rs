//! `auth`: the identity of a cloud in place of a password.

use crate::upstream::{Cloud, CloudIdentity, EndpointSettings, may_hear_secrets};

use crate::config::rules::require_file;
use crate::config::section::Section;

/// The identity that `auth = "…"` means in this environment. `name` is that of the upstream.
pub(in crate::config) fn cloud_identity(
    section: &Section<'_>,
    auth: &str,
    name: &str,
    endpoints: &[EndpointSettings],
) -> Option<CloudIdentity> {
    let Some(cloud) = Cloud::named(auth) else {
        section.problem("auth", "must be \"ecr\" (AWS), \"gar\" (Google Cloud) or \"acr\" (Azure)");
        return None;
    };
    // Every registry that a wildcard admits has to be one of the cloud: what it gives is for nobody else.
    let is_named = cloud.knows(&name.replace('*', "any"));
    let is_known = |endpoint: &EndpointSettings| endpoint.url.host_str().is_some_and(|host| cloud.knows(host));
    let is_reached = !endpoints.is_empty() && endpoints.iter().all(is_known);
    if !(is_named || is_reached) {
        let registries = cloud.registries();
        section.problem(
            "auth",
            format!("is for registries of this cloud: {registries}, as the upstream's name or its `url`"),
        );
    }
    if let Some(endpoint) = endpoints.iter().find(|endpoint| !may_hear_secrets(&endpoint.url)) {
        let host = endpoint.url.host_str().unwrap_or_default();
        section.problem("auth", format!("would send a token to {host} without TLS; use https://"));
    }
    // Commands may run in another environment than the server.
    if !section.reads_secrets() {
        return None;
    }
    match cloud.identity(section.cloud_variables()) {
        Ok(identity) => {
            if let Some(file) = identity.file() {
                require_file(section, "auth", file);
            }
            Some(identity)
        }
        Err(invalid) => {
            for variable in invalid {
                section.variable_problem(variable.name, variable.message);
            }
            None
        }
    }
}
