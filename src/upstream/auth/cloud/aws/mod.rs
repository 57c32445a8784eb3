//! Amazon ECR: credentials of AWS, and a token that they are exchanged for. It is good for 12 hours, as a Basic password.

mod chain;
mod credentials;
mod registry;
mod sigv4;

pub(in crate::upstream) use chain::AwsIdentity;
pub(in crate::upstream) use registry::EcrRegistry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;

use super::ask::{Ask, Asker, Way, life, life_until};
use super::error::CloudError;
use super::minted::Minted;
use crate::clock::Timestamp;
use crate::secret::Secret;
use sigv4::Unsigned;

const NOT_ALLOWED: &str = "see that the clock is right, and that the identity has ecr:GetAuthorizationToken (public.ecr.aws: \
                           ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken)";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// How long a token is good, in seconds, if the answer does not say.
const USUAL_LIFE: u64 = 12 * 3600;

impl AwsIdentity {
    /// `GetAuthorizationToken`, which gives a user name and a password in one.
    pub(super) async fn mint(
        &self,
        asker: &Asker,
        registry: &EcrRegistry,
        now: Timestamp,
    ) -> Result<Minted, CloudError> {
        let keys = self.keys(asker, registry).await?;
        let url = self.api_for(registry).ok_or_else(|| CloudError::Foreign { registry: registry.region.clone() })?;
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let target = if registry.is_public {
            "SpencerFrontendService.GetAuthorizationToken"
        } else {
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
        };
        let body = b"{}";
        let signature = Unsigned {
            method: "POST",
            path: url.path(),
            headers: &[("content-type", CONTENT_TYPE), ("host", &host), ("x-amz-target", target)],
            body,
            region: &registry.region,
            service: registry.service(),
        }
        .signed(&keys, now);
        let mut ask = Ask::new(Way::Outside, Method::POST, url, NOT_ALLOWED)
            .header("content-type", CONTENT_TYPE)
            .header("x-amz-target", target)
            .header("x-amz-date", signature.date)
            .header("authorization", signature.authorization);
        ask.headers.extend(keys.session.map(|token| ("x-amz-security-token", token)));
        ask.body = body.to_vec();
        let told = asker.ask(ask).await?;
        let answer: Answer = told.object("a token")?;
        let data = match answer.authorization_data {
            Data::One(data) => Some(data),
            Data::List(list) => list.into_iter().next(),
        };
        let data = data.ok_or_else(|| told.lacks("a token"))?;
        let pair = STANDARD.decode(&data.authorization_token).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.ok_or_else(|| told.lacks("a token that can be read"))?;
        let (username, password) = pair.split_once(':').ok_or_else(|| told.lacks("a token that can be read"))?;
        Ok(Minted {
            username: username.to_owned(),
            password: Secret::new(password),
            life: data.expires_at.map_or(life(USUAL_LIFE), |until| life_until(seconds(until), now)),
        })
    }
}

/// Whole seconds of a time with a fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` gives the nearest number there is")]
const fn seconds(time: f64) -> u64 {
    time as u64
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Data,
}

/// A list from ECR, one from ECR Public.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    One(Authorization),
    List(Vec<Authorization>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
    /// Seconds since the epoch.
    expires_at: Option<f64>,
}
