//! Azure Container Registry: a token of Entra ID, which the registry exchanges for a refresh token of its own. That is the
//! password by which its token server is asked ("AAD-OAuth" in the documents of Azure/acr).

mod chain;

pub(in crate::upstream) use chain::AzureIdentity;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde::Deserialize;
use url::Url;

use super::ask::{Ask, Asker, Told, Way, life, life_until, read_file};
use super::error::CloudError;
use super::minted::Minted;
use crate::clock::Timestamp;
use crate::oci::read_object;
use crate::secret::Secret;
use chain::Source;

/// The user name that goes with a refresh token.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";
/// What a token of Entra ID is for.
const RESOURCE: &str = "https://containerregistry.azure.net";
const NO_ENTRA: &str = "see AZURE_TENANT_ID and AZURE_CLIENT_ID, and the federated credential of the identity: its issuer, its \
                        subject and its audience";
const NO_INSTANCE: &str = "is this a machine of Azure with a managed identity? AZURE_CLIENT_ID chooses one of several; else set \
                           AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID and AZURE_TENANT_ID";
const NOT_ALLOWED: &str = "give the identity the role AcrPull (Container Registry Repository Reader) on this registry";
/// How long a refresh token is good, in seconds, if that cannot be read.
const USUAL_LIFE: u64 = 3600;

/// A registry of Azure, as an endpoint reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct AcrRegistry {
    /// Its name, as in `mine.azurecr.io`.
    service: String,
    /// Where its tokens are exchanged.
    exchange: Url,
}

impl AcrRegistry {
    /// From the endpoint that reaches it, and its possible names.
    pub(in crate::upstream) fn of(endpoint: &Url, names: &[&str]) -> Option<Self> {
        let service = names.iter().find(|name| Self::knows(name))?;
        let mut exchange = endpoint.clone();
        exchange.set_path("/oauth2/exchange");
        Some(Self { service: service.split(':').next().unwrap_or(service).to_owned(), exchange })
    }

    /// Whether this is a registry of Azure.
    pub(in crate::upstream) fn knows(host: &str) -> bool {
        let host = host.split(':').next().unwrap_or(host);
        let suffixes = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];
        suffixes.iter().any(|suffix| host.strip_suffix(suffix).is_some_and(|rest| !rest.is_empty()))
    }
}

impl AzureIdentity {
    pub(super) async fn mint(
        &self,
        asker: &Asker,
        registry: &AcrRegistry,
        now: Timestamp,
    ) -> Result<Minted, CloudError> {
        let entra = self.entra_token(asker).await?;
        let mut form = vec![
            ("grant_type", "access_token"),
            ("service", registry.service.as_str()),
            ("access_token", entra.expose()),
        ];
        form.extend(self.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        let told = asker.ask(Ask::new(Way::Outside, Method::POST, registry.exchange.clone(), NOT_ALLOWED).form(&form));
        let told = told.await?;
        let Exchanged { refresh_token } = told.object("a refresh token")?;
        Ok(Minted {
            username: USERNAME.to_owned(),
            life: expiry(&refresh_token).map_or(life(USUAL_LIFE), |until| life_until(until, now)),
            password: Secret::new(refresh_token),
        })
    }

    async fn entra_token(&self, asker: &Asker) -> Result<Secret, CloudError> {
        let scope = format!("{RESOURCE}/.default");
        let sign_in = |proof: &[(&str, &str)], client: &str, url: &Url| {
            let common = [("grant_type", "client_credentials"), ("client_id", client), ("scope", scope.as_str())];
            Ask::new(Way::Outside, Method::POST, url.clone(), NO_ENTRA).form(&[&common, proof].concat())
        };
        let ask = match &self.source {
            Source::Secret { client, secret, url } => sign_in(&[("client_secret", secret.expose())], client, url),
            Source::Federated { client, file, url } => {
                let token = read_file(file).await?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                sign_in(&[("client_assertion_type", kind), ("client_assertion", token.expose())], client, url)
            }
            Source::App { url, key } => {
                let mut ask = Ask::new(Way::Direct, Method::GET, self.question(url, "2019-08-01"), NO_INSTANCE);
                ask.headers.push(("x-identity-header", key.clone()));
                ask
            }
            Source::Instance(url) => {
                let url = self.question(url, "2018-02-01");
                Ask::new(Way::Direct, Method::GET, url, NO_INSTANCE).header("metadata", "true")
            }
        };
        access_token(&asker.ask(ask).await?)
    }

    /// The URL by which a managed identity is asked for a token.
    fn question(&self, url: &Url, version: &str) -> Url {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", RESOURCE);
        if let Some(client) = &self.client {
            url.query_pairs_mut().append_pair("client_id", client);
        }
        url
    }
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

fn access_token(told: &Told) -> Result<Secret, CloudError> {
    #[derive(Deserialize)]
    struct Raw {
        access_token: String,
    }
    let Raw { access_token } = told.object("an access token")?;
    Ok(Secret::new(access_token))
}

/// When a JWT ends, in seconds since the epoch. Its signature is the registry's business.
fn expiry(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = read_object(&claims)?;
    Some(exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t150_only_registries_of_azure_get_its_tokens() {
        for host in ["mine.azurecr.io", "mine.azurecr.cn", "mine.azurecr.us:443", "mine-hash.azurecr.io"] {
            assert!(AcrRegistry::knows(host), "{host}");
        }
        for host in ["azurecr.io", ".azurecr.io", "mine.azurecr.io.evil.test", "mineazurecr.io", "mcr.microsoft.com"] {
            assert!(!AcrRegistry::knows(host), "{host}");
        }
        let registry = AcrRegistry::of(&"https://mine.azurecr.io/prefix".parse().unwrap(), &["mine.azurecr.io"]);
        let registry = registry.unwrap();
        assert_eq!(registry.exchange.as_str(), "https://mine.azurecr.io/oauth2/exchange");
    }

    #[test]
    fn the_end_of_a_refresh_token_is_read_from_it() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(&token(r#"{"exp":1700000000}"#)), Some(1_700_000_000));
        for odd in [token("{}"), token("[1]"), "x".to_owned(), "a.b.c".to_owned()] {
            assert_eq!(expiry(&odd), None, "{odd}");
        }
    }
}
