//! Certificates of clients: who is let in, who is not, and which rules they match.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{both, login, rule, toml, write_files};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::log::Log;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const APP: &str = "/v2/org/app/manifests/1";

/// A mirror with TLS, and the authority of its clients.
struct Site {
    ca: TestCa,
    clients: TestCa,
    _registry: Upstream,
    mirror: Mirror,
    files: tempfile::TempDir,
}

impl Site {
    /// `mode`: `client_certificates`. `access` is given the directory of the files.
    async fn start(mode: &str, access: impl Fn(&Path) -> String) -> Self {
        let (ca, clients, files) = (TestCa::new(), TestCa::new(), tempfile::tempdir().unwrap());
        let registry = Upstream::start().await;
        registry.publish("org/app", "1", &image(&[blob(100, 1)]));
        registry.publish("library/app", "1", &image(&[blob(100, 2)]));
        write_files(files.path());
        let file = files.path().join("clients.pem");
        clients.write_pem(&file);
        let tls = crate::operations::tls::write_identity(&ca, files.path(), "server");
        let asks = format!(", client_ca = \"{}\", client_certificates = \"{mode}\" }}", file.display());
        let builder = Mirror::builder(toml(&registry, &access(files.path()))).server(&tls.replace(" }", &asks));
        let mirror = builder.look_for_certificates(Duration::from_millis(10)).start().await;
        Self { ca, clients, _registry: registry, mirror, files }
    }

    fn node(&self, name: &str) -> Identity {
        self.clients.client(name)
    }

    fn client(&self, shown: Option<&Identity>) -> Client {
        self.client_by(shown, &[&TLS13, &TLS12])
    }

    fn client_by(&self, shown: Option<&Identity>, versions: &[&'static SupportedProtocolVersion]) -> Client {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(self.ca.roots());
        let config = match shown {
            Some(Identity { certificate: shown, key }) => {
                builder.with_client_auth_cert(vec![certificate(shown)], private_key(key)).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Client::tls_by(self.mirror.address, config)
    }

    /// Whether the handshake, or what comes right behind it, fails.
    async fn turns_away(&self, client: &Client) -> bool {
        client.try_get("/v2/").await.is_err()
    }
}

fn certified(identity: &Identity) -> CertifiedKey {
    let chain = vec![certificate(&identity.certificate)];
    CertifiedKey::from_der(chain, private_key(&identity.key), &ring::default_provider()).unwrap()
}

#[tokio::test]
async fn a_required_certificate_is_the_clients_identity_by_tls_1_2_and_1_3() {
    let log = Log::begin();
    let site = Site::start("required", |_| rule("[\"certificate:*.nodes.corp\"]", "[\"docker.io/org/*\"]", true)).await;
    for version in [&TLS12, &TLS13] {
        let client = site.client_by(Some(&site.node("Node-1.nodes.corp")), &[version]);
        for _twice in 0..2 {
            assert_eq!(client.get(APP).await.status, 200, "{version:?}");
        }
        let refused = client.get("/v2/library/app/manifests/1").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "DENIED"));
        assert!(refused.text().contains("certificate:node-1.nodes.corp may not read it"), "{}", refused.text());
        let other = site.client_by(Some(&site.node("laptop.corp")), &[version]);
        assert_eq!(other.get(APP).await.status, 403);
        assert!(site.turns_away(&site.client_by(None, &[version])).await);
    }
    let counted = |identity: &str, result: &str| {
        let labels = format!("{{identity=\"certificate:{identity}\",result=\"{result}\"}}");
        site.mirror.metric(&format!("roadstead_identity_requests_total{labels}"))
    };
    assert_eq!(counted("node-1.nodes.corp", "allowed"), 4.0);
    assert_eq!((counted("node-1.nodes.corp", "refused"), counted("laptop.corp", "refused")), (2.0, 2.0));
    eventually("requests and the refusal are logged", async || {
        let text = log.text();
        text.contains("\"identity\":\"certificate:node-1.nodes.corp\"")
            && text.contains("`client_certificates` requires one")
    })
    .await;
}

#[tokio::test]
async fn every_name_of_a_certificate_counts() {
    let names = ["certificate:spiffe://corp/ns/a/*", "certificate:*@corp.test", "certificate:build-*"];
    let rules = names.map(|who| rule(&format!("[\"{who}\"]"), "[\"docker.io/**\"]", true)).concat();
    let site = Site::start("required", |_| format!("anonymous = false\n{rules}")).await;
    let issue = |adjust: &dyn Fn(&mut CertificateParams)| site.clients.issue_as(&[], |params| adjust(params));
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let mail = |address: &str| SanType::Rfc822Name(address.try_into().unwrap());
    for (identity, status) in [
        (issue(&|params| params.subject_alt_names.push(uri("spiffe://corp/ns/a/sa/b"))), 200),
        (issue(&|params| params.subject_alt_names.push(uri("spiffe://corp/ns/b/sa/b"))), 403),
        (issue(&|params| params.subject_alt_names.push(mail("ops@corp.test"))), 200),
        (issue(&|params| params.subject_alt_names.push(mail("ops@evil.test"))), 403),
        (issue(&|params| params.distinguished_name.push(DnType::CommonName, "build-7")), 200),
        (issue(&|params| params.distinguished_name.push(DnType::CommonName, "rebuild-7")), 403),
    ] {
        assert_eq!(site.client(Some(&identity)).get(APP).await.status, status);
    }
}

#[tokio::test]
async fn an_optional_certificate_opens_more_and_its_lack_is_no_error() {
    let site = Site::start("optional", |files| {
        both(files)
            + &rule("[\"certificate:*.nodes.corp\", \"user:a\"]", "[\"docker.io/org/*\"]", true)
            + &rule("[\"anonymous\"]", "[\"docker.io/library/*\"]", true)
    })
    .await;
    let (with, without) = (site.client(Some(&site.node("n.nodes.corp"))), site.client(None));
    assert_eq!(with.get(APP).await.status, 200);
    assert_eq!(without.get(APP).await.status, 403);
    assert_eq!(without.get("/v2/app/manifests/1").await.status, 200);
    assert_eq!(with.get("/v2/app/manifests/1").await.status, 403, "who shows a certificate is not anonymous");
    let (a, b) = (login("a"), login("b"));
    for (client, login, status) in [(&without, &a, 200), (&without, &b, 403), (&with, &b, 200)] {
        let answer = client.send(Method::GET, APP, &[("authorization", login)]).await;
        assert_eq!(answer.status, status, "a login is somebody's, and the connection still has its certificate");
    }
}

#[tokio::test]
async fn t140_expired_foreign_and_mismatched_certificates_are_turned_away_by_their_reason() {
    let log = Log::begin();
    let site = Site::start("optional", |_| String::new()).await;
    let client_use = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let dated = |from: i32, until: i32| {
        site.clients.issue_as(&["n.corp"], |params| {
            client_use(params);
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        })
    };
    let foreign = TestCa::new().client("n.corp");
    for (shown, reason) in [
        (dated(2000, 2001), "the client's certificate has expired"),
        (dated(2900, 2901), "the client's certificate is not valid yet"),
        (foreign, "no authority of `client_ca` has signed the client's certificate"),
        (site.clients.server(&["n.corp"]), "the client's certificate is not accepted"),
    ] {
        for version in [&TLS12, &TLS13] {
            assert!(site.turns_away(&site.client_by(Some(&shown), &[version])).await, "{reason}");
        }
        eventually(reason, async || log.text().contains(reason)).await;
    }
    // A good certificate, and the key of another one.
    let key = certified(&site.node("other.corp")).key;
    let stolen = CertifiedKey::new(vec![certificate(&site.node("n.corp").certificate)], key);
    for version in [&TLS12, &TLS13] {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(site.ca.roots());
        let config = builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(stolen.clone()))));
        assert!(site.turns_away(&Client::tls_by(site.mirror.address, config)).await);
    }
    assert_eq!(site.client(Some(&site.node("n.corp"))).get(APP).await.status, 200);
}

/// Shows this, whatever is asked for.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn t140_a_certificate_that_expires_on_a_kept_connection_reads_nothing_more() {
    let site = Site::start("required", |_| String::new()).await;
    let client = site.client(Some(&site.clients.issue_as(&["n.corp"], |params| {
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    })));
    assert_eq!(client.get(APP).await.status, 200);
    site.mirror.advance(Duration::from_hours(100 * 366 * 24));
    let over = client.get(APP).await;
    assert_eq!((over.status, over.code().as_str()), (403, "DENIED"));
    assert!(over.text().contains("has expired"), "{}", over.text());
}

#[tokio::test]
async fn t140_a_new_authority_counts_from_the_next_handshake_on_and_no_session_outlives_the_old_one() {
    let site = Site::start("required", |_| String::new()).await;
    let (old, next) = (site.node("n.corp"), TestCa::new());
    let file = site.files.path().join("clients.pem");
    let shown = next.client("n.corp");
    let before = site.client(Some(&old));
    assert_eq!(before.get(APP).await.status, 200);
    std::fs::write(&file, "no certificate").unwrap();
    assert!(site.turns_away(&site.client(Some(&shown))).await);
    next.write_pem(&file);
    eventually("the new authority counts", async || !site.turns_away(&site.client(Some(&shown))).await).await;
    for version in [&TLS12, &TLS13] {
        assert!(site.turns_away(&site.client_by(Some(&old), &[version])).await);
    }
}

#[tokio::test]
async fn t140_half_open_handshakes_that_never_show_their_certificate_hold_up_nobody() {
    let site = Site::start("required", |_| String::new()).await;
    // The head of a ClientHello, and no more of it.
    let mut stalled = Vec::new();
    for _client in 0..400 {
        let mut stream = TcpStream::connect(site.mirror.address).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(site.client(Some(&site.node("n.corp"))).get(APP).await.status, 200);
    site.mirror.stop().await;
    drop(stalled);
}

#[test]
fn mistakes_about_certificates_of_clients_are_told_by_their_keys() {
    let (ca, files) = (TestCa::new(), tempfile::tempdir().unwrap());
    let tls = crate::operations::tls::write_identity(&ca, files.path(), "server");
    std::fs::write(files.path().join("empty.pem"), "").unwrap();
    let empty = files.path().join("empty.pem");
    for (more, key) in [
        ("client_certificates = \"required\"".to_owned(), "server.tls.client_certificates"),
        ("client_ca = \"/nonexistent/ca.pem\"".to_owned(), "server.tls.client_ca"),
        (format!("client_ca = \"{}\"", empty.display()), "server.tls.client_ca"),
        (format!("client_ca = \"{}\"", files.path().join("server.key").display()), "server.tls.client_ca"),
        (
            format!("client_ca = \"{}\", client_certificates = \"maybe\"", files.path().join("server.pem").display()),
            "server.tls.client_certificates",
        ),
    ] {
        let toml = format!("[server]\n{}\n", tls.replace(" }", &format!(", {more} }}")));
        let problems = roadstead::config::Config::read(Some(&toml), Vec::new()).err().unwrap().0;
        assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key], "{more}");
    }
}
