//! Several listeners, each with its own TLS, default authority and mount path.

use super::tls::client_of;
use crate::support::client::Client;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

#[tokio::test]
async fn each_listener_has_its_own_tls_default_authority_and_mount() {
    let (hub, quay) = (Upstream::start().await, Upstream::start().await);
    let (first, second) = (image(&[blob(10, 1)]), image(&[blob(10, 2)]));
    hub.publish("org/app", "1", &first);
    hub.tag("org/app", "2", &first.digest);
    quay.publish("org/app", "1", &second);
    quay.tag("org/app", "2", &second.digest);
    let directory = tempfile::tempdir().unwrap();
    let ca = TestCa::new();
    let tls = super::tls::write_identity(&ca, directory.path(), "a");
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[upstreams.\"quay.io\"]\nurl = \"{}\"\n",
        hub.url(),
        quay.url()
    );
    let listeners = format!(
        "[[server.listeners]]\nlisten = \"127.0.0.1:0\"\ndefault_authority = \"quay.io\"\nmount = \"/p/q/\"\n\
         [[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{tls}"
    );
    let mirror = Mirror::builder(toml).server(&listeners).start().await;
    let [plain, mounted, secure] = mirror.addresses()[..] else { panic!("three listeners") };
    let manifest = async |client: Client, path: &str| client.get(path).await;

    assert_eq!(manifest(Client::new(plain), "/v2/org/app/manifests/1").await.body, first.manifest);
    let client = Client::new(mounted);
    assert_eq!(client.get("/p/q/v2/").await.status, 200);
    assert_eq!(client.get("/p/q/v2/org/app/manifests/1").await.body, second.manifest);
    assert_eq!(client.get("/p/q/v2/org/app/manifests/1?ns=docker.io").await.body, first.manifest);
    for elsewhere in ["/v2/", "/v2/org/app/manifests/1", "/p/v2/", "/p/q/r/v2/", "/p/qv2/", "/metrics"] {
        assert_eq!(client.get(elsewhere).await.status, 404, "{elsewhere}");
    }
    let page = client.get("/p/q/v2/org/app/tags/list?n=1").await;
    assert!(page.header("link").starts_with("</p/q/v2/org/app/tags/list?"), "the mount is kept: {:?}", page.headers);

    let secured = client_of(&ca, secure);
    assert_eq!(secured.get("/v2/org/app/manifests/1").await.body, first.manifest);
    assert!(Client::new(secure).try_get("/v2/").await.is_err(), "it speaks TLS only");
}

#[tokio::test]
async fn a_listener_may_have_several_mounts() {
    let hub = Upstream::start().await;
    let app = image(&[blob(10, 1)]);
    hub.publish("org/app", "1", &app);
    hub.tag("org/app", "2", &app.digest);
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", hub.url());
    let mirror = Mirror::builder(toml).server("mount = [\"\", \"/artifactory/api/docker/\"]").start().await;
    let client = mirror.client();
    for base in ["", "/artifactory/api/docker", "/docker.io", "/artifactory/api/docker/docker.io"] {
        assert_eq!(client.get(&format!("{base}/v2/")).await.status, 200, "{base}");
        assert_eq!(client.get(&format!("{base}/v2/org/app/manifests/1")).await.body, app.manifest, "{base}");
        let page = client.get(&format!("{base}/v2/org/app/tags/list?n=1")).await;
        assert!(page.header("link").starts_with(&format!("<{base}/v2/org/app/tags/list?")), "{:?}", page.headers);
    }
    for elsewhere in ["/artifactory/v2/", "/artifactory/api/v2/", "/artifactory/api/docker/x/y/v2/"] {
        assert_eq!(client.get(elsewhere).await.status, 404, "{elsewhere}");
    }
}

#[tokio::test]
async fn without_docker_hub_a_name_that_says_nothing_is_unknown() {
    let quay = Upstream::start().await;
    quay.publish("org/app", "1", &image(&[blob(10, 1)]));
    let mirror = Mirror::of("quay.io", quay.url()).await;
    let answer = mirror.client().get("/v2/org/app/manifests/1").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NAME_UNKNOWN"));
    let toml = format!("[upstreams.\"quay.io\"]\nurl = \"{}\"\n", quay.url());
    let mirror = Mirror::builder(toml).server("default_authority = \"quay.io\"").start().await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    assert_eq!(mirror.client().get("/v2/app/manifests/1").await.status, 404, "library/ is Docker Hub's");
    assert_eq!(quay.requests().last().unwrap().repository.as_deref(), Some("app"));
}

#[tokio::test]
async fn names_of_this_server_are_no_registrys() {
    let (hub, quay) = (Upstream::start().await, Upstream::start().await);
    hub.publish("org/app", "1", &image(&[blob(10, 1)]));
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[upstreams.\"mirror.corp\"]\nurl = \"{}\"\n",
        hub.url(),
        quay.url()
    );
    let get = async |mirror: &Mirror| {
        let headers = [("host", "mirror.corp")];
        mirror.client().send(http::Method::GET, "/v2/org/app/manifests/1", &headers).await.status
    };
    let mirror = Mirror::start(toml.clone()).await;
    assert_eq!(get(&mirror).await, 404, "transparent use: Host names a configured authority");
    let mirror = Mirror::builder(toml).server("hostnames = [\"mirror.corp\"]").start().await;
    assert_eq!(get(&mirror).await, 200, "its own name never matches");
}
