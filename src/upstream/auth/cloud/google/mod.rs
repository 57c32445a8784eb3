//! Google Artifact Registry and gcr.io: an OAuth access token of a service account, as a password. From the file that
//! `GOOGLE_APPLICATION_CREDENTIALS` names, else from the metadata service.

mod account_file;
mod signed_claim;

use std::path::PathBuf;

use http::Method;
use serde::Deserialize;
use url::Url;

use super::ask::{Ask, Asker, Told, Way, life};
use super::error::CloudError;
use super::minted::Minted;
use super::variables::{CloudVariables, InvalidVariable, Reader};
use crate::clock::Timestamp;
use crate::secret::Secret;
use account_file::AccountFile;

/// The address, and not a name, so that no name server can send the question elsewhere.
const METADATA: &str = "169.254.169.254";
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The user name that goes with an access token.
const USERNAME: &str = "oauth2accesstoken";
const NO_METADATA: &str = "is this a machine or a pod of Google Cloud with a service account? Else set \
                           GOOGLE_APPLICATION_CREDENTIALS";

/// How this mirror is signed in to registries of Google Cloud.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct GoogleIdentity(Source);

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    /// The URL of the metadata service's token.
    Metadata(Url),
}

impl GoogleIdentity {
    pub(in crate::upstream) fn read(variables: &CloudVariables) -> Result<Self, Vec<InvalidVariable>> {
        let reader = Reader::of(variables);
        let host = reader.text("GCE_METADATA_HOST").unwrap_or(METADATA);
        let metadata = || {
            let url = format!("http://{host}{TOKEN_PATH}").parse::<Url>().ok();
            url.filter(|url| url.path() == TOKEN_PATH && url.username().is_empty()).map(Source::Metadata)
        };
        let source = reader.file("GOOGLE_APPLICATION_CREDENTIALS").map(Source::File).or_else(metadata);
        if source.is_none() {
            reader.problem("GCE_METADATA_HOST", "must be a host, perhaps with a port");
        }
        let identity = Self(source.unwrap_or_else(|| Source::File(PathBuf::new())));
        reader.into_result(identity)
    }

    /// For messages to the operator.
    pub(in crate::upstream) fn name(&self) -> String {
        match &self.0 {
            Source::File(file) => file.display().to_string(),
            Source::Metadata(_) => "the service account of this machine (Google Cloud)".to_owned(),
        }
    }

    /// The file that it is in, if any.
    pub(in crate::upstream) const fn file(&self) -> Option<&PathBuf> {
        match &self.0 {
            Source::File(file) => Some(file),
            Source::Metadata(_) => None,
        }
    }

    /// Whether this is a registry that takes these tokens.
    pub(in crate::upstream) fn knows(host: &str) -> bool {
        let host = host.split(':').next().unwrap_or(host);
        host == "gcr.io"
            || [".gcr.io", ".pkg.dev"]
                .iter()
                .any(|suffix| host.strip_suffix(suffix).is_some_and(|rest| !rest.is_empty()))
    }

    pub(super) async fn mint(&self, asker: &Asker, now: Timestamp) -> Result<Minted, CloudError> {
        match &self.0 {
            Source::File(file) => AccountFile::read(file).await?.mint(asker, file, now).await,
            Source::Metadata(url) => {
                let ask = Ask::new(Way::Direct, Method::GET, url.clone(), NO_METADATA);
                let told = asker.ask(ask.header("metadata-flavor", "Google")).await?;
                // Anything may answer at this address where there is no metadata service.
                if told.headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
                    return Err(told.lacks("the mark of Google's metadata service"));
                }
                of_answer(&told)
            }
        }
    }
}

/// The access token of an OAuth answer.
fn of_answer(told: &Told) -> Result<Minted, CloudError> {
    #[derive(Deserialize)]
    struct Raw {
        access_token: String,
        expires_in: Option<u64>,
    }
    let raw: Raw = told.object("an access token")?;
    Ok(minted(raw.access_token, raw.expires_in.unwrap_or(0)))
}

fn minted(token: String, seconds: u64) -> Minted {
    Minted { username: USERNAME.to_owned(), password: Secret::new(token), life: life(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t150_only_registries_of_google_get_its_tokens() {
        for host in ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev", "us-docker.pkg.dev:443"] {
            assert!(GoogleIdentity::knows(host), "{host}");
        }
        for host in ["evilgcr.io", ".pkg.dev", "pkg.dev", "gcr.io.evil.test", "k8s.io"] {
            assert!(!GoogleIdentity::knows(host), "{host}");
        }
        let read = |host: &str| {
            GoogleIdentity::read(&CloudVariables::of(&[("GCE_METADATA_HOST".to_owned(), host.to_owned())])).is_ok()
        };
        assert!(read("127.0.0.1:80") && read("metadata.google.internal"));
        assert!(!read("a.test/path?x=") && !read("user@a.test") && !read("a b"));
    }
}
