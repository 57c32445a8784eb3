//! The clouds' own identities, in place of a password: AWS for ECR, Google Cloud for Artifact Registry, Azure for ACR.
//!
//! Nothing is configured but which cloud: the identity is found as the cloud's SDK finds it, from variables that the platform
//! sets ([`CloudVariables`]), else from the machine's metadata service. It is exchanged for a login that is good for hours
//! (`aws`, `google`, `azure`), which is kept in memory and renewed before it ends (`tokens`). Only the servers that the
//! variables or the cloud's documents name are asked, without redirects (`ask`).

mod ask;
mod aws;
mod azure;
mod error;
mod google;
mod minted;
mod troubles;
mod variables;

pub(in crate::upstream) mod tokens;

pub use variables::{CloudVariables, InvalidVariable, may_hear_secrets};

use std::path::PathBuf;
use std::sync::Arc;

use aws::{AwsIdentity, EcrRegistry};
use azure::{AcrRegistry, AzureIdentity};
use google::GoogleIdentity;

/// How a registry of a cloud is signed in to.
#[derive(Debug, Clone)]
pub struct CloudIdentity {
    /// Whose identity it is, for messages to the operator.
    name: Arc<str>,
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    Ecr(Box<AwsIdentity>),
    Gar(GoogleIdentity),
    Acr(AzureIdentity),
}

/// A value of `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Ecr,
    Gar,
    Acr,
}

impl Cloud {
    /// By its name in the configuration.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ecr" => Some(Self::Ecr),
            "gar" => Some(Self::Gar),
            "acr" => Some(Self::Acr),
            _ => None,
        }
    }

    /// Whether a host is a registry of this cloud.
    pub fn knows(self, host: &str) -> bool {
        match self {
            Self::Ecr => EcrRegistry::of(host).is_some(),
            Self::Gar => GoogleIdentity::knows(host),
            Self::Acr => AcrRegistry::knows(host),
        }
    }

    /// The registries of this cloud, for messages.
    pub const fn registries(self) -> &'static str {
        match self {
            Self::Ecr => "ACCOUNT.dkr.ecr.REGION.amazonaws.com and public.ecr.aws",
            Self::Gar => "REGION-docker.pkg.dev and gcr.io",
            Self::Acr => "NAME.azurecr.io",
        }
    }

    /// Finds the identity. All variables that cannot be used are told at once.
    pub fn identity(self, variables: &CloudVariables) -> Result<CloudIdentity, Vec<InvalidVariable>> {
        let (name, source) = match self {
            Self::Ecr => AwsIdentity::read(variables).map(|aws| (aws.name(), Source::Ecr(Box::new(aws))))?,
            Self::Gar => GoogleIdentity::read(variables).map(|google| (google.name(), Source::Gar(google)))?,
            Self::Acr => AzureIdentity::read(variables).map(|azure| (azure.name(), Source::Acr(azure)))?,
        };
        Ok(CloudIdentity { name: name.into(), source: Arc::new(source) })
    }
}

impl CloudIdentity {
    /// For messages to the operator: whose identity it is.
    pub(in crate::upstream) fn name(&self) -> &str {
        &self.name
    }

    /// The file with a key that a server has to be able to read at its start, if any.
    pub fn file(&self) -> Option<&PathBuf> {
        match &*self.source {
            Source::Gar(identity) => identity.file(),
            Source::Ecr(_) | Source::Acr(_) => None,
        }
    }

    /// What an operator can do if the registry refuses the identity.
    pub(in crate::upstream) fn remedy(&self) -> &'static str {
        match &*self.source {
            Source::Ecr(_) => "give it ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on the repositories",
            Source::Gar(_) => "give it the role roles/artifactregistry.reader on the repositories",
            Source::Acr(_) => "give it the role AcrPull on the registry",
        }
    }
}
