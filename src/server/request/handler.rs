//! Handles one request: admit, route, resolve the registry, ask the mirror, answer.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::mirror::{Claims, Intent, Mirror, PullError, Target, WhenRationed};
use crate::oci::Authority;

use super::via::hops;
use super::{auth, conditional, self_hosts, via};
use crate::server::access::{Access, ClientCertificate, Connected, Identified, Refusal};
use crate::server::access_log::labels::Labels;
use crate::server::access_log::pulls::Pulls;
use crate::server::access_log::request_id::RequestId;
use crate::server::access_log::{AccessLine, CLIENT_LEFT, Completion, Counts, outcome_name};
use crate::server::request::query::{claims_in, tags_query};
use crate::server::request::route::{Endpoint, Route};
use crate::server::request::route_cache::{RequestKey, ResolvedRequest, RouteCache};
use crate::server::response::answer::{self, Answer, Link};
use crate::server::response::body::Body;
use crate::server::response::cached_headers::CachedHeaders;
use crate::server::response::error::WireError;
use crate::server::response::headers;
use crate::server::stall::StallLimit;
use crate::server::{ListenerSettings, ServerSettings};

/// The public side of the server, shared by all connections.
pub struct PublicSide {
    pub mirror: Arc<Mirror>,
    pub settings: ServerSettings,
    pub metrics: Metrics,
    /// The value of our own `Via`, by which loops are found.
    pub via: Arc<str>,
    counts: Arc<Counts>,
    /// `None`: nobody is asked who it is.
    access: Option<Access>,
    /// `None`: nobody asks who pulls what.
    pulls: Option<Pulls>,
    clock: Clock,
    route_cache: RouteCache,
}

/// One client's connection.
pub(in crate::server) struct ClientConnection {
    pub(in crate::server) public_side: Arc<PublicSide>,
    pub(in crate::server) listener: Arc<ListenerSettings>,
    pub(in crate::server) local: SocketAddr,
    pub(in crate::server) peer: SocketAddr,
    pub(in crate::server) certificate: Option<Arc<ClientCertificate>>,
}

impl PublicSide {
    pub fn new(mirror: Arc<Mirror>, settings: ServerSettings, metrics: Metrics, via: Arc<str>, clock: Clock) -> Self {
        let contents = mirror.cache().index.contents().clone();
        let recent = mirror.cache().context.recent.clone();
        let counts = Arc::new(Counts::new((metrics.clone(), recent), settings.max_requests, contents));
        let access = settings.access.as_ref().map(|access| Access::new(access, &metrics, clock.clone()));
        let pulls = settings.who.map(|who| Pulls::new(who, &metrics));
        Self { mirror, settings, metrics, via, counts, access, pulls, clock, route_cache: RouteCache::default() }
    }

    /// Writes down who pulls what, until the server stops.
    pub async fn record_pulls(self: Arc<Self>) {
        if let Some(pulls) = &self.pulls {
            pulls.run(self.mirror.cache()).await;
        }
    }

    /// How long a client may take nothing.
    pub(in crate::server) fn stall_limit(&self) -> StallLimit {
        StallLimit::new(self.settings.stall_timeout, Arc::clone(&self.counts))
    }
}

/// An answer or an error, with the outcome for the access log.
struct Decided {
    answer: Result<Answer, WireError>,
    outcome: Option<&'static str>,
}

impl Decided {
    fn failed(error: WireError) -> Self {
        Self { answer: Err(error), outcome: None }
    }
}

impl ClientConnection {
    /// Answers a request. A failure is an answer too.
    pub(in crate::server) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, _body) = request.into_parts();
        let is_stream = parts.version == Version::HTTP_2;
        let line = AccessLine {
            request: RequestId::next(),
            client: self.peer.ip(),
            method: parts.method.clone(),
            labels: Labels::unknown(),
            identity: self.certificate.as_ref().map(|certificate| Arc::clone(&certificate.identity)),
            outcome: "error",
            status: CLIENT_LEFT,
            agent: parts.headers.get(USER_AGENT).cloned(),
            error: None,
            remedy: "",
        };
        let mut completion = Completion::new(line, Arc::clone(&self.public_side.counts));
        let key = self.key(&parts);
        let known = self.public_side.route_cache.find(&key);
        // What is in the route cache was asked for by this name before.
        let is_misdirected = known.is_none() && self.is_misdirected(key.host);
        let ns = match &known {
            Some(resolved) => resolved.ns.clone(),
            None if is_misdirected => None,
            None => self.admitted_ns(&parts),
        };
        let decided = if !completion.admit(is_stream) {
            Decided::failed(WireError::busy())
        } else if parts.headers.get_all(HOST).iter().nth(1).is_some() {
            Decided::failed(WireError::several_hosts())
        } else if is_misdirected {
            Decided::failed(WireError::misdirected())
        } else {
            match &self.public_side.access {
                None => self.decide(&parts, &key, known, ns.as_ref(), None, &mut completion.line).await,
                Some(access) => {
                    let line = &mut completion.line;
                    Box::pin(self.decide_for(access, &parts, &key, known, ns.as_ref(), line)).await
                }
            }
        };
        self.finish(decided, ns.as_ref(), &parts.method, completion)
    }

    /// Finds out who the client is, and decides for it.
    async fn decide_for(
        &self,
        access: &Access,
        parts: &Parts,
        key: &RequestKey<'_>,
        known: Option<Arc<ResolvedRequest>>,
        ns: Option<&Authority>,
        line: &mut AccessLine,
    ) -> Decided {
        let origin = || auth::origin(&self.listener, key.host, self.local, parts);
        let identified = access.identify(&parts.headers, self.connected()).await;
        line.identity = identified.as_ref().ok().map(|identified| Arc::clone(&identified.client.name));
        if access.has_token_server() && auth::is_token_path(&self.listener.mounts, parts.uri.path()) {
            line.labels = Labels::token();
            return Decided { answer: auth::token(access, identified, &parts.method, origin), outcome: Some("hit") };
        }
        match identified {
            Ok(identified) => self.decide(parts, key, known, ns, Some((access, &identified)), line).await,
            Err(refusal) => {
                line.labels = Arc::new(Labels::of_path(parts.uri.path()));
                Decided::failed(access.answer(&refusal, &origin()))
            }
        }
    }

    fn connected(&self) -> Connected<'_> {
        Connected { peer: self.peer.ip(), certificate: self.certificate.as_deref() }
    }

    /// Whether a page in a browser on this machine may have sent the request: to a listener on loopback, by a foreign name.
    fn is_misdirected(&self, host: Option<&str>) -> bool {
        let PublicSide { mirror, settings, .. } = &*self.public_side;
        self.listener.address.ip().is_loopback()
            && !self_hosts::may_name_loopback(host, &settings.hostnames, |named| mirror.is_configured(named))
    }

    /// Whether a request to a listener on loopback, by the name of a registry, leads to another one: the owner of that name
    /// may have led a browser here.
    fn is_led_away(&self, claims: &Claims<'_>, target: &Target) -> bool {
        let PublicSide { mirror, settings, .. } = &*self.public_side;
        if !self.listener.address.ip().is_loopback()
            || !self_hosts::names_a_registry(claims.host, &settings.hostnames, |named| mirror.is_configured(named))
        {
            return false;
        }
        let by_host = Claims { host: claims.host, name: claims.name, ..Claims::default() };
        let by_host = mirror.resolve(&by_host, &self.listener.default_authority);
        by_host.is_ok_and(|by_host| by_host.authority != target.authority)
    }

    /// The part of a request that decides its route. In a request for a whole URL, the URL's host replaces `Host`.
    fn key<'a>(&self, parts: &'a Parts) -> RequestKey<'a> {
        let host = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| parts.headers.get(HOST).map(|host| host.to_str().unwrap_or_default()));
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        RequestKey { local: self.local, host, path }
    }

    fn finish(
        &self,
        decided: Decided,
        ns: Option<&Authority>,
        method: &Method,
        mut completion: Completion,
    ) -> Response<Body> {
        let line = &mut completion.line;
        if let Some(outcome) = decided.outcome {
            line.outcome = outcome;
        }
        let response = match decided.answer {
            Ok(answer) => answer.into_response(method),
            Err(error) => {
                line.outcome = if error.remembered { "negative" } else { "error" };
                line.error = Some(error.message.clone());
                line.remedy = error.remedy;
                answer::error(&error, line.request.as_str(), method)
            }
        };
        let (mut parts, body) = response.into_parts();
        headers::request_headers(&mut parts.headers, ns, line.request.as_str());
        if self.public_side.access.is_some() {
            auth::keep_private(&mut parts.headers);
        }
        completion.answered(parts.status.as_u16(), http_body::Body::size_hint(&body).exact().unwrap_or(0));
        Response::from_parts(parts, body.watched(completion))
    }

    async fn decide(
        &self,
        parts: &Parts,
        key: &RequestKey<'_>,
        known: Option<Arc<ResolvedRequest>>,
        ns: Option<&Authority>,
        client: Option<(&Access, &Identified)>,
        line: &mut AccessLine,
    ) -> Decided {
        let hops = hops(&parts.headers);
        if hops.as_deref().is_some_and(|hops| via::is_looped(hops, &self.public_side.via)) {
            return Decided::failed(WireError::looped());
        }
        let resolved = match known {
            Some(resolved) => resolved,
            None => match self.read(parts, key, ns, client, line) {
                Ok(resolved) => resolved,
                Err(decided) => return *decided,
            },
        };
        line.labels = Arc::clone(&resolved.labels);
        if !is_read(&parts.method) {
            return Decided::failed(WireError::method_not_allowed());
        }
        if let Some((access, identified)) = client {
            let ResolvedRequest { route, target, .. } = &*resolved;
            if let Err(refusal) = access.check(identified, self.connected(), target, &route.endpoint) {
                return self.refused(access, &refusal, parts, key);
            }
        }
        let answer = match hops {
            None => self.ask(&resolved.target, &resolved, parts).await,
            via => self.ask(&Target { via, ..resolved.target.clone() }, &resolved, parts).await,
        };
        if let (Some(pulls), Ok(answer), Endpoint::Manifest(reference)) =
            (&self.public_side.pulls, &answer, &resolved.route.endpoint)
            && let Some(digest) = answer.manifest()
        {
            let who = (line.identity.as_ref(), line.client);
            pulls.note((&resolved.target, reference), digest, who, self.public_side.clock.now());
        }
        let outcome = answer.as_ref().ok().map(|answer| outcome_name(answer.provenance().outcome));
        Decided { answer, outcome }
    }

    /// Resolves a request that is not in the route cache. The error is a final answer.
    fn read(
        &self,
        parts: &Parts,
        key: &RequestKey<'_>,
        ns: Option<&Authority>,
        client: Option<(&Access, &Identified)>,
        line: &mut AccessLine,
    ) -> Result<Arc<ResolvedRequest>, Box<Decided>> {
        let failed = |error| Err(Box::new(Decided::failed(error)));
        let (mounts, path) = (self.listener.mounts.as_slice(), parts.uri.path());
        line.labels = Arc::new(Labels::of_path(path));
        let route = match Route::parse(mounts, path, parts.uri.query()) {
            Ok(route) => route,
            // A write is refused by its method on every path under /v2/.
            Err(_) if !is_read(&parts.method) && Route::is_under(mounts, path) => {
                return failed(WireError::method_not_allowed());
            }
            Err(error) => return failed(WireError::of_route(&error)),
        };
        line.labels = Arc::new(Labels::of_route(&route).with_name(&route.name));
        if !is_read(&parts.method) {
            return failed(WireError::method_not_allowed());
        }
        let claims = Claims {
            ns: route.all("ns").collect(),
            oci_ref_name: route.all("oci-ref-name").collect(),
            host: self_hosts::foreign_host(key.host, self.local, &self.public_side.settings.hostnames),
            segment: route.segment.as_deref(),
            name: &route.name,
        };
        if route.endpoint == Endpoint::Ping {
            return match self.public_side.mirror.ping(&claims) {
                Ok(()) => Err(Box::new(match client {
                    Some((access, identified)) if access.challenges_ping(identified) => {
                        self.refused(access, &Refusal::NothingShown, parts, key)
                    }
                    _ => Decided { answer: Ok(Answer::ping()), outcome: Some("hit") },
                })),
                Err(error) => failed(WireError::of_namespace(&error, &route.endpoint)),
            };
        }
        let target = match self.public_side.mirror.resolve(&claims, &self.listener.default_authority) {
            Ok(target) => target,
            Err(error) => return failed(WireError::of_namespace(&error, &route.endpoint)),
        };
        if self.is_led_away(&claims, &target) {
            return failed(WireError::misdirected());
        }
        let label = self.public_side.mirror.label(&target.authority);
        let labels = Arc::new(Labels::of_target(&route, &target, label));
        let resolved =
            Arc::new(ResolvedRequest { route, target, ns: ns.cloned(), labels, ready: CachedHeaders::default() });
        self.public_side.route_cache.keep(key, &resolved);
        Ok(resolved)
    }

    fn refused(&self, access: &Access, refusal: &Refusal, parts: &Parts, key: &RequestKey<'_>) -> Decided {
        Decided::failed(access.answer(refusal, &auth::origin(&self.listener, key.host, self.local, parts)))
    }

    /// The `ns` to echo in every answer, errors included. Only an admitted one is echoed.
    fn admitted_ns(&self, parts: &Parts) -> Option<Authority> {
        let query = Route::pairs(parts.uri.query());
        let ns = query.iter().filter(|(key, _)| key == "ns").map(|(_, value)| value.as_str()).collect();
        self.public_side.mirror.admitted_ns(&Claims { ns, ..Claims::default() }).ok().flatten()
    }

    async fn ask(&self, target: &Target, resolved: &ResolvedRequest, parts: &Parts) -> Result<Answer, WireError> {
        let ResolvedRequest { route, ready, .. } = resolved;
        let mirror = &self.public_side.mirror;
        let failed = |error| {
            let failed = WireError::of_pull(&error, &route.endpoint, &route.asked_of(target));
            match mirror.when_rationed(&target.authority) {
                WhenRationed::Wait => failed,
                WhenRationed::GoElsewhere => failed.sent_elsewhere(),
            }
        };
        match &route.endpoint {
            Endpoint::Ping => Ok(Answer::ping()),
            Endpoint::Manifest(reference) => {
                let no_cache = || conditional::wants_a_check(&parts.headers);
                let by_tag = matches!(reference, crate::oci::Reference::Tag(_));
                let mut manifest = mirror.manifest(target, reference, no_cache).await;
                if !by_tag && manifest.as_ref().is_err_and(PullError::may_be_elsewhere) {
                    for other in mirror.alias_targets(target).await {
                        manifest = mirror.manifest(&other, reference, || false).await.or(manifest);
                    }
                }
                let manifest = manifest.map_err(failed)?;
                answer::manifest(manifest, by_tag, ready, &parts.headers, &parts.method)
            }
            Endpoint::Blob(digest) => {
                let intent = if parts.method == Method::HEAD { Intent::Head } else { Intent::Get };
                let mut blob = mirror.blob(target, *digest, intent).await;
                if blob.as_ref().is_err_and(PullError::may_be_elsewhere) {
                    for other in mirror.alias_targets(target).await {
                        blob = mirror.blob(&other, *digest, intent).await.or(blob);
                    }
                }
                let blob = blob.map_err(failed)?;
                answer::blob(blob, ready, &parts.headers, &parts.method)
            }
            Endpoint::Tags => {
                let query = tags_query(route)?;
                let tags = mirror.tags(target, &query).await.map_err(failed)?;
                let path = format!("{}/v2/{}/tags/list", route.base, route.name);
                let link = Link { path, query: tags.next.clone(), kept: claims_in(route) };
                answer::tags(tags, &target.repository, &link)
            }
            Endpoint::Referrers(digest) => {
                let wanted: Vec<String> = route.all("artifactType").map(str::to_owned).collect();
                let is_filtered = !wanted.is_empty();
                let referrers = mirror.referrers(target, *digest, wanted).await.map_err(failed)?;
                answer::referrers(referrers, is_filtered)
            }
        }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
