//! The token service's side of the dance.

use http::{Method, StatusCode};
use serde_json::json;

use super::access::{Login, basic};
use super::bytes::Content;
use super::token::{Issued, State, TokenAuth, TokenField};
use crate::support::upstream::observe::record::Recorded;
use crate::support::upstream::server::answer::Answer;
use crate::support::upstream::server::route::query_values;

impl TokenAuth {
    pub(crate) fn issue(&self, request: &Recorded) -> Answer {
        let mut state = self.lock();
        let form = match request.method {
            Method::GET => request.query.clone(),
            Method::POST if state.accepts_post => String::from_utf8_lossy(&request.body).into_owned(),
            _ => return refused(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "ask by GET"),
        };
        if query_values(&form, "service") != [state.service.as_str()] {
            return refused(StatusCode::BAD_REQUEST, "UNKNOWN", "no such service");
        }
        let login = match state.login(request, &form) {
            Ok(login) => login,
            Err(refusal) => return *refusal,
        };
        let repositories = match repositories(&form) {
            Ok(repositories) => repositories,
            Err(refusal) => return *refusal,
        };
        let granted = repositories.into_iter().filter(|name| state.may_pull(login.as_ref(), name)).collect();
        let token = format!("token-{}-of-{}", state.issued.len() + 1, state.service);
        let user = login.map(|login| login.name);
        state.issued.push(Issued { token: token.clone(), user, repositories: granted, expired: false });
        state.grant(&token)
    }
}

impl State {
    fn login(&mut self, request: &Recorded, form: &str) -> Result<Option<Login>, Box<Answer>> {
        let field = |name| query_values(form, name).into_iter().next();
        let in_form = || Some((field("username")?, field("password")?));
        let Some((name, password)) = basic(request).or_else(in_form) else {
            let anonymous = || refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "log in first");
            return if self.login_required { Err(Box::new(anonymous())) } else { Ok(None) };
        };
        let login = self.logins.iter().find(|login| login.name == name && login.password == password);
        if login.is_none() {
            self.failed_logins += 1;
            return Err(Box::new(refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong name or password")));
        }
        Ok(login.cloned())
    }

    fn grant(&self, token: &str) -> Answer {
        let mut body = json!({"padding": "x".repeat(self.padding)});
        if self.field != TokenField::AccessToken {
            body["token"] = token.into();
        }
        if self.field != TokenField::Token {
            body["access_token"] = token.into();
        }
        if let Some(expires_in) = self.expires_in {
            body["expires_in"] = expires_in.into();
        }
        Answer::new(StatusCode::OK, Content::from(body.to_string())).header("content-type", "application/json")
    }
}

/// From `scope=repository:<name>:pull`, repeated or space-joined. To ask for more than `pull` is refused, as ghcr.io
/// does.
fn repositories(form: &str) -> Result<Vec<String>, Box<Answer>> {
    let scopes = query_values(form, "scope");
    let scopes = scopes.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty());
    scopes
        .map(|scope| {
            let rest = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
            match rest {
                Some((name, "pull")) => Ok(name.to_owned()),
                Some(_) | None => Err(Box::new(refused(StatusCode::FORBIDDEN, "DENIED", "not this scope"))),
            }
        })
        .collect()
}

fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::error(status, code, message)
}
