//! The services of AWS that sign a mirror in to ECR: STS, the metadata of instances, the credentials of containers, ECR itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use roadstead::clock::Clock;
use serde_json::json;

use super::signature::is_signed;
use super::{config, default_authority};
use crate::support::cloud::{Answer, Asked, CloudServer};
use crate::support::mirror::{Builder, Mirror};
use crate::support::upstream::*;

pub(super) const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
pub(super) const ROLE: &str = "arn:aws:iam::123456789012:role/mirror";
pub(super) const SECRET: &str = "MARKER-secret-key";
pub(super) const SESSION: &str = "MARKER-session";
pub(super) const WEB_TOKEN: &str = "MARKER-web-token";
const HOURS_12: u64 = 12 * 3600;

/// All of them, at one address.
pub(super) struct Aws {
    pub(super) server: CloudServer,
    pub(super) clock: Clock,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    given: AtomicUsize,
    /// The status of all answers, if not 0.
    status: AtomicUsize,
}

impl Aws {
    pub(super) async fn start() -> Self {
        let (clock, state) = (Clock::default(), Arc::<State>::default());
        let (of_server, shared) = (clock.clone(), Arc::clone(&state));
        let server = CloudServer::start(move |asked| shared.answer(asked, &of_server)).await;
        Self { server, clock, state }
    }

    /// How many logins it has given: `AWS` with the password `MARKER-password-1`, and so on.
    pub(super) fn given(&self) -> usize {
        self.state.given.load(Ordering::SeqCst)
    }

    /// Everything is answered with this status; 0 for what is right.
    pub(super) fn fail(&self, status: usize) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// How often ECR was asked.
    pub(super) fn asked_for_tokens(&self) -> usize {
        self.server.asked().iter().filter(|asked| !asked.header("x-amz-target").is_empty()).count()
    }

    /// A mirror of this registry, signed in by keys in its environment.
    pub(super) fn mirror(&self, upstream: &Upstream) -> Builder {
        self.mirror_by(upstream, &[("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)])
    }

    pub(super) fn mirror_by(&self, upstream: &Upstream, variables: &[(&str, &str)]) -> Builder {
        let toml = config(REGISTRY, &upstream.url(), "auth = \"ecr\"\ntag_ttl = \"1m\"");
        let builder = Mirror::builder(toml).server(&default_authority(REGISTRY)).clock(&self.clock);
        let builder = builder.variable("AWS_ENDPOINT_URL", self.server.url());
        variables.iter().fold(builder, |builder, (name, value)| builder.variable(name, *value))
    }
}

/// The registry accepts the n-th login that was given.
pub(super) fn accepts(upstream: &Upstream, nth: usize) {
    upstream.basic_auth(BasicAuth::new().user("AWS", &format!("MARKER-password-{nth}")));
}

impl State {
    fn answer(&self, asked: &Asked, clock: &Clock) -> Answer {
        match u16::try_from(self.status.load(Ordering::SeqCst)).unwrap() {
            0 => {}
            status => {
                let echo = format!(
                    "{{\"__type\":\"AccessDeniedException\",\"message\":\"{}\"}}",
                    asked.header("authorization")
                );
                return Answer::status(status, echo);
            }
        }
        match (&asked.method, asked.path()) {
            (&Method::POST, "/") if asked.header("x-amz-target").is_empty() => assume(asked),
            (&Method::POST, "/") => self.give(asked, clock),
            (&Method::PUT, "/latest/api/token") => match asked.header("x-aws-ec2-metadata-token-ttl-seconds") {
                "" => Answer::status(400, ""),
                _ => Answer::ok("MARKER-metadata-token"),
            },
            (&Method::GET, path) if path.starts_with("/latest/") => metadata(asked, path),
            (&Method::GET, "/v1/credentials") => match asked.header("authorization") {
                "MARKER-container-token" => credentials(),
                _ => Answer::status(401, ""),
            },
            _ => Answer::status(404, ""),
        }
    }

    /// `GetAuthorizationToken`.
    fn give(&self, asked: &Asked, clock: &Clock) -> Answer {
        let is_public = match asked.header("x-amz-target") {
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" => false,
            "SpencerFrontendService.GetAuthorizationToken" => true,
            other => {
                return Answer::status(400, format!("{{\"__type\":\"UnknownOperation\",\"message\":\"{other}\"}}"));
            }
        };
        let scope = if is_public { "/us-east-1/ecr-public/aws4_request" } else { "/eu-west-1/ecr/aws4_request" };
        let session = asked.header("x-amz-security-token");
        let is_right = is_signed(asked, SECRET)
            && asked.header("authorization").contains(scope)
            && (session.is_empty() || session == SESSION)
            && asked.header("content-type") == "application/x-amz-json-1.1";
        if !is_right {
            return Answer::status(403, "{\"__type\":\"InvalidSignatureException\"}");
        }
        let nth = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        let token = STANDARD.encode(format!("AWS:MARKER-password-{nth}"));
        let until = (clock.now().as_millis() / 1000 + HOURS_12) as f64 + 0.5;
        let data = json!({ "authorizationToken": token, "expiresAt": until });
        let data = if is_public { data } else { json!([data]) };
        Answer::ok(json!({ "authorizationData": data }).to_string())
    }
}

fn assume(asked: &Asked) -> Answer {
    let is_right = asked.field("Action") == "AssumeRoleWithWebIdentity"
        && asked.field("Version") == "2011-06-15"
        && asked.field("RoleArn") == ROLE
        && !asked.field("RoleSessionName").is_empty()
        && asked.field("WebIdentityToken") == WEB_TOKEN;
    if !is_right {
        return Answer::status(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>");
    }
    Answer::ok(format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\n\
         <Credentials><SessionToken>{SESSION}</SessionToken><SecretAccessKey>{SECRET}</SecretAccessKey>\n\
         <Expiration>2030-01-01T00:00:00Z</Expiration><AccessKeyId>ASIAEXAMPLE</AccessKeyId></Credentials>\n\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    ))
}

fn metadata(asked: &Asked, path: &str) -> Answer {
    match path {
        _ if asked.header("x-aws-ec2-metadata-token") != "MARKER-metadata-token" => Answer::status(401, ""),
        "/latest/meta-data/iam/security-credentials/" => Answer::ok("mirror-role\n"),
        "/latest/meta-data/iam/security-credentials/mirror-role" => credentials(),
        _ => Answer::status(404, ""),
    }
}

fn credentials() -> Answer {
    let keys = json!({
        "Code": "Success", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": SECRET, "Token": SESSION,
        "Expiration": "2030-01-01T00:00:00Z",
    });
    Answer::ok(keys.to_string())
}
