//! All calls of the API in one table: paths, methods, what they take, and who may call them.

use http::header::ALLOW;
use http::{HeaderValue, Method, Response};

use super::error::refuse;
use super::{ApiBody, Call};
use crate::jobs::{Refused, RefusedCode};

/// One call. HEAD is GET without a body.
pub(in crate::server::admin) struct Route {
    /// Behind `/api/v1/`. `{id}` stands for one segment.
    pub(super) path: &'static str,
    pub(super) method: Method,
    pub(super) call: Call,
    /// Keys of its query; one with `*` may be given several times.
    pub(super) query: &'static [&'static str],
    pub(super) takes: Takes,
    /// Whether the token is needed on loopback too.
    pub(super) is_guarded: bool,
}

/// The body that a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::admin) enum Takes {
    Nothing,
    Json,
    /// Bytes of any length.
    Stream,
}

const fn read(path: &'static str, call: Call, query: &'static [&'static str]) -> Route {
    Route { path, method: Method::GET, call, query, takes: Takes::Nothing, is_guarded: false }
}

const fn guarded(
    method: Method,
    path: &'static str,
    call: Call,
    query: &'static [&'static str],
    takes: Takes,
) -> Route {
    Route { path, method, call, query, takes, is_guarded: true }
}

pub(super) const ROUTES: &[Route] = &[
    read("openapi.json", Call::OpenApi, &[]),
    read("status", Call::Status, &[]),
    // A backup names everything that was ever pulled.
    guarded(Method::GET, "backup", Call::Backup, &[], Takes::Nothing),
    read("pins", Call::Pins, &[]),
    guarded(Method::POST, "pins", Call::AddPins, &["pin*"], Takes::Nothing),
    guarded(Method::DELETE, "pins", Call::RemovePins, &["pin*"], Takes::Nothing),
    read("blocks", Call::Blocks, &[]),
    guarded(Method::POST, "blocks", Call::AddBlocks, &["block*", "reason"], Takes::Nothing),
    guarded(Method::DELETE, "blocks", Call::RemoveBlocks, &["block*"], Takes::Nothing),
    read("verify", Call::Verify, &[]),
    guarded(Method::POST, "verify", Call::StartVerify, &["rate"], Takes::Nothing),
    read("lost", Call::Lost, &[]),
    read("repositories", Call::Repositories, &["glob", "contains", "sort", "after", "limit"]),
    read("usage", Call::Usage, &[]),
    read("activity", Call::Activity, &[]),
    read("tags", Call::Tags, &["repository", "glob", "after", "limit"]),
    read("inspect", Call::Inspect, &["reference"]),
    // It names clients.
    guarded(Method::GET, "who", Call::Who, &["reference", "since"], Takes::Nothing),
    // A question that is too long for a query.
    Route {
        path: "coverage",
        method: Method::POST,
        call: Call::Coverage,
        query: &[],
        takes: Takes::Json,
        is_guarded: false,
    },
    guarded(Method::POST, "remove", Call::Remove, &[], Takes::Json),
    guarded(Method::POST, "refresh", Call::Refresh, &[], Takes::Json),
    guarded(Method::POST, "alias", Call::Alias, &[], Takes::Json),
    guarded(Method::POST, "gc", Call::Gc, &[], Takes::Json),
    read("jobs", Call::Jobs, &[]),
    read("jobs/{id}", Call::Job, &["skip", "limit"]),
    guarded(Method::POST, "jobs/{id}/cancel", Call::CancelJob, &[], Takes::Nothing),
    guarded(Method::POST, "warm", Call::Warm, &[], Takes::Json),
    // They give content, and name everything that is held.
    guarded(Method::POST, "export", Call::Export, &[], Takes::Json),
    guarded(Method::GET, "jobs/{id}/parts", Call::ExportPart, &["part"], Takes::Nothing),
    guarded(Method::GET, "jobs/{id}/receipt", Call::ExportReceipt, &[], Takes::Nothing),
    guarded(Method::GET, "inventory", Call::Inventory, &[], Takes::Nothing),
    guarded(Method::POST, "import", Call::Import, &["as"], Takes::Stream),
];

impl Route {
    /// The call of a path behind `/api/v1/`, and what stands for `{id}`. The error is the answer: 404 or 405.
    #[expect(clippy::result_large_err, reason = "it is the answer")]
    pub(in crate::server::admin) fn find(
        method: &Method,
        path: &str,
    ) -> Result<(&'static Self, String), Response<ApiBody>> {
        let fitting = || ROUTES.iter().filter_map(|route| Some((route, route.id_in(path)?)));
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        if let Some(found) = fitting().find(|(route, _)| route.method == *method) {
            return Ok(found);
        }
        let mut allowed: Vec<&str> = fitting().map(|(route, _)| route.method.as_str()).collect();
        if allowed.is_empty() {
            return Err(refuse(&Refused::not_found("there is no such call; /api/v1/openapi.json describes all")));
        }
        if allowed.contains(&"GET") {
            allowed.insert(1, "HEAD");
        }
        let allow = allowed.join(", ");
        let mut refused = refuse(&Refused::new(RefusedCode::MethodNotAllowed, format!("it takes {allow}")));
        refused.headers_mut().extend(HeaderValue::from_str(&allow).ok().map(|allow| (ALLOW, allow)));
        Err(refused)
    }

    fn id_in(&self, path: &str) -> Option<String> {
        match self.path.split_once("{id}") {
            None => (self.path == path).then(String::new),
            Some((before, after)) => {
                let id = path.strip_prefix(before)?.strip_suffix(after)?;
                (!id.is_empty() && !id.contains('/')).then(|| id.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Method, path, keys of the query, whether it takes JSON, whether it needs the token.
    type Call<'a> = (String, String, BTreeSet<&'a str>, bool, bool);

    #[test]
    fn every_call_is_described_and_every_described_call_is_there() {
        let described: Value = serde_json::from_str(super::super::OPEN_API).unwrap();
        let mut calls: BTreeSet<Call<'_>> = BTreeSet::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for (method, call) in methods.as_object().unwrap() {
                let parameters = call["parameters"].as_array();
                let keys = parameters.into_iter().flatten().filter(|key| key["in"] == "query");
                let keys = keys.map(|key| key["name"].as_str().unwrap()).collect();
                let is_guarded = call["security"].as_array().unwrap().len() == 1;
                let takes_json = call.pointer("/requestBody/content/application~1json").is_some();
                calls.insert((
                    method.to_uppercase(),
                    path.trim_start_matches('/').to_owned(),
                    keys,
                    takes_json,
                    is_guarded,
                ));
            }
        }
        let there = ROUTES.iter().map(|route| {
            let keys = route.query.iter().map(|key| key.trim_end_matches('*')).collect();
            let (method, path) = (route.method.to_string(), route.path.to_owned());
            (method, path, keys, route.takes == Takes::Json, route.is_guarded)
        });
        assert_eq!(calls, there.collect());
        let codes = &described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"];
        let names: Vec<&str> = RefusedCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(*codes, serde_json::json!(names));
    }
}
