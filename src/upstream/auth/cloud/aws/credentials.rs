//! Fetches the credentials of AWS from where the chain says they are.

use std::path::Path;

use http::Method;
use serde::Deserialize;
use url::Url;

use super::chain::{AwsIdentity, ContainerToken, Keys, Source};
use super::registry::EcrRegistry;
use crate::secret::Secret;
use crate::upstream::auth::cloud::ask::{Ask, Asker, Told, Way, element, read_file};
use crate::upstream::auth::cloud::error::CloudError;

const NO_INSTANCE: &str = "is this an instance with a role? For a mirror in a container, the hop limit of the instance's \
                           metadata has to be 2; else set AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, or \
                           AWS_ACCESS_KEY_ID";
const NO_CONTAINER: &str = "see the role of the task, or the association of the pod's service account";
const NO_ROLE: &str = "see the trust policy of the role: it has to name the cluster's issuer, and this service account";
/// How long a token of the metadata service is good. It is used at once.
const METADATA_TOKEN_SECONDS: &str = "60";

impl AwsIdentity {
    /// Keys for one request.
    pub(super) async fn keys(&self, asker: &Asker, registry: &EcrRegistry) -> Result<Keys, CloudError> {
        match &self.source {
            Source::Environment(keys) => Ok(keys.clone()),
            Source::WebIdentity { role, file, session } => {
                let sts = self.sts_for(registry);
                let sts = sts.ok_or_else(|| CloudError::Foreign { registry: registry.region.clone() })?;
                assume(asker, sts, role, file, session).await
            }
            Source::Container { url, token } => of_container(asker, url.clone(), token).await,
            Source::Instance(metadata) => of_instance(asker, metadata).await,
            Source::Nothing => Err(CloudError::BadFile {
                file: "the environment".to_owned(),
                why: "names no credentials, and AWS_EC2_METADATA_DISABLED is set",
            }),
        }
    }
}

/// `AssumeRoleWithWebIdentity`, which needs no signature.
async fn assume(asker: &Asker, sts: Url, role: &str, file: &Path, session: &str) -> Result<Keys, CloudError> {
    let token = read_file(file).await?;
    let ask = Ask::new(Way::Outside, Method::POST, sts, NO_ROLE).form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", session),
        ("WebIdentityToken", token.expose()),
    ]);
    let told = asker.ask(ask).await?;
    let xml = String::from_utf8_lossy(&told.body);
    let field = |name| element(&xml, name).map(Secret::new);
    let keys = || {
        let session = field("SessionToken")?;
        Some(Keys { id: field("AccessKeyId")?, secret: field("SecretAccessKey")?, session: Some(session) })
    };
    keys().ok_or_else(|| told.lacks("credentials"))
}

async fn of_container(asker: &Asker, url: Url, token: &ContainerToken) -> Result<Keys, CloudError> {
    let token = match token {
        ContainerToken::None => None,
        ContainerToken::Value(token) => Some(token.clone()),
        ContainerToken::File(file) => Some(read_file(file).await?),
    };
    let way = if url.scheme() == "https" { Way::Outside } else { Way::Direct };
    let mut ask = Ask::new(way, Method::GET, url, NO_CONTAINER);
    ask.headers.extend(token.map(|token| ("authorization", token)));
    keys_in(&asker.ask(ask).await?)
}

/// Version 2 of the metadata service only: a request without a token, as an open proxy would pass on, gets nothing.
async fn of_instance(asker: &Asker, metadata: &Url) -> Result<Keys, CloudError> {
    let at = |path: &str| {
        let mut url = metadata.clone();
        url.set_path(&format!("{}/latest/{path}", metadata.path().trim_end_matches('/')));
        url
    };
    let token = Ask::new(Way::Direct, Method::PUT, at("api/token"), NO_INSTANCE)
        .header("x-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_SECONDS);
    let told = asker.ask(token).await?;
    let token = std::str::from_utf8(&told.body).ok().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| told.lacks("a token"))?;
    let get = |path: &str| {
        Ask::new(Way::Direct, Method::GET, at(path), NO_INSTANCE).header("x-aws-ec2-metadata-token", token)
    };
    let roles = asker.ask(get("meta-data/iam/security-credentials/")).await?;
    let role = std::str::from_utf8(&roles.body).ok().and_then(|roles| roles.lines().next()).map(str::trim);
    let is_role = |role: &&str| {
        !role.is_empty() && role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte))
    };
    let role = role.filter(is_role).ok_or_else(|| roles.lacks("the name of a role"))?;
    keys_in(&asker.ask(get(&format!("meta-data/iam/security-credentials/{role}"))).await?)
}

fn keys_in(told: &Told) -> Result<Keys, CloudError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        access_key_id: String,
        secret_access_key: String,
        token: Option<String>,
    }
    let raw: Raw = told.object("credentials")?;
    Ok(Keys {
        id: Secret::new(raw.access_key_id),
        secret: Secret::new(raw.secret_access_key),
        session: raw.token.map(Secret::new),
    })
}
