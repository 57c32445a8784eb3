//! A request from arrival to answer, on one page.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::{Answer, Found};
use super::body::Body;
use super::line::{Fate, Line, cut};
use super::route::{Kind, Route};
use super::shared::{Shared, State};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::script::plan::{Cut, Plan, Unknown};

pub(crate) async fn serve(
    shared: Arc<Shared>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let (request, plan, latency) = shared.arrived(head, body, &line);

    if !(plan.delay + latency).is_zero() {
        tokio::time::sleep(plan.delay + latency).await;
    }
    if let Some(gate) = &plan.hold {
        gate.wait().await;
    }
    if let Some(Cut::BeforeHeaders) = plan.cut {
        line.decide(Fate::EndsNow);
        return Err(cut());
    }
    let answer = if let Some(says) = &plan.says {
        line.decide(Fate::Says(says.clone()));
        Answer::new(StatusCode::OK, "".into())
    } else {
        shared.lock().answer(&request, &plan, shared.scheme)
    };

    request.progress.answered(answer.status.as_u16());
    for hook in &plan.hooks {
        hook(&mut shared.lock().contents);
    }
    Ok(answer.into_response(&request, &plan, line))
}

impl Shared {
    /// Records and plans in one breath, so that the order of the record is the order of the script.
    fn arrived(&self, head: Parts, body: Bytes, line: &Line) -> (Recorded, Plan, std::time::Duration) {
        let mut state = self.lock();
        let token_path = state.tokens.as_ref().map_or_else(|| "/token".to_owned(), |tokens| tokens.lock().path.clone());
        let mut request = recorded(head, body, line, &token_path);
        request.authorized = state.guard.admits(&request);
        self.journal.record(request.clone());
        let plan = state.script.plan(&request);
        (request, plan, state.latency)
    }
}

fn recorded(mut head: Parts, body: Bytes, line: &Line, token_path: &str) -> Recorded {
    let route = Route::parse(head.uri.path(), token_path);
    // HTTP/2 has it elsewhere; tests should not need to care.
    if let (None, Some(authority)) = (head.headers.get(HOST), head.uri.authority()) {
        head.headers.insert(HOST, authority.as_str().parse().expect("an authority is a header value"));
    }
    let range = head.headers.get("range").and_then(|range| range.to_str().ok()).map(ToOwned::to_owned);
    Recorded {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        version: head.version,
        headers: head.headers,
        body,
        kind: route.kind,
        repository: route.repository,
        reference: route.reference,
        range,
        at_connection: line.number,
        client_certificate: line.client_certificate,
        authorized: false,
        progress: Arc::default(),
    }
}

impl State {
    fn answer(&mut self, request: &Recorded, plan: &Plan, scheme: &str) -> Answer {
        if let Some(scripted) = &plan.answer {
            return Answer::new(scripted.status, scripted.body.clone());
        }
        if !request.authorized {
            return self.guard.refusal(request, scheme);
        }
        if let (Kind::Token, Some(tokens)) = (request.kind, &self.tokens) {
            return tokens.issue(request);
        }
        let head = request.method == Method::HEAD;
        let thing = (request.repository.clone(), request.reference.clone());
        let found = match (self.contents.look_up(request), plan.unknown) {
            (Ok(_), Unknown::HeadSaysNoUntilGet) if head && !self.fetched.contains(&thing) => {
                return Answer::not_found("BLOB_UNKNOWN");
            }
            (Err(_), Unknown::HeadSaysYes(size)) if head => Found::of_any(request, size),
            (Ok(found), _) => found,
            (Err(answer), _) => return *answer,
        };
        if !head {
            self.fetched.insert(thing);
        }
        found.distorted(&plan.lies).in_answer_to(request, plan.ignores_range)
    }
}
