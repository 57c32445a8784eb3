//! Azure Container Registry: Entra ID gives a token, which the registry exchanges.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::json;

use super::{blob_path, config, default_authority};
use crate::support::cloud::{Answer, Asked, CloudServer};
use crate::support::mirror::{Builder, Mirror};
use crate::support::upstream::*;

const REGISTRY: &str = "mine.azurecr.io";
const ENTRA: &str = "MARKER-entra";

/// Of this registry, until 2100.
fn refresh_token() -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode("{\"exp\":4102444800,\"jti\":\"MARKER\"}"))
}

async fn registry() -> (Upstream, TokenAuth, String) {
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new().user("00000000-0000-0000-0000-000000000000", &refresh_token()).login_required();
    upstream.token_auth(&auth.clone().path("/oauth2/token").service(REGISTRY));
    let is_exchange = |request: &Recorded| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        request.method == Method::POST
            && request.path == "/oauth2/exchange"
            && ["grant_type=access_token", "service=mine.azurecr.io", "access_token=MARKER-entra"]
                .iter()
                .all(|pair| form.split('&').any(|field| field == *pair))
    };
    let answer = json!({ "refresh_token": refresh_token() }).to_string();
    upstream.script(every_request().when(is_exchange).always().body(answer));
    let path = blob_path("team/app", &upstream.blob("team/app", blob(1000, 1)));
    (upstream, auth, path)
}

fn mirror(upstream: &Upstream) -> Builder {
    Mirror::builder(config(REGISTRY, &upstream.url(), "auth = \"acr\"")).server(&default_authority(REGISTRY))
}

fn entra(asked: &Asked) -> Answer {
    let is_right = match (&asked.method, asked.path()) {
        (&Method::POST, "/tenant-1/oauth2/v2.0/token") => {
            asked.field("grant_type") == "client_credentials"
                && asked.field("client_id") == "client-1"
                && asked.field("scope") == "https://containerregistry.azure.net/.default"
                && asked.field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                && asked.field("client_assertion") == "MARKER-federated"
        }
        (&Method::GET, "/metadata/identity/oauth2/token") => {
            asked.header("metadata") == "true"
                && asked.field("resource") == "https://containerregistry.azure.net"
                && asked.field("api-version") == "2018-02-01"
                && asked.field("client_id") == "client-1"
        }
        (&Method::GET, "/msi/token") => asked.header("x-identity-header") == "MARKER-key",
        _ => false,
    };
    if is_right {
        Answer::ok(json!({ "access_token": ENTRA, "expires_in": "3599" }).to_string())
    } else {
        Answer::status(401, "{\"error\":\"invalid_client\",\"error_description\":\"MARKER\"}")
    }
}

#[tokio::test]
async fn acr_is_signed_in_to_by_workload_identity_and_by_managed_identity() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "MARKER-federated\n").unwrap();
    let (cloud, client) = (CloudServer::start(entra).await, ("AZURE_CLIENT_ID", "client-1".to_owned()));
    let federated = vec![
        client.clone(),
        ("AZURE_TENANT_ID", "tenant-1".to_owned()),
        ("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string()),
        ("AZURE_AUTHORITY_HOST", cloud.url()),
    ];
    let machine = vec![client, ("AZURE_POD_IDENTITY_AUTHORITY_HOST", cloud.url())];
    let app =
        vec![("IDENTITY_ENDPOINT", format!("{}/msi/token", cloud.url())), ("IDENTITY_HEADER", "MARKER-key".to_owned())];
    for variables in [federated, machine, app] {
        let (upstream, auth, path) = registry().await;
        let of = variables[variables.len() - 1].0;
        let mirror =
            variables.into_iter().fold(mirror(&upstream), |mirror, (name, value)| mirror.variable(name, value));
        let mirror = mirror.start().await;
        for _pull in 0..3 {
            let answer = mirror.client().head(&path).await;
            assert_eq!(answer.status, 200, "{of}");
        }
        let exchanges = upstream.requests().into_iter().filter(|request| request.path == "/oauth2/exchange").count();
        assert_eq!((exchanges, auth.issued().len()), (1, 1), "{of}");
    }
}

#[tokio::test]
async fn an_identity_that_entra_refuses_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "MARKER-another").unwrap();
    let cloud = CloudServer::start(entra).await;
    let (upstream, auth, path) = registry().await;
    let mirror = mirror(&upstream).variable("AZURE_CLIENT_ID", "client-1").variable("AZURE_TENANT_ID", "tenant-1");
    let mirror = mirror.variable("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string());
    let mirror = mirror.variable("AZURE_AUTHORITY_HOST", cloud.url()).start().await;
    let answer = mirror.client().get(&path).await;
    assert_eq!(answer.status, 502);
    let text = answer.text();
    assert!(
        text.contains("401 invalid_client") && text.contains("federated credential") && !text.contains("MARKER"),
        "{text}"
    );
    assert_eq!((auth.issued().len(), auth.failed_logins()), (0, 0));
}
