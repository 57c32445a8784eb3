//! The page: what the API answers, as HTML for people. It computes nothing of its own: what it shows and does comes from
//! [`crate::jobs`], as the API's answers do. No script; what comes from outside is escaped by `maud`, which writes every value.

mod form;
mod frame;
mod respond;
mod route;
mod session;
mod table;
mod text;
mod views;

use http::header::ORIGIN;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::cache::scrub::Rate;
use crate::clock::Timestamp;
use crate::jobs::look::{self, PageQuery, Selection, Sort};
use crate::jobs::{self, Refused, RefusedCode, StatusReports, change};
use crate::oci::{ImageName, Named};
use crate::server::admin::api::{ApiBody, Parts, status_of};
use crate::server::request::self_hosts::{is_of_another_site, is_sent_by_own_page};

use form::Form;
use frame::{View, frame};
pub(in crate::server::admin) use route::Page;
use route::{Act, Shown};
pub(in crate::server::admin) use session::{Sessions, Visitor, is_same};
use text::{image_link, link};
use views::{image, overview, pins, refreshed, repositories, repository, sign_in};

/// What pages are made from.
pub(in crate::server::admin) struct Site<'a> {
    pub(in crate::server::admin) parts: Parts<'a>,
    pub(in crate::server::admin) status: &'a StatusReports,
    pub(in crate::server::admin) sessions: &'a Sessions,
    /// What opens a session; `None` without one.
    pub(in crate::server::admin) token: Option<&'a str>,
    pub(in crate::server::admin) visitor: Visitor,
}

/// What becomes of a request: something to show, or another page to go to.
enum Outcome {
    Show(View),
    See(String),
}

/// The answer of a page.
pub(in crate::server::admin) async fn answer(
    site: Site<'_>,
    page: Page,
    request: Request<Incoming>,
) -> Response<ApiBody> {
    let methods = page.methods();
    if !methods.split(", ").any(|method| method == request.method().as_str()) {
        return respond::method_not_allowed(methods);
    }
    let (visitor, is_change) = (site.visitor, *request.method() == Method::POST);
    // A link on another site may lead here; nothing else of one does (T132).
    let is_foreign = if is_change { !is_sent_by_own_page(request.headers()) } else { is_embedded(request.headers()) };
    if visitor.is_remote && is_foreign {
        return refusal(visitor, &Refused::new(RefusedCode::CrossSite, "a page of another site has sent this"));
    }
    let query = Query::of(&request);
    let made = match page {
        Page::Style => return respond::asset("text/css; charset=utf-8", include_str!("assets/page.css")),
        Page::Icon => return respond::asset("image/svg+xml", include_str!("assets/icon.svg")),
        Page::SignIn if is_change => return sign_in(&site, request).await,
        Page::SignIn => {
            let view = sign_in::sign_in(site.token.is_some(), query.text("next"), None);
            return respond::page(StatusCode::OK, frame(visitor, &view, ""));
        }
        Page::SignOut => {
            let cookie = visitor.has_session.then(|| site.sessions.end_all());
            return respond::see("/", cookie.as_deref());
        }
        Page::Shows(_) if !visitor.may_read() => {
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            return respond::see(&link("/sign-in", &[("next", target)]), None);
        }
        Page::Shows(shown) => show(&site, shown, &query).await,
        Page::Does(_) if !visitor.may_change => {
            Err(Refused::new(RefusedCode::Forbidden, "this needs a session: sign in with the token"))
        }
        Page::Does(act) => change(&site, act, request).await,
    };
    match made {
        Ok(Outcome::Show(view)) => respond::page(StatusCode::OK, frame(visitor, &view, query.text("q"))),
        Ok(Outcome::See(location)) => respond::see(&location, None),
        Err(refused) => refusal(visitor, &refused),
    }
}

/// Whether another site has a browser load this into its own page.
fn is_embedded(headers: &HeaderMap) -> bool {
    let is_navigation = headers.get("sec-fetch-mode").is_some_and(|mode| mode.as_bytes() == b"navigate");
    is_of_another_site(headers) && !is_navigation
}

fn refusal(visitor: Visitor, refused: &Refused) -> Response<ApiBody> {
    let title = match refused.code {
        RefusedCode::NotFound | RefusedCode::UnknownRegistry => "Not held",
        RefusedCode::Forbidden | RefusedCode::Unauthorized | RefusedCode::CrossSite => "Not allowed",
        RefusedCode::Unavailable => "Not now",
        RefusedCode::Invalid
        | RefusedCode::MethodNotAllowed
        | RefusedCode::Ambiguous
        | RefusedCode::Conflict
        | RefusedCode::Pinned
        | RefusedCode::TooLarge
        | RefusedCode::UnsupportedMediaType => "Not possible",
    };
    respond::page(status_of(refused.code), frame(visitor, &sign_in::refused(title, &refused.message), ""))
}

async fn sign_in(site: &Site<'_>, request: Request<Incoming>) -> Response<ApiBody> {
    // A proxy in front of this server has a certificate: only the browser knows.
    let by_tls = request.headers().get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let form = match Form::read(request).await {
        Ok(form) => form,
        Err(refused) => return refusal(site.visitor, &refused),
    };
    let next = form.field("next");
    if let Some(token) = site.token.filter(|token| is_same(token.as_bytes(), form.field("token").as_bytes())) {
        let cookie = site.sessions.begin(token, now(site), by_tls);
        return respond::see(if Page::is_shown_at(next) { next } else { "/" }, Some(&cookie));
    }
    let view = sign_in::sign_in(site.token.is_some(), next, Some("This is not the token."));
    respond::page(StatusCode::FORBIDDEN, frame(site.visitor, &view, ""))
}

fn now(site: &Site<'_>) -> Timestamp {
    site.parts.mirror.cache().context.clock.now()
}

async fn show(site: &Site<'_>, shown: Shown, query: &Query) -> Result<Outcome, Refused> {
    let Parts { mirror, verify_jobs, job_runner, .. } = site.parts;
    let (now, may_change) = (now(site), site.visitor.may_change);
    let view = match shown {
        Shown::Overview => {
            let status = site.status.get(mirror, job_runner).await;
            overview::overview(&status, &look::activity(mirror))
        }
        Shown::Repositories => return find(site, query).await,
        Shown::Repository => {
            let (authority, repository) = ImageName::parse_repository(query.text("name")).map_err(Refused::invalid)?;
            let after = query.given("after").map(str::to_owned);
            let (is_first, page) = (after.is_none(), PageQuery { after, limit: None });
            let found = look::tags(mirror, (&authority, &repository), query.given("glob"), &page).await?;
            let asked = repository::Question { glob: query.text("glob"), is_first, may_change, now };
            repository::repository(&asked, &found)
        }
        Shown::Image => {
            let named: Named = query.text("reference").parse().map_err(Refused::invalid)?;
            image::image(now, may_change, &look::inspect(mirror, &named).await?)
        }
        Shown::Pins => pins::pins(may_change, &jobs::list_pins(mirror).await?),
        Shown::Jobs => {
            let (all, warm, verify) = (job_runner.jobs().list(), job_runner.warm_states(), verify_jobs.job());
            views::jobs::jobs((now, may_change), &all, &warm, verify.as_ref())
        }
    };
    Ok(Outcome::Show(view))
}

/// The repositories of a search; an image or a digest is shown at once.
async fn find(site: &Site<'_>, query: &Query) -> Result<Outcome, Refused> {
    let Parts { mirror, usage, .. } = site.parts;
    let search = query.text("q").trim();
    let is_glob = search.contains(['*', '?', '[']);
    let is_exact = !is_glob && search.contains([':', '@']) && search.parse::<Named>().is_ok();
    if is_exact && query.given("after").is_none() {
        return Ok(Outcome::See(image_link(search)));
    }
    let lower = search.to_ascii_lowercase();
    let part = Some(lower.as_str()).filter(|part| !part.is_empty());
    let selection =
        if is_glob { Selection { glob: part, contains: None } } else { Selection { glob: None, contains: part } };
    let name = query.given("sort").unwrap_or("name");
    let sort: Sort = name.parse().map_err(|err| Refused::invalid(format!("sort: {err}")))?;
    let after = query.given("after").map(str::to_owned);
    let is_first = after.is_none();
    let found = look::repositories(mirror, usage, selection, sort, &PageQuery { after, limit: None }).await?;
    let asked = repositories::Question { search, sort: name, is_first };
    Ok(Outcome::Show(repositories::repositories(&asked, &found, &look::used(mirror, usage).await?)))
}

async fn change(site: &Site<'_>, act: Act, request: Request<Incoming>) -> Result<Outcome, Refused> {
    let Parts { mirror, verify_jobs, .. } = site.parts;
    let form = Form::read(request).await?;
    let given = |name: &str| Some(form.field(name)).filter(|value| !value.is_empty());
    let pattern = || [form.field("pattern").to_owned()];
    match act {
        Act::Pin => {
            let _all = jobs::add_pins(mirror, &pattern()).await?;
            Ok(Outcome::See("/pins".to_owned()))
        }
        Act::Unpin => {
            let _all = jobs::remove_pins(mirror, &pattern()).await?;
            Ok(Outcome::See("/pins".to_owned()))
        }
        Act::Refresh => {
            let glob = form.field("glob");
            let which = change::Refresh::read(mirror, &[glob.to_owned()], false)?;
            let done = change::refresh(mirror, &which, given("after")).await?;
            Ok(Outcome::Show(refreshed::refreshed(glob, &done)))
        }
        Act::Verify => {
            let rate = given("rate").map(str::parse::<Rate>).transpose();
            let rate = rate.map_err(|err| Refused::invalid(format!("rate: {err}")))?;
            let stopping = || Refused::new(RefusedCode::Unavailable, "the server is shutting down");
            let _job = verify_jobs.start(rate).await.ok_or_else(stopping)?;
            Ok(Outcome::See("/jobs".to_owned()))
        }
    }
}

/// The query of a page. What is not known in it is passed over.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The value of a key; empty if it is not there.
    fn text(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// The value of a key that is not empty.
    fn given(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|value| !value.is_empty())
    }
}
