//! Which credentials go up, and where they are read from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secrets::Secrets;
use super::{blob_path, hub};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

/// Pulls from three repositories; who asked for the tokens.
async fn users(lines: &str, auth: TokenAuth) -> Vec<Option<String>> {
    let upstream = Upstream::start().await;
    upstream.token_auth(&auth);
    let mirror = Mirror::start(hub(upstream.url(), &lines.replace("HOST", &upstream.host()))).await;
    for repository in ["org-a/app", "org-a/deep/app", "org-b/app"] {
        let digest = upstream.blob(repository, blob(10, 1));
        assert_eq!(mirror.client().head(&blob_path(repository, &digest)).await.status, 200, "{repository}");
    }
    auth.issued().into_iter().map(|token| token.user).collect()
}

fn logins() -> TokenAuth {
    TokenAuth::new().user("everywhere", "e").user("a", "a").user("deep", "d").login_required()
}

fn names(users: &[&str]) -> Vec<Option<String>> {
    users.iter().map(|user| Some((*user).to_owned())).collect()
}

#[tokio::test]
async fn the_most_specific_credentials_of_a_repository_are_used() {
    let secrets = Secrets::new();
    let rule = |pattern: &str, user: &str, password: &str| {
        format!("[[upstreams.\"docker.io\".credentials]]\nmatch = \"{pattern}\"\n{}", secrets.login(user, password))
    };
    let lines = format!(
        "{}{}{}",
        secrets.login("everywhere", "e"),
        rule("org-a/**", "a", "a"),
        rule("org-a/deep/*", "deep", "d")
    );
    assert_eq!(users(&lines, logins()).await, names(&["a", "deep", "everywhere"]));
}

#[tokio::test]
async fn repositories_without_credentials_are_asked_for_anonymously() {
    let secrets = Secrets::new();
    let lines =
        format!("[[upstreams.\"docker.io\".credentials]]\nmatch = \"org-b/*\"\n{}", secrets.login("everywhere", "e"));
    let auth = TokenAuth::new().user("everywhere", "e");
    assert_eq!(users(&lines, auth).await, [None, None, Some("everywhere".to_owned())]);
}

#[tokio::test]
async fn credentials_are_read_from_a_docker_config() {
    let secrets = Secrets::new();
    let config = |auths: &str| {
        // The upstream's port is known only when it runs: filed under the authority instead.
        let file = secrets.file("config.json", &format!("{{\"auths\":{{{auths}}}}}"));
        format!("docker_config = \"{file}\"\n")
    };
    let encoded = STANDARD.encode("everywhere:e");
    let by_auth = config(&format!("\"https://index.docker.io/v1/\":{{\"auth\":\"{encoded}\"}}"));
    assert_eq!(users(&by_auth, logins()).await, names(&["everywhere"; 3]));
    let by_name = config("\"docker.io\":{\"username\":\"a\",\"password\":\"a\"},\"quay.io\":{\"auth\":\"eDp5\"}");
    assert_eq!(users(&by_name, logins()).await, names(&["a"; 3]));
    let elsewhere = config("\"quay.io\":{\"auth\":\"eDp5\"}");
    assert_eq!(users(&elsewhere, TokenAuth::new()).await, [None, None, None]);
}

#[tokio::test]
async fn credentials_are_asked_of_a_helper_by_the_registrys_name() {
    let secrets = Secrets::new();
    // Tells the name it was asked for, so that the test sees it.
    let log = secrets.path("asked");
    let script = format!(
        "[ \"$1\" = get ] && echo \"$server\" >> {} && echo '{{\"Username\":\"a\",\"Secret\":\"a\"}}'",
        log.display()
    );
    let helper = secrets.helper("docker-credential-test", &script);
    let upstream = Upstream::start().await;
    let auth = logins();
    upstream.token_auth(&auth);
    let digest = upstream.blob("org/app", blob(10, 1));
    let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{helper}\"\n"))).await;
    assert_eq!(mirror.client().head(&blob_path("org/app", &digest)).await.status, 200);
    assert_eq!(auth.issued()[0].user.as_deref(), Some("a"));
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim(), upstream.host());
}

#[tokio::test]
async fn a_helper_that_knows_no_credentials_means_anonymous_and_one_that_fails_is_told() {
    let secrets = Secrets::new();
    let upstream = Upstream::start().await;
    upstream.token_auth(&TokenAuth::new());
    let digest = upstream.blob("org/app", blob(10, 1));
    let path = blob_path("org/app", &digest);
    let unknown = secrets.helper("unknown", "echo 'credentials not found in native keychain'; exit 1");
    let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{unknown}\"\n"))).await;
    assert_eq!(mirror.client().get(&path).await.status, 200);
    let broken = secrets.helper("broken", "echo MARKER-helper; exit 1");
    let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{broken}\"\n"))).await;
    let answer = mirror.client().get(&path).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("did not answer with a user name") && !answer.text().contains("MARKER"));
}

#[tokio::test]
async fn a_helpers_answer_is_used_for_a_while_and_dropped_when_it_is_refused() {
    let secrets = Secrets::new();
    let (password, log) = (secrets.file("password", "first"), secrets.path("runs"));
    let script = format!(
        "echo run >> {}; printf '{{\"Username\":\"AWS\",\"Secret\":\"%s\"}}' \"$(cat {password})\"",
        log.display()
    );
    let helper = secrets.helper("docker-credential-ecr", &script);
    let runs = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let upstream = Upstream::start().await;
    upstream.basic_auth(BasicAuth::new().user("AWS", "first"));
    let digest = upstream.blob("org/app", blob(10, 1));
    let path = blob_path("org/app", &digest);
    let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{helper}\"\n"))).await;
    for _ in 0..5 {
        assert_eq!(mirror.client().head(&path).await.status, 200);
    }
    assert_eq!(runs(), 1);
    // The old one has expired: the same request finds the new one.
    secrets.file("password", "second");
    upstream.basic_auth(BasicAuth::new().user("AWS", "second"));
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!(runs(), 2);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let secrets = Secrets::new();
    let helper = secrets
        .helper("docker-credential-acr", "echo '{\"Username\":\"<token>\",\"Secret\":\"MARKER identity&token\"}'");
    let upstream = Upstream::start().await;
    upstream.token_auth(&TokenAuth::new().accepts_post());
    let digest = upstream.blob("org/app", blob(10, 1));
    let mirror = Mirror::start(hub(upstream.url(), &format!("credential_helper = \"{helper}\"\n"))).await;
    assert_eq!(mirror.client().head(&blob_path("org/app", &digest)).await.status, 200);
    let asked = upstream.requests_of(&tokens());
    assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].query.as_str()), (1, "POST", ""));
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked[0].body).into_owned().collect();
    for expected in [
        ("grant_type", "refresh_token"),
        ("refresh_token", "MARKER identity&token"),
        ("service", "registry.test"),
        ("scope", "repository:org/app:pull"),
    ] {
        assert!(form.iter().any(|(key, value)| (key.as_str(), value.as_str()) == expected), "{expected:?}: {form:?}");
    }
    assert_eq!(asked[0].header("authorization"), None);
}
