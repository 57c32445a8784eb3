//! Credentials from files and helpers, read at each login.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::secret::Secret;

use crate::upstream::settings::CredentialSource;

/// The credentials of one login.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::upstream) enum Login {
    Password {
        username: String,
        password: Secret,
    },
    /// An identity token of a credential helper, exchanged for an access token by POST.
    IdentityToken(Secret),
}

/// Largest credential file or helper answer, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum CredentialError {
    #[error("cannot read {file}: {err}")]
    Unreadable { file: String, err: std::io::Error },
    #[error("{0} is not a docker config.json that can be read")]
    NotDockerConfig(String),
    #[error("{0} did not answer with a user name and a secret")]
    Helper(String),
}

impl Login {
    /// The value of a Basic `Authorization` header.
    pub(in crate::upstream) fn basic(&self) -> Option<Secret> {
        match self {
            Self::Password { username, password } => {
                Some(Secret::new(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose())))))
            }
            Self::IdentityToken(_) => None,
        }
    }

    fn new(username: String, secret: String) -> Self {
        // Docker's convention for "this is an identity token".
        if username == "<token>" {
            Self::IdentityToken(Secret::new(secret))
        } else {
            Self::Password { username, password: Secret::new(secret) }
        }
    }
}

impl CredentialSource {
    /// For messages to the operator: the file, or the helper.
    pub(in crate::upstream) fn name(&self) -> String {
        match self {
            Self::PasswordFile { file, .. } | Self::DockerConfig(file) => file.display().to_string(),
            Self::Helper(program) => format!("the helper {program}"),
            Self::Cloud(identity) => identity.name().to_owned(),
        }
    }

    /// What an operator can do if they are refused.
    pub(in crate::upstream) fn remedy(&self) -> &'static str {
        match self {
            Self::PasswordFile { .. } | Self::DockerConfig(_) | Self::Helper(_) => {
                "put them right, they are read again at the next login"
            }
            Self::Cloud(identity) => identity.remedy(),
        }
    }

    /// Reads the login. `names` are the registry's possible keys in a docker config: the endpoint's host, the authority.
    /// `None` means anonymous. The error holds no secret.
    pub(in crate::upstream) async fn login(&self, names: &[&str]) -> Result<Option<Login>, CredentialError> {
        match self {
            Self::PasswordFile { username, file } => {
                let password = read(file).await?;
                let password = password.strip_suffix('\n').unwrap_or(&password);
                let password = password.strip_suffix('\r').unwrap_or(password);
                Ok(Some(Login::Password { username: username.clone(), password: Secret::new(password) }))
            }
            Self::DockerConfig(file) => from_docker_config(file, names).await,
            Self::Helper(program) => {
                let name = names.first().copied().unwrap_or_default();
                from_helper(program, name).await
            }
            // They are fetched, and kept: `super::cloud::tokens`.
            Self::Cloud(_) => Ok(None),
        }
    }
}

async fn read(file: &Path) -> Result<String, CredentialError> {
    let unreadable = |err| CredentialError::Unreadable { file: file.display().to_string(), err };
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let mut text = String::new();
    opened.take(MAX_BYTES).read_to_string(&mut text).await.map_err(unreadable)?;
    Ok(text)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "identitytoken")]
    identity_token: Option<String>,
}

impl DockerAuth {
    fn login(&self) -> Option<Login> {
        if let Some(token) = self.identity_token.as_ref().filter(|token| !token.is_empty()) {
            return Some(Login::IdentityToken(Secret::new(token)));
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Some(Login::new(username.clone(), password.clone()));
        }
        let decoded = String::from_utf8(STANDARD.decode(self.auth.as_ref()?).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        Some(Login::new(username.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

async fn from_docker_config(file: &Path, names: &[&str]) -> Result<Option<Login>, CredentialError> {
    let text = read(file).await?;
    // The parser's message may quote the file, so it is not passed on.
    let config: DockerConfig =
        serde_json::from_str(&text).map_err(|_syntax| CredentialError::NotDockerConfig(file.display().to_string()))?;
    for name in names {
        let helper = config.cred_helpers.iter().find(|(key, _)| docker_key_host(key) == docker_key_host(name));
        if let Some((_, helper)) = helper {
            return from_helper(helper, name).await;
        }
    }
    let filed = |name: &&str| config.auths.iter().find(|(key, _)| docker_key_host(key) == docker_key_host(name));
    if let Some(login) = names.iter().find_map(filed).and_then(|(_, auth)| auth.login()) {
        return Ok(Some(login));
    }
    match (&config.creds_store, names.first()) {
        (Some(store), Some(name)) => from_helper(store, name).await,
        _ => Ok(None),
    }
}

/// Keys of `auths` are hosts, or URLs as in `https://index.docker.io/v1/`.
fn docker_key_host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match key.split('/').next().unwrap_or(key) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// `None` if the helper has no credentials for the registry, which is then asked anonymously.
async fn from_helper(program: &str, name: &str) -> Result<Option<Login>, CredentialError> {
    let program = if program.contains('/') { program.to_owned() } else { format!("docker-credential-{program}") };
    let failed = || CredentialError::Helper(program.clone());
    let run = async {
        let mut child = tokio::process::Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        // `docker login` stores Docker Hub under this name.
        let name = if docker_key_host(name) == "docker.io" { "https://index.docker.io/v1/" } else { name };
        // A helper for one registry may exit without reading its input.
        let _not_read = child.stdin.take()?.write_all(name.as_bytes()).await;
        let mut answer = Vec::new();
        child.stdout.take()?.take(MAX_BYTES).read_to_end(&mut answer).await.ok()?;
        let status = child.wait().await.ok()?;
        Some((status.success(), answer))
    };
    let answer = tokio::time::timeout(HELPER_TIMEOUT, run).await.ok().flatten();
    let (succeeded, answer) = answer.ok_or_else(failed)?;
    if !succeeded {
        // This text is part of the protocol (docker-credential-helpers, `credentials.NewErrCredentialsNotFound`).
        let unknown = String::from_utf8_lossy(&answer).contains("credentials not found");
        return if unknown { Ok(None) } else { Err(failed()) };
    }
    let answer: HelperAnswer = serde_json::from_slice(&answer).map_err(|_syntax| failed())?;
    Ok(Some(Login::new(answer.username, answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_docker_config_is_read_by_host_and_by_url() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let auth = STANDARD.encode("robot:pa:ss");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"acr.test":{{"identitytoken":"t"}}}}}}"#
        );
        std::fs::write(&file, text).unwrap();
        let source = CredentialSource::DockerConfig(file);
        let login = source.login(&["registry-1.docker.io", "docker.io"]).await.unwrap();
        let expected = Login::Password { username: "robot".to_owned(), password: Secret::new("pa:ss") };
        assert_eq!(login, Some(expected));
        let token = source.login(&["acr.test"]).await.unwrap();
        assert_eq!(token, Some(Login::IdentityToken(Secret::new("t"))));
        assert_eq!(source.login(&["other.test"]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_credential_helper_is_asked_by_the_docker_protocol() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread name || true\n[ \"$1\" = get ] && printf '{\"ServerURL\":\"%s\",\"Username\":\"%s\",\"Secret\":\"s\"}' \"$name\" \"$name\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let source = CredentialSource::Helper(program.display().to_string());
        let login = source.login(&["ecr.test"]).await.unwrap();
        assert_eq!(login, Some(Login::Password { username: "ecr.test".to_owned(), password: Secret::new("s") }));
    }
}
