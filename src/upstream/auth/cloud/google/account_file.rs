//! The file of `GOOGLE_APPLICATION_CREDENTIALS`: the key of a service account, or workload identity federation, by which a
//! token of another issuer is exchanged (AIP-4112, AIP-4117).

use std::path::{Path, PathBuf};

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::signed_claim::signed_claim;
use super::{minted, of_answer};
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::upstream::auth::cloud::ask::{Ask, Asker, Way, read_file};
use crate::upstream::auth::cloud::error::CloudError;
use crate::upstream::auth::cloud::minted::Minted;
use crate::upstream::auth::cloud::variables::may_hear_secrets;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const NO_ACCOUNT: &str =
    "see that the service account is there, that its key is not disabled, and that the clock is right";
const NO_FEDERATION: &str =
    "see the provider of the workload identity pool: its issuer, its audience and its conditions";
const NO_IMPERSONATION: &str = "give the identity the role roles/iam.workloadIdentityUser on the service account";
/// How long an impersonated token is good, if that cannot be read.
const IMPERSONATED_SECONDS: u64 = 3600;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AccountFile {
    ServiceAccount {
        client_email: String,
        private_key_id: Option<String>,
        private_key: String,
        token_uri: String,
    },
    ExternalAccount {
        audience: String,
        subject_token_type: String,
        token_url: String,
        service_account_impersonation_url: Option<String>,
        credential_source: TokenFile,
    },
    #[serde(other)]
    Unknown,
}

/// Where the other issuer's token is.
#[derive(Deserialize)]
pub(super) struct TokenFile {
    file: Option<PathBuf>,
    format: Option<Format>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Format {
    Text,
    Json { subject_token_field_name: String },
}

impl AccountFile {
    pub(super) async fn read(file: &Path) -> Result<Self, CloudError> {
        let text = read_file(file).await?;
        // The parser's message may quote the file, so it is not passed on.
        let parsed = serde_json::from_str(text.expose());
        parsed.map_err(|_syntax| bad(file, "is not the file of a service account, nor of workload identity federation"))
    }

    pub(super) async fn mint(&self, asker: &Asker, file: &Path, now: Timestamp) -> Result<Minted, CloudError> {
        match self {
            Self::ServiceAccount { client_email, private_key_id, private_key, token_uri } => {
                let url = checked(token_uri, file)?;
                let key = (private_key_id.as_deref(), private_key.as_str());
                let claim = signed_claim(client_email, token_uri, SCOPE, key, now);
                let claim = claim.ok_or_else(|| bad(file, "holds no RSA key that can be read"))?;
                let ask = Ask::new(Way::Outside, Method::POST, url, NO_ACCOUNT).form(&[
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", claim.expose()),
                ]);
                of_answer(&asker.ask(ask).await?)
            }
            Self::ExternalAccount {
                audience,
                subject_token_type,
                token_url,
                service_account_impersonation_url,
                credential_source,
            } => {
                let token = credential_source.token(file).await?;
                let ask = Ask::new(Way::Outside, Method::POST, checked(token_url, file)?, NO_FEDERATION).form(&[
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("audience", audience),
                    ("scope", SCOPE),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("subject_token_type", subject_token_type),
                    ("subject_token", token.expose()),
                ]);
                let federated = of_answer(&asker.ask(ask).await?)?;
                match service_account_impersonation_url {
                    Some(url) => impersonate(asker, checked(url, file)?, &federated.password).await,
                    None => Ok(federated),
                }
            }
            Self::Unknown => Err(bad(file, "has a `type` other than \"service_account\" and \"external_account\"")),
        }
    }
}

impl TokenFile {
    async fn token(&self, of: &Path) -> Result<Secret, CloudError> {
        let Some(file) = &self.file else {
            return Err(bad(of, "has a `credential_source` other than a file, which is not supported"));
        };
        let text = read_file(file).await?;
        match &self.format {
            None | Some(Format::Text) => Ok(text),
            Some(Format::Json { subject_token_field_name: name }) => {
                let json: Option<Value> = serde_json::from_str(text.expose()).ok();
                let token = json.as_ref().and_then(|json| json.get(name)?.as_str()).map(Secret::new);
                token.ok_or_else(|| bad(file, "has no token in the field that is configured"))
            }
        }
    }
}

/// A token of the service account that the federated identity may stand for.
async fn impersonate(asker: &Asker, url: Url, federated: &Secret) -> Result<Minted, CloudError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        access_token: String,
    }
    let mut ask = Ask::new(Way::Outside, Method::POST, url, NO_IMPERSONATION)
        .header("authorization", format!("Bearer {}", federated.expose()))
        .header("content-type", "application/json");
    ask.body = format!("{{\"scope\":[\"{SCOPE}\"],\"lifetime\":\"{IMPERSONATED_SECONDS}s\"}}").into_bytes();
    let told = asker.ask(ask).await?;
    let raw: Raw = told.object("an access token")?;
    Ok(minted(raw.access_token, IMPERSONATED_SECONDS))
}

/// A URL of the file, to which secrets go.
fn checked(url: &str, file: &Path) -> Result<Url, CloudError> {
    let url = url.parse().ok().filter(may_hear_secrets);
    url.ok_or_else(|| bad(file, "names a server that is not reached by https"))
}

fn bad(file: &Path, why: &'static str) -> CloudError {
    CloudError::BadFile { file: file.display().to_string(), why }
}
