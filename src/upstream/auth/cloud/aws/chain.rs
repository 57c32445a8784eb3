//! Where the credentials of AWS come from: the first of environment, web identity, container and instance that is configured.
//! What is configured and fails is told; the next one is not tried, as in the SDKs.

use std::net::IpAddr;
use std::path::PathBuf;

use url::{Host, Url};

use super::registry::EcrRegistry;
use crate::secret::Secret;
use crate::upstream::auth::cloud::variables::{Allowed, CloudVariables, InvalidVariable, Reader, address_of};

const METADATA: &str = "http://169.254.169.254";
const METADATA_V6: &str = "http://[fd00:ec2::254]";
/// What ECS and EKS ask for credentials of containers.
const CONTAINERS: &str = "http://169.254.170.2";
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// How this mirror is signed in to ECR.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct AwsIdentity {
    pub(super) source: Source,
    /// `AWS_ENDPOINT_URL_STS` and the like, in place of the usual hosts.
    pub(super) sts: Option<Url>,
    pub(super) ecr: Option<Url>,
    pub(super) ecr_public: Option<Url>,
    /// The region of STS. Without it, the registry's.
    pub(super) region: Option<String>,
}

/// Long-lived keys, or those of a session.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    pub(super) session: Option<Secret>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Environment(Keys),
    WebIdentity {
        role: String,
        file: PathBuf,
        session: String,
    },
    Container {
        url: Url,
        token: ContainerToken,
    },
    /// The address of the metadata service.
    Instance(Url),
    /// `AWS_EC2_METADATA_DISABLED`, and nothing else.
    Nothing,
}

/// The `Authorization` of a request for a container's credentials.
#[derive(Debug, Clone)]
pub(super) enum ContainerToken {
    None,
    Value(Secret),
    File(PathBuf),
}

impl AwsIdentity {
    pub(in crate::upstream) fn read(variables: &CloudVariables) -> Result<Self, Vec<InvalidVariable>> {
        let reader = Reader::of(variables);
        let source = environment(&reader)
            .or_else(|| web_identity(&reader))
            .or_else(|| container(&reader))
            .unwrap_or_else(|| instance(&reader));
        let endpoint = |name| reader.url(name, Allowed::Private);
        let every = endpoint("AWS_ENDPOINT_URL");
        let region = reader.text("AWS_REGION").or_else(|| reader.text("AWS_DEFAULT_REGION")).map(str::to_owned);
        let is_region = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if region.as_ref().is_some_and(|region| !is_region(region)) {
            reader.problem("AWS_REGION", "must be a region, as in eu-west-1");
        }
        let identity = Self {
            source,
            sts: endpoint("AWS_ENDPOINT_URL_STS").or_else(|| every.clone()),
            ecr: endpoint("AWS_ENDPOINT_URL_ECR").or_else(|| every.clone()),
            ecr_public: endpoint("AWS_ENDPOINT_URL_ECR_PUBLIC").or(every),
            region: region.filter(is_region),
        };
        reader.into_result(identity)
    }

    /// For messages to the operator.
    pub(in crate::upstream) fn name(&self) -> String {
        match &self.source {
            Source::Environment(_) => "the keys in AWS_ACCESS_KEY_ID".to_owned(),
            Source::WebIdentity { role, .. } => format!("the role {role} (web identity)"),
            Source::Container { .. } => "the role of the container (AWS)".to_owned(),
            Source::Instance(_) => "the role of the instance (AWS)".to_owned(),
            Source::Nothing => "no identity (AWS)".to_owned(),
        }
    }

    pub(super) fn sts_for(&self, registry: &EcrRegistry) -> Option<Url> {
        self.sts.clone().or_else(|| registry.sts(self.region.as_deref().unwrap_or(&registry.region)))
    }

    pub(super) fn api_for(&self, registry: &EcrRegistry) -> Option<Url> {
        let configured = if registry.is_public { &self.ecr_public } else { &self.ecr };
        configured.clone().or_else(|| registry.api())
    }
}

fn environment(reader: &Reader<'_>) -> Option<Source> {
    let (id, secret) = (reader.secret("AWS_ACCESS_KEY_ID"), reader.secret("AWS_SECRET_ACCESS_KEY"));
    if id.is_some() != secret.is_some() {
        reader.problem("AWS_ACCESS_KEY_ID", "goes with AWS_SECRET_ACCESS_KEY");
    }
    let session = reader.secret("AWS_SESSION_TOKEN");
    id.zip(secret).map(|(id, secret)| Source::Environment(Keys { id, secret, session }))
}

fn web_identity(reader: &Reader<'_>) -> Option<Source> {
    let (file, role) = (reader.file("AWS_WEB_IDENTITY_TOKEN_FILE"), reader.text("AWS_ROLE_ARN"));
    if file.is_some() && role.is_none() {
        reader.problem("AWS_WEB_IDENTITY_TOKEN_FILE", "goes with AWS_ROLE_ARN");
    }
    let session = reader.text("AWS_ROLE_SESSION_NAME").unwrap_or("roadstead").to_owned();
    file.zip(role).map(|(file, role)| Source::WebIdentity { role: role.to_owned(), file, session })
}

fn container(reader: &Reader<'_>) -> Option<Source> {
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let url = match reader.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        Some(path) if path.starts_with('/') => format!("{CONTAINERS}{path}").parse().ok(),
        Some(_) => {
            reader.problem("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "must begin with /");
            None
        }
        None => {
            let url = reader.url(FULL, Allowed::Metadata)?;
            let is_allowed = gives_credentials(&url);
            if !is_allowed {
                reader.problem(
                    FULL,
                    "must begin with https://, or lead to this machine, 169.254.170.2, 169.254.170.23 or fd00:ec2::23",
                );
            }
            Some(url).filter(|_| is_allowed)
        }
    };
    let file = reader.file("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(ContainerToken::File);
    let value = || reader.secret("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(ContainerToken::Value);
    let token = file.or_else(value).unwrap_or(ContainerToken::None);
    url.map(|url| Source::Container { url, token })
}

/// Whether a container's credentials may be asked for there.
fn gives_credentials(url: &Url) -> bool {
    let is_listed =
        |address: IpAddr| address.is_loopback() || CONTAINER_HOSTS.iter().any(|host| host.parse() == Ok(address));
    url.scheme() == "https" || url.host() == Some(Host::Domain("localhost")) || address_of(url).is_some_and(is_listed)
}

fn instance(reader: &Reader<'_>) -> Source {
    if reader.flag("AWS_EC2_METADATA_DISABLED") {
        return Source::Nothing;
    }
    let mode = reader.text("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").unwrap_or_default();
    let usual = if mode.eq_ignore_ascii_case("ipv6") { METADATA_V6 } else { METADATA };
    let url = reader.url("AWS_EC2_METADATA_SERVICE_ENDPOINT", Allowed::Metadata);
    url.or_else(|| usual.parse().ok()).map_or(Source::Nothing, Source::Instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<AwsIdentity, Vec<InvalidVariable>> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AwsIdentity::read(&CloudVariables::of(&variables))
    }

    #[test]
    fn the_first_source_of_the_chain_that_is_configured_is_used() {
        let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "MARKER")];
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
        let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")];
        let all = [&keys[..], &web[..], &container[..]].concat();
        let name = |variables: &[(&str, &str)]| read(variables).unwrap().name();
        assert!(name(&all).contains("AWS_ACCESS_KEY_ID"));
        assert!(name(&all[2..]).contains("role/r"));
        assert!(name(&all[4..]).contains("container"));
        assert!(name(&[]).contains("instance"));
        assert!(name(&[("AWS_ACCESS_KEY_ID", " "), ("AWS_EC2_METADATA_DISABLED", "true")]).contains("no identity"));
        assert!(!format!("{:?}", read(&all)).contains("MARKER"));
    }

    #[test]
    fn t150_credentials_of_a_container_are_asked_for_nowhere_else() {
        let read = |url: &str| read(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]).is_ok();
        for url in [
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]/x",
            "http://169.254.170.2/x",
            "https://a.test/x",
        ] {
            assert!(read(url), "{url}");
        }
        for url in [
            "http://10.0.0.1/x",
            "http://a.test/x",
            "http://169.254.169.254/x",
            "http://localhost.evil.test/",
            "file:///x",
            "x",
        ] {
            assert!(!read(url), "{url}");
        }
    }

    #[test]
    fn every_variable_that_cannot_be_used_is_named() {
        let invalid = read(&[
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "http://evil.test"),
            ("AWS_ENDPOINT_URL_STS", "http://sts.test"),
            ("AWS_REGION", "a/b"),
        ]);
        let names: Vec<_> = invalid.unwrap_err().into_iter().map(|invalid| invalid.name).collect();
        assert_eq!(
            names,
            [
                "AWS_ACCESS_KEY_ID",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_REGION",
                "AWS_ENDPOINT_URL_STS",
            ]
        );
    }
}
