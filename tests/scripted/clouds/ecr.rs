//! ECR: where the credentials come from, and what becomes of them.

use super::aws::{Aws, REGISTRY, ROLE, SECRET, WEB_TOKEN, accepts};
use super::{blob_path, config, default_authority, ready};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn ecr_is_signed_in_to_by_each_source_of_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.display().to_string()
    };
    let (web, container) = (file("web", WEB_TOKEN), file("container", "MARKER-container-token"));
    for source in ["environment", "web identity", "container", "instance"] {
        let (aws, upstream) = (Aws::start().await, Upstream::start().await);
        accepts(&upstream, 1);
        let digest = upstream.blob("team/app", blob(1000, 1));
        let url = aws.server.url();
        let (credentials, metadata) = (format!("{url}/v1/credentials"), url.clone());
        let variables = match source {
            "environment" => vec![("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)],
            "web identity" => vec![("AWS_WEB_IDENTITY_TOKEN_FILE", &*web), ("AWS_ROLE_ARN", ROLE)],
            "container" => vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*credentials),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*container),
            ],
            _ => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata)],
        };
        let mirror = aws.mirror_by(&upstream, &variables).start().await;
        for _pull in 0..5 {
            let answer = mirror.client().head(&blob_path("team/app", &digest)).await;
            assert_eq!(answer.status, 200, "{source}: {}", ready(&mirror).await);
        }
        assert_eq!(aws.given(), 1, "{source}: the token is kept");
        assert_eq!(ready(&mirror).await, "ready\n", "{source}");
    }
}

#[tokio::test]
async fn the_token_of_a_web_identity_is_read_anew_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "an old one").unwrap();
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    accepts(&upstream, 1);
    let digest = upstream.blob("team/app", blob(1000, 1));
    let variables = [("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().unwrap()), ("AWS_ROLE_ARN", ROLE)];
    let mirror = aws.mirror_by(&upstream, &variables).start().await;
    let blob = blob_path("team/app", &digest);
    let refused = mirror.client().get(&blob).await;
    assert_eq!(refused.status, 502);
    assert!(refused.text().contains("AccessDenied") && refused.text().contains("trust policy"), "{}", refused.text());
    std::fs::write(&path, WEB_TOKEN).unwrap();
    mirror.advance(std::time::Duration::from_secs(11));
    assert_eq!(mirror.client().get(&blob).await.status, 200);
}

/// It has a token server, and its logins come from one region.
#[tokio::test]
async fn ecr_public_is_signed_in_to_in_its_own_region() {
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    let auth = TokenAuth::new().user("AWS", "MARKER-password-1").login_required();
    upstream.token_auth(&auth);
    let digest = upstream.blob("docker/library/app", blob(1000, 1));
    let toml = config("public.ecr.aws", &upstream.url(), "auth = \"ecr\"");
    let mirror = Mirror::builder(toml).server(&default_authority("public.ecr.aws"));
    let mirror = mirror.variable("AWS_ENDPOINT_URL", aws.server.url());
    let mirror = mirror.variable("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").variable("AWS_SECRET_ACCESS_KEY", SECRET);
    let mirror = mirror.variable("AWS_REGION", "eu-west-1").start().await;
    assert_eq!(mirror.client().head(&blob_path("docker/library/app", &digest)).await.status, 200);
    assert_eq!(auth.issued()[0].user.as_deref(), Some("AWS"));
    assert_eq!(aws.given(), 1);
}

/// The repository is refused, and the token is right: that is a denial, and costs no further token.
#[tokio::test]
async fn a_repository_that_the_identity_may_not_read_is_a_denial() {
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    upstream.basic_auth(BasicAuth::new().user_of("AWS", "MARKER-password-1", &["team/app"]));
    let (open, closed) = (upstream.blob("team/app", blob(1000, 1)), upstream.blob("team/other", blob(1000, 2)));
    let mirror = aws.mirror(&upstream).start().await;
    assert_eq!(mirror.client().get(&blob_path("team/app", &open)).await.status, 200);
    for _pull in 0..3 {
        assert_eq!(mirror.client().get(&blob_path("team/other", &closed)).await.status, 403);
    }
    assert_eq!(mirror.client().get(&blob_path("team/app", &open)).await.status, 200);
    assert_eq!((aws.given(), ready(&mirror).await.as_str()), (1, "ready\n"));
}

#[tokio::test]
async fn an_identity_that_the_registry_refuses_is_told_with_what_to_do() {
    let (aws, upstream) = (Aws::start().await, Upstream::start().await);
    accepts(&upstream, 99);
    let digest = upstream.blob("team/app", blob(1000, 1));
    let mirror = aws.mirror(&upstream).start().await;
    assert_eq!(mirror.client().get(&blob_path("team/app", &digest)).await.status, 403);
    let ready = ready(&mirror).await;
    assert!(ready.contains(&format!("{REGISTRY} refuses the credentials in the keys in AWS_ACCESS_KEY_ID")), "{ready}");
    assert!(ready.contains("ecr:BatchGetImage"), "{ready}");
}

#[tokio::test]
async fn the_metadata_service_is_asked_directly_and_the_rest_through_the_proxy() {
    // The proxy is a registry that answers for whoever is asked for.
    let (aws, proxy) = (Aws::start().await, Upstream::start().await);
    accepts(&proxy, 1);
    let toml = config(REGISTRY, "http://localhost:1", &format!("auth = \"ecr\"\nproxy = \"{}\"", proxy.url()));
    let mirror = Mirror::builder(toml).server(&default_authority(REGISTRY)).clock(&aws.clock);
    let mirror = mirror.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.server.url());
    let mirror = mirror.variable("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:2").start().await;
    assert_eq!(mirror.client().get(&blob_path("team/app", &sha256(b"x"))).await.status, 502);
    let asked = aws.server.asked();
    assert!(asked.len() == 3 && asked.iter().all(|asked| asked.path().starts_with("/latest/")), "{asked:?}");
    let api = proxy.requests().into_iter().filter(|request| request.method == "POST").count();
    assert_eq!(api, 1);
}
