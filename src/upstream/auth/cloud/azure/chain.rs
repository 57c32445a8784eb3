//! Where a token of Entra ID comes from: the first of client secret, workload identity and managed identity that is configured.

use std::path::PathBuf;

use url::Url;

use crate::secret::Secret;
use crate::upstream::auth::cloud::variables::{Allowed, CloudVariables, InvalidVariable, Reader};

const AUTHORITY: &str = "https://login.microsoftonline.com/";
const METADATA: &str = "http://169.254.169.254";
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";

/// How this mirror is signed in to registries of Azure.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct AzureIdentity {
    pub(super) source: Source,
    pub(super) tenant: Option<String>,
    /// Of a managed identity: which of several.
    pub(super) client: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Secret {
        client: String,
        secret: Secret,
        url: Url,
    },
    Federated {
        client: String,
        file: PathBuf,
        url: Url,
    },
    /// Of App Service and Container Apps.
    App {
        url: Url,
        key: Secret,
    },
    Instance(Url),
}

impl AzureIdentity {
    pub(in crate::upstream) fn read(variables: &CloudVariables) -> Result<Self, Vec<InvalidVariable>> {
        let reader = Reader::of(variables);
        let (client, tenant) = (reader.text("AZURE_CLIENT_ID"), reader.text("AZURE_TENANT_ID"));
        let (secret, file) = (reader.secret("AZURE_CLIENT_SECRET"), reader.file("AZURE_FEDERATED_TOKEN_FILE"));
        let url = tenant.and_then(|tenant| token_url(&reader, tenant));
        if (secret.is_some() || file.is_some()) && (client.is_none() || tenant.is_none()) {
            let name = if secret.is_some() { "AZURE_CLIENT_SECRET" } else { "AZURE_FEDERATED_TOKEN_FILE" };
            reader.problem(name, "goes with AZURE_CLIENT_ID and AZURE_TENANT_ID");
        }
        let source = match (client, url, secret, file) {
            (Some(client), Some(url), Some(secret), _) => {
                Some(Source::Secret { client: client.to_owned(), secret, url })
            }
            (Some(client), Some(url), None, Some(file)) => {
                Some(Source::Federated { client: client.to_owned(), file, url })
            }
            _ => None,
        };
        let source = source.or_else(|| app(&reader)).or_else(|| instance(&reader));
        // Only a broken URL leaves nothing, and that is told.
        let source = source.or_else(|| METADATA.parse().ok().map(Source::Instance));
        let identity =
            source.map(|source| Self { source, tenant: tenant.map(str::to_owned), client: client.map(str::to_owned) });
        reader.into_result(identity)?.ok_or_else(Vec::new)
    }

    /// For messages to the operator.
    pub(in crate::upstream) fn name(&self) -> String {
        match &self.source {
            Source::Secret { client, .. } => format!("the application {client} (Azure, client secret)"),
            Source::Federated { client, .. } => format!("the identity {client} (Azure, workload identity)"),
            Source::App { .. } | Source::Instance(_) => match &self.client {
                Some(client) => format!("the managed identity {client} (Azure)"),
                None => "the managed identity of this machine (Azure)".to_owned(),
            },
        }
    }
}

fn token_url(reader: &Reader<'_>, tenant: &str) -> Option<Url> {
    if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        reader.problem("AZURE_TENANT_ID", "must be the id or the domain of a tenant");
        return None;
    }
    let mut url = match reader.text("AZURE_AUTHORITY_HOST") {
        Some(_) => reader.url("AZURE_AUTHORITY_HOST", Allowed::Private)?,
        None => AUTHORITY.parse().ok()?,
    };
    url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
    Some(url)
}

fn app(reader: &Reader<'_>) -> Option<Source> {
    let url = reader.url("IDENTITY_ENDPOINT", Allowed::Metadata);
    url.zip(reader.secret("IDENTITY_HEADER")).map(|(url, key)| Source::App { url, key })
}

fn instance(reader: &Reader<'_>) -> Option<Source> {
    let url = match reader.text("AZURE_POD_IDENTITY_AUTHORITY_HOST") {
        Some(_) => reader.url("AZURE_POD_IDENTITY_AUTHORITY_HOST", Allowed::Metadata),
        None => METADATA.parse().ok(),
    };
    url.map(|mut url| {
        url.set_path(METADATA_PATH);
        Source::Instance(url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<AzureIdentity, Vec<InvalidVariable>> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AzureIdentity::read(&CloudVariables::of(&variables))
    }

    #[test]
    fn the_first_source_that_is_configured_is_used() {
        let ids = [("AZURE_CLIENT_ID", "id-1"), ("AZURE_TENANT_ID", "tenant-1")];
        let name = |more: &[(&str, &str)]| read(&[&ids[..], more].concat()).unwrap().name();
        assert!(name(&[("AZURE_CLIENT_SECRET", "s"), ("AZURE_FEDERATED_TOKEN_FILE", "/t")]).contains("client secret"));
        assert!(name(&[("AZURE_FEDERATED_TOKEN_FILE", "/t")]).contains("workload identity"));
        assert!(name(&[]).contains("managed identity id-1"));
        assert!(read(&[]).unwrap().name().contains("of this machine"));
        let problem = |variables: &[(&str, &str)]| read(variables).unwrap_err()[0].name;
        assert_eq!(problem(&[("AZURE_FEDERATED_TOKEN_FILE", "/t")]), "AZURE_FEDERATED_TOKEN_FILE");
        assert_eq!(problem(&[("AZURE_TENANT_ID", "../x")]), "AZURE_TENANT_ID");
        let plain = [&ids[..], &[("AZURE_AUTHORITY_HOST", "http://login.test/")]].concat();
        assert_eq!(problem(&plain), "AZURE_AUTHORITY_HOST");
    }
}
