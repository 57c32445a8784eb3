//! A plain HTTP client: what a registry's client sends, and whole answers with their headers.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::upstream::TestCa;

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header's value; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("{err}: {:?}", self.body))
    }

    /// `code` of the first error in the spec's shape.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The ranges of a `multipart/byteranges` body: where each begins, and its bytes. It is exactly as long as announced.
    pub(crate) fn parts(&self) -> Vec<(u64, Bytes)> {
        let boundary = self.header("content-type").strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.unwrap_or_else(|| panic!("{} {:?}", self.status, self.headers));
        assert_eq!(self.header("content-length"), self.body.len().to_string());
        let delimiter = format!("--{boundary}");
        let mut rest = self.body.strip_prefix(delimiter.as_bytes()).expect("it begins with a boundary");
        let mut parts = Vec::new();
        while rest != b"--\r\n" {
            let head_end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("the head of a part");
            let head = std::str::from_utf8(&rest[..head_end]).unwrap();
            let (_, range) = head.split_once("Content-Range: bytes ").expect("each part says where it lies");
            let (first, last) = range.split_once('/').unwrap().0.split_once('-').unwrap();
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            let (begin, length) = (head_end + 4, usize::try_from(last + 1 - first).unwrap());
            parts.push((first, Bytes::copy_from_slice(&rest[begin..begin + length])));
            let after = rest[begin + length..].strip_prefix(b"\r\n").expect("a line ends the part");
            rest = after.strip_prefix(delimiter.as_bytes()).expect("a boundary follows");
        }
        parts
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        // No client of a test speaks TLS: reading the system's roots for each would take most of a test's time.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: format!("http://{address}") }
    }

    /// Over TLS, to a server with a certificate of `ca`.
    pub(crate) fn tls(address: SocketAddr, ca: &TestCa) -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let config = rustls::ClientConfig::builder().with_root_certificates(ca.roots()).with_no_client_auth();
        Self::tls_by(address, config)
    }

    /// Over TLS by this configuration.
    pub(crate) fn tls_by(address: SocketAddr, config: rustls::ClientConfig) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { http: http.use_preconfigured_tls(config).build().unwrap(), base: format!("https://{address}") }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[]).await
    }

    /// GET with `Range: bytes=<range>`.
    pub(crate) async fn range(&self, path: &str, range: &str) -> Answer {
        self.send(Method::GET, path, &[("range", &format!("bytes={range}"))]).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_send(method, path, headers).await.unwrap_or_else(|err| panic!("{path}: {err:?}"))
    }

    /// An error where the connection was cut before the answer's end.
    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.try_send(Method::GET, path, &[]).await
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let response = self.open(method, path, headers).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// POST with a body.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap_or_else(|err| panic!("{path}: {err:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap() }
    }

    /// The answer's beginning; its body is read, or not, by the test.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }
}

/// These bytes on a connection of their own, and all that comes back: for what no HTTP library would send.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
