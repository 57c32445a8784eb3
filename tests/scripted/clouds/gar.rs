//! Google Artifact Registry: the metadata service, the key of a service account, and workload identity federation.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{blob_path, config, default_authority};
use crate::support::cloud::{Answer, Asked, CloudServer};
use crate::support::mirror::{Builder, Mirror};
use crate::support::upstream::*;

const REGISTRY: &str = "europe-docker.pkg.dev";
const TOKEN: &str = "MARKER-ya29";
/// Made for these tests. It opens nothing.
const KEY: &str = include_str!("service_account_key.pem");
const EMAIL: &str = "mirror@project.iam.gserviceaccount.com";

fn token() -> Answer {
    let body = json!({ "access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer" });
    Answer(200, vec![("metadata-flavor", "Google".to_owned())], body.to_string())
}

/// A registry that gives its tokens for an access token.
async fn registry() -> (Upstream, TokenAuth, String) {
    let upstream = Upstream::start().await;
    let auth = TokenAuth::new().user("oauth2accesstoken", TOKEN).login_required();
    upstream.token_auth(&auth);
    let path = blob_path("project/repository/app", &upstream.blob("project/repository/app", blob(1000, 1)));
    (upstream, auth, path)
}

fn mirror(upstream: &Upstream) -> Builder {
    Mirror::builder(config(REGISTRY, &upstream.url(), "auth = \"gar\"")).server(&default_authority(REGISTRY))
}

/// In a file, as `GOOGLE_APPLICATION_CREDENTIALS` names it.
fn filed(directory: &Path, account: &Value) -> String {
    let file = directory.join("account.json");
    std::fs::write(&file, account.to_string()).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn gar_is_signed_in_to_by_the_metadata_service() {
    let (upstream, auth, path) = registry().await;
    let cloud = CloudServer::start(|asked| match (asked.path(), asked.header("metadata-flavor")) {
        ("/computeMetadata/v1/instance/service-accounts/default/token", "Google") => token(),
        _ => Answer::status(403, ""),
    })
    .await;
    let mirror = mirror(&upstream).variable("GCE_METADATA_HOST", cloud.address.to_string()).start().await;
    for _pull in 0..3 {
        assert_eq!(mirror.client().head(&path).await.status, 200);
    }
    assert_eq!((cloud.asked().len(), auth.issued().len()), (1, 1));
    assert_eq!(auth.issued()[0].user.as_deref(), Some("oauth2accesstoken"));
}

/// At another address than in the cloud, anything may answer.
#[tokio::test]
async fn t150_what_is_not_googles_metadata_service_is_not_believed() {
    let (upstream, auth, path) = registry().await;
    let cloud = CloudServer::start(|_| Answer(200, Vec::new(), token().2)).await;
    let mirror = mirror(&upstream).variable("GCE_METADATA_HOST", cloud.address.to_string()).start().await;
    let answer = mirror.client().get(&path).await;
    assert!(
        answer.status == 502 && answer.text().contains("the mark of Google's metadata service"),
        "{}",
        answer.text()
    );
    assert_eq!(auth.failed_logins(), 0);
}

/// Whether a claim is signed by the key, and says what it has to.
fn is_claim(assertion: &str, audience: &str) -> bool {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let decoded = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = (decoded(header), decoded(claims));
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref().to_vec());
    public.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok()
        && (header["alg"] == "RS256" && header["kid"] == "key-1")
        && (claims["iss"] == EMAIL && claims["aud"] == audience)
        && claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() == 3600
}

#[tokio::test]
async fn gar_is_signed_in_to_by_the_key_of_a_service_account() {
    let (upstream, auth, path) = registry().await;
    let cloud = CloudServer::start(|asked| {
        let audience = format!("http://{}/token", asked.header("host"));
        let is_bearer = asked.field("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer";
        if is_bearer && is_claim(&asked.field("assertion"), &audience) {
            token()
        } else {
            Answer::status(400, "{\"error\":\"invalid_grant\"}")
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let account = json!({
        "type": "service_account", "client_email": EMAIL, "private_key_id": "key-1", "private_key": KEY,
        "token_uri": format!("{}/token", cloud.url()), "project_id": "project",
    });
    let file = filed(directory.path(), &account);
    let mirror = mirror(&upstream).variable("GOOGLE_APPLICATION_CREDENTIALS", file).start().await;
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!(auth.issued()[0].user.as_deref(), Some("oauth2accesstoken"));
}

#[tokio::test]
async fn gar_is_signed_in_to_by_workload_identity_federation() {
    let (upstream, auth, path) = registry().await;
    let cloud = CloudServer::start(federation).await;
    let directory = tempfile::tempdir().unwrap();
    let of_kubernetes = directory.path().join("token.json");
    std::fs::write(&of_kubernetes, "{\"id_token\":\"MARKER-kubernetes\"}").unwrap();
    let account = json!({
        "type": "external_account", "audience": "//iam.googleapis.com/pool", "token_url": format!("{}/token", cloud.url()),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "service_account_impersonation_url": format!("{}/impersonate", cloud.url()),
        "credential_source": {
            "file": of_kubernetes, "format": { "type": "json", "subject_token_field_name": "id_token" },
        },
    });
    let file = filed(directory.path(), &account);
    let mirror = mirror(&upstream).variable("GOOGLE_APPLICATION_CREDENTIALS", file).start().await;
    assert_eq!(mirror.client().head(&path).await.status, 200);
    assert_eq!(auth.issued()[0].user.as_deref(), Some("oauth2accesstoken"));
}

fn federation(asked: &Asked) -> Answer {
    match (&asked.method, asked.path()) {
        (&Method::POST, "/token")
            if asked.field("subject_token") == "MARKER-kubernetes"
                && asked.field("audience") == "//iam.googleapis.com/pool"
                && asked.field("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange" =>
        {
            Answer::ok("{\"access_token\":\"MARKER-federated\",\"expires_in\":3600}")
        }
        (&Method::POST, "/impersonate") if asked.header("authorization") == "Bearer MARKER-federated" => {
            Answer::ok(json!({ "accessToken": TOKEN, "expireTime": "2030-01-01T00:00:00Z" }).to_string())
        }
        _ => Answer::status(403, "{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\"}}"),
    }
}

#[tokio::test]
async fn t151_a_file_that_names_a_server_without_tls_is_refused() {
    let (upstream, _auth, path) = registry().await;
    let directory = tempfile::tempdir().unwrap();
    for (account, why) in [
        (
            json!({ "type": "service_account", "client_email": EMAIL, "private_key": KEY, "token_uri": "http://evil.test/" }),
            "not reached by https",
        ),
        (json!({ "type": "authorized_user" }), "has a `type` other than"),
        (json!({ "type": "service_account", "private_key": "MARKER" }), "is not the file of a service account"),
    ] {
        let file = filed(directory.path(), &account);
        let mirror = mirror(&upstream).variable("GOOGLE_APPLICATION_CREDENTIALS", file).start().await;
        let answer = mirror.client().get(&path).await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(why) && !answer.text().contains("MARKER"), "{}", answer.text());
    }
}
