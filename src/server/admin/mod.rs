//! Health, metrics, the API and the page, on a listener of their own and a unix socket.

mod api;
pub(in crate::server) mod listener;
mod socket;
mod ui;
mod webhook;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use bytes::Bytes;

use crate::health::Health;
use crate::jobs::look::UsageReports;
use crate::jobs::{JobRunner, Refused, RefusedCode, StatusReports, VerifyJobs};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::oci::Authority;
use crate::server::ServerSettings;
use crate::server::request::self_hosts::{is_of_another_site, may_name_admin_side};
use crate::telemetry;

use api::{ApiBody, Parts, Route, refuse};
use ui::{Page, Sessions, Site, Visitor, is_same};

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Origin {
    /// The client opened the admin socket, which only its owner can.
    Socket,
    Network,
}

/// Extension of an answer that only somebody with the token, or with the socket, could get.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Authorized;

/// The admin side: health, metrics and the API.
pub struct Admin {
    /// Weak: an open admin connection must not keep the storage open after shutdown.
    mirror: Weak<Mirror>,
    verify_jobs: Arc<VerifyJobs>,
    usage: UsageReports,
    status: StatusReports,
    job_runner: Arc<JobRunner>,
    metrics: Metrics,
    health: Health,
    ready: AtomicBool,
    /// Off loopback, metrics need the token: they name registries and traffic.
    loopback: bool,
    token_file: Option<PathBuf>,
    webhook_token_file: Option<PathBuf>,
    sessions: Sessions,
    hostnames: Vec<Authority>,
}

impl Admin {
    /// Not ready until [`Self::set_ready`].
    pub fn new(
        mirror: &Arc<Mirror>,
        (verify_jobs, job_runner): (Arc<VerifyJobs>, Arc<JobRunner>),
        metrics: Metrics,
        settings: &ServerSettings,
    ) -> Self {
        let loopback = settings.admin_listen.is_none_or(|address| address.ip().is_loopback());
        let (token_file, hostnames) = (settings.admin_token_file.clone(), settings.hostnames.clone());
        let (mirror, health) = (Arc::downgrade(mirror), mirror.cache().context.health.clone());
        Self {
            mirror,
            verify_jobs,
            job_runner,
            usage: UsageReports::default(),
            status: StatusReports::default(),
            sessions: Sessions::default(),
            metrics,
            health,
            ready: AtomicBool::new(false),
            loopback,
            token_file,
            webhook_token_file: settings.webhook_token_file.clone(),
            hostnames,
        }
    }

    /// Sets the answer of `/readyz`. It is off while draining, so that a load balancer goes elsewhere.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(in crate::server) async fn answer(&self, request: Request<Incoming>, origin: Origin) -> Response<ApiBody> {
        if origin == Origin::Network && !self.is_named_by(&request) {
            let message = "the Host header names another server; `server.hostnames` lists the names of this one\n";
            return text(StatusCode::MISDIRECTED_REQUEST, message);
        }
        if request.uri().path().starts_with("/api/v1/") {
            return self.answer_api(request, origin).await;
        }
        if let (webhook::PATH, Some(file)) = (request.uri().path(), &self.webhook_token_file) {
            let Some(mirror) = self.mirror.upgrade() else {
                return refuse(&Refused::new(RefusedCode::Unavailable, "the server is shutting down"));
            };
            return webhook::answer(&mirror, file, request).await.unwrap_or_else(|refused| refuse(&refused));
        }
        if let Some(page) = Page::find(request.uri().path()) {
            return self.answer_page(page, request, origin).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "read only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => {
                let may_see_names = self.may_read(&request, origin).await;
                text(StatusCode::OK, self.readiness(may_see_names))
            }
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n"),
            "/metrics" if self.may_read(&request, origin).await => {
                let dropped = self.metrics.log_lines_dropped.inner();
                dropped.fetch_max(telemetry::dropped_lines(), Ordering::Relaxed);
                let mut response = text(StatusCode::OK, self.metrics.encode());
                let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            "/metrics" => text(
                StatusCode::FORBIDDEN,
                "off loopback, metrics need `Authorization: Bearer` with what is in `server.admin_token_file`\n",
            ),
            _ => text(StatusCode::NOT_FOUND, "the page is at /; /livez, /readyz, /metrics and /api/v1 are here\n"),
        }
    }

    async fn answer_api(&self, request: Request<Incoming>, origin: Origin) -> Response<ApiBody> {
        if origin == Origin::Network && is_of_another_site(request.headers()) {
            return refuse(&Refused::new(RefusedCode::CrossSite, "a page of another site has sent this"));
        }
        let path = request.uri().path().strip_prefix("/api/v1/").unwrap_or_default();
        let (route, id) = match Route::find(request.method(), path) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let may = if route.is_guarded() {
            self.may_change(&request, origin).await
        } else {
            self.may_read(&request, origin).await
        };
        if !may {
            let why =
                "this needs the admin socket, or `Authorization: Bearer` with what is in `server.admin_token_file`";
            let is_missing = !request.headers().contains_key(AUTHORIZATION);
            let code = if is_missing { RefusedCode::Unauthorized } else { RefusedCode::Forbidden };
            return refuse(&Refused::new(code, why));
        }
        let Some(mirror) = self.mirror.upgrade() else {
            return refuse(&Refused::new(RefusedCode::Unavailable, "the server is shutting down"));
        };
        let parts =
            Parts { mirror: &mirror, verify_jobs: &self.verify_jobs, usage: &self.usage, job_runner: &self.job_runner };
        let mut response = route.answer(parts, request, id).await;
        if route.is_guarded() {
            response.extensions_mut().insert(Authorized);
        }
        response
    }

    async fn answer_page(&self, page: Page, request: Request<Incoming>, origin: Origin) -> Response<ApiBody> {
        let Some(mirror) = self.mirror.upgrade() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down\n");
        };
        let token = self.token().await;
        let now = mirror.cache().context.clock.now();
        let has_session = token.as_deref().is_some_and(|token| self.sessions.holds(request.headers(), token, now));
        let has_token = token.as_deref().is_some_and(|token| bears(&request, token));
        let may_change = origin == Origin::Socket || has_token || has_session;
        let visitor = Visitor {
            is_open: self.loopback,
            may_change,
            has_session,
            has_token_to_show: token.is_some(),
            is_remote: origin == Origin::Network,
        };
        let parts =
            Parts { mirror: &mirror, verify_jobs: &self.verify_jobs, usage: &self.usage, job_runner: &self.job_runner };
        let site = Site { parts, status: &self.status, sessions: &self.sessions, token: token.as_deref(), visitor };
        let mut response = ui::answer(site, page, request).await;
        if may_change {
            response.extensions_mut().insert(Authorized);
        }
        response
    }

    /// A page in a browser can lead a name of its own here, and would read what is answered under that name.
    fn is_named_by(&self, request: &Request<Incoming>) -> bool {
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
        let host = request.uri().authority().map(http::uri::Authority::as_str).or(host);
        may_name_admin_side(host, &self.hostnames)
    }

    /// Lists what is degraded, and upstreams that are in trouble. The status stays 200, because pulls are still answered.
    fn readiness(&self, may_see_names: bool) -> String {
        let degraded = self.health.degraded();
        let (logins, parts): (Vec<_>, Vec<_>) = degraded.into_iter().partition(|(part, _)| *part == "upstream");
        let line = |(part, why): (&str, String)| format!("degraded: {part}: {why}\n");
        let troubles = self.mirror.upgrade().map(|mirror| mirror.troubles()).unwrap_or_default();
        // Probes read this without a token, and upstreams are named to nobody else without one.
        let upstreams: Vec<String> = match logins.len() + troubles.len() {
            0 => Vec::new(),
            _ if may_see_names => {
                let troubles = troubles.iter().map(|trouble| format!("upstream: {trouble}\n"));
                logins.into_iter().map(line).chain(troubles).collect()
            }
            count => vec![format!("upstream: {count} in trouble; `roadstead status` names them\n")],
        };
        std::iter::once("ready\n".to_owned()).chain(parts.into_iter().map(line)).chain(upstreams).collect()
    }

    async fn may_read(&self, request: &Request<Incoming>, origin: Origin) -> bool {
        self.loopback || self.may_change(request, origin).await
    }

    async fn may_change(&self, request: &Request<Incoming>, origin: Origin) -> bool {
        origin == Origin::Socket || self.token().await.is_some_and(|token| bears(request, &token))
    }

    /// What `server.admin_token_file` holds now.
    async fn token(&self) -> Option<String> {
        let token = tokio::fs::read_to_string(self.token_file.as_ref()?).await.ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }
}

/// Whether a request has this token in its `Authorization`.
fn bears(request: &Request<Incoming>, token: &str) -> bool {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| is_same(token.as_bytes(), given.trim().as_bytes()))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<ApiBody> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
