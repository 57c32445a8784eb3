//! Who may read what (docs/access.md). Absent from the configuration, nobody is asked.
//!
//! A request is identified by its headers and its address alone, before its path is read (`Access::identify`). When it is
//! known what it asks for, and before anything is looked up, the rules decide (`Access::check`): alike on a hit and a miss,
//! for every kind of request.

mod certificate;
mod client;
mod htpasswd;
pub(in crate::server) mod keyed_hash;
mod keys;
mod logins;
mod oidc;
mod refusal;
mod rules;
mod tokens;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ipnet::IpNet;

use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::mirror::Target;
use crate::oci::Reference;
use crate::server::request::route::Endpoint;
use crate::server::response::error::WireError;

pub use client::{BrokenLine, Group, groups_of};
pub use htpasswd::Htpasswd;
pub use keys::HeaderKeys;
pub use oidc::{OidcIssuer, is_safe};
pub use rules::{Asked, Asker, Decision, InvalidWho, Rule, Who, decide};

pub(in crate::server) use certificate::ClientCertificate;
pub(in crate::server) use client::Client;
pub(in crate::server) use refusal::{Origin, Refusal};

pub(in crate::server) use client::ANONYMOUS;
use client::{Clients, Strangers};
use keys::KnownKeys;
use logins::{Logins, Verdict};
use oidc::{Oidc, Stranger};
use refusal::SignIn;
use tokens::{Bearer, LIFETIME, Tokens};

/// `[access]`.
#[derive(Debug, Clone)]
pub struct AccessSettings {
    pub htpasswd: Option<Htpasswd>,
    pub header: Option<HeaderKeys>,
    /// Whether a client that shows nothing goes on.
    pub anonymous: bool,
    pub token_server: bool,
    pub oidc: Vec<OidcIssuer>,
    pub groups: Vec<Group>,
    pub rules: Vec<Rule>,
}

/// Identifies clients and decides what they may read.
pub(in crate::server) struct Access {
    rules: Vec<Rule>,
    keys: Option<KnownKeys>,
    logins: Option<Logins>,
    oidc: Option<Oidc>,
    tokens: Option<Tokens>,
    /// Users by name, for tokens.
    users: HashMap<Arc<str>, Arc<Client>>,
    /// Networks that an allowing rule names: they are an identity without anything to show.
    networks: Vec<(IpNet, Arc<Client>)>,
    anonymous: Option<Arc<Client>>,
    /// Those that certificates and issuers of tokens name.
    strangers: Strangers,
    clock: Clock,
    sign_in: SignIn,
    metrics: Metrics,
}

/// What a connection says of its client.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Connected<'a> {
    pub(in crate::server) peer: IpAddr,
    pub(in crate::server) certificate: Option<&'a ClientCertificate>,
}

/// The client of a request.
#[derive(Debug)]
pub(in crate::server) struct Identified {
    pub(in crate::server) client: Arc<Client>,
    /// Of its token, and until when that is good.
    claimed: Option<(Arc<[String]>, Timestamp)>,
    /// Whether it showed a key, a login or a token.
    has_shown: bool,
}

impl Access {
    pub(in crate::server) fn new(settings: &AccessSettings, metrics: &Metrics, clock: Clock) -> Self {
        let secret = keyed_hash::new_key();
        let mut clients = Clients::new(&settings.groups, metrics);
        let anonymous = settings.anonymous.then(|| clients.nobody(ANONYMOUS));
        let allowing = settings.rules.iter().filter(|rule| rule.allow).flat_map(|rule| &rule.who);
        let networks = allowing.filter_map(|who| match who {
            Who::Network(network) => Some((*network, clients.nobody(&format!("network:{network}")))),
            Who::User(_) | Who::Group(_) | Who::Certificate(_) | Who::Anonymous => None,
        });
        let networks = networks.collect();
        let keys = settings.header.as_ref().map(|keys| KnownKeys::new(keys, &secret, &mut clients));
        let logins = settings.htpasswd.as_ref().map(|file| Logins::new(file, &secret, &mut clients, metrics));
        let with_keys = keys.iter().flat_map(KnownKeys::clients);
        let users = with_keys.chain(logins.iter().flat_map(Logins::clients));
        let users = users.map(|client| (Arc::clone(&client.name), Arc::clone(client))).collect();
        let oidc = Oidc::new(&settings.oidc, &secret, &clock);
        let sign_in = match (&keys, &logins) {
            _ if settings.token_server => SignIn::Token,
            (_, Some(_)) => SignIn::Basic,
            // Its tokens are passwords, too.
            _ if oidc.is_some() => SignIn::Basic,
            (Some(keys), None) => SignIn::Header(keys.header.clone()),
            (None, None) => SignIn::None,
        };
        Self {
            rules: settings.rules.clone(),
            keys,
            logins,
            oidc,
            tokens: settings.token_server.then(|| Tokens::new(clock.clone())),
            users,
            networks,
            anonymous,
            strangers: clients.strangers(),
            clock,
            sign_in,
            metrics: metrics.clone(),
        }
    }

    /// Says who the client is. A key counts first; what could not be meant for this server, such as a pull secret where no
    /// htpasswd file is configured, is as good as nothing.
    pub(in crate::server) async fn identify(
        &self,
        headers: &HeaderMap,
        connected: Connected<'_>,
    ) -> Result<Identified, Refusal> {
        let identified = if connected.certificate.is_some_and(|shown| shown.is_over(self.clock.now())) {
            Err(Refusal::CertificateOver)
        } else {
            self.find(headers, Connected { peer: connected.peer.to_canonical(), ..connected }).await
        };
        if identified.is_err() {
            self.metrics.identity_requests.get_or_create(&crate::metrics::ByIdentity::unknown()).inc();
        }
        identified
    }

    async fn find(&self, headers: &HeaderMap, connected: Connected<'_>) -> Result<Identified, Refusal> {
        let shown = |client| Ok(Identified { client, claimed: None, has_shown: true });
        if let Some(keys) = &self.keys
            && let Some(client) = keys.find(headers).map_err(|_wrong| Refusal::WrongKey)?
        {
            return shown(client);
        }
        let mut authorizations = headers.get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes);
        let authorization = authorizations.next().unwrap_or_default();
        if let Some(oidc) = &self.oidc
            && let Some(token) = jwt_in(authorization)
        {
            if authorizations.next().is_some() {
                return Err(Refusal::WrongToken);
            }
            let is_taken = |name: &str| self.users.contains_key(name);
            return match oidc.check(&token, &self.strangers, is_taken, connected.peer).await {
                oidc::Verdict::Good(Stranger { client, groups, until }) => {
                    Ok(Identified { client, claimed: Some((groups, until)), has_shown: true })
                }
                oidc::Verdict::Bad => Err(Refusal::WrongToken),
                oidc::Verdict::IssuerAway => Err(Refusal::IssuerAway),
            };
        }
        if let (Some(logins), Some(encoded)) = (&self.logins, behind(b"basic ", authorization)) {
            if authorizations.next().is_some() {
                return Err(Refusal::WrongLogin);
            }
            return match logins.check(encoded, connected.peer).await {
                Verdict::Right(client) => shown(client),
                Verdict::Wrong => Err(Refusal::WrongLogin),
                Verdict::Busy => Err(Refusal::Busy),
            };
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, behind(b"bearer ", authorization)) {
            return match tokens.read(token) {
                Ok(Bearer::User(name)) => {
                    self.users.get(name.as_str()).cloned().map_or(Err(Refusal::WrongToken), shown)
                }
                Ok(Bearer::Stranger { name, .. }) if self.users.contains_key(name.as_str()) => Err(Refusal::WrongToken),
                Ok(Bearer::Stranger { name, groups }) => {
                    let client = self.strangers.find(&name.into(), true);
                    let until = self.clock.now().plus(LIFETIME);
                    Ok(Identified { client, claimed: Some((groups.into(), until)), has_shown: true })
                }
                Ok(Bearer::Nobody) => {
                    Ok(Identified { client: self.nobody(connected)?, claimed: None, has_shown: true })
                }
                Err(tokens::BadToken) => Err(Refusal::WrongToken),
            };
        }
        Ok(Identified { client: self.nobody(connected)?, claimed: None, has_shown: false })
    }

    /// A client that is known by its connection at most.
    fn nobody(&self, Connected { peer, certificate }: Connected<'_>) -> Result<Arc<Client>, Refusal> {
        if let Some(certificate) = certificate {
            return Ok(self.strangers.find(&certificate.identity, false));
        }
        let by_network = self.networks.iter().find(|(network, _)| network.contains(&peer)).map(|(_, client)| client);
        by_network.or(self.anonymous.as_ref()).cloned().ok_or(Refusal::NothingShown)
    }

    /// T80: decides by the rules, before anything is looked up.
    pub(in crate::server) fn check(
        &self,
        identified: &Identified,
        connected: Connected<'_>,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<(), Refusal> {
        let Identified { client, claimed, has_shown } = identified;
        let asker = Asker {
            user: client.is_user.then_some(&*client.name),
            has_anonymous: self.anonymous.is_some(),
            address: Some(connected.peer),
            certificate: connected.certificate.map(|certificate| certificate.names.as_slice()),
            groups: [&client.groups, claimed.as_ref().map_or(&[], |(groups, _)| groups)],
        };
        let wanted = match endpoint {
            Endpoint::Manifest(Reference::Tag(tag)) => Asked::Tag(tag.as_str()),
            Endpoint::Manifest(Reference::Digest(_)) | Endpoint::Blob(_) | Endpoint::Referrers(_) => Asked::Content,
            Endpoint::Tags | Endpoint::Ping => Asked::Tags,
        };
        if decide(&self.rules, &asker, &target.authority, &target.repository, wanted).is_allowed() {
            client.allowed.inc();
            return Ok(());
        }
        client.refused.inc();
        // Whoever may go on without showing anything is challenged only where it can get a token for that too.
        let is_challenged = self.anonymous.is_none() || self.tokens.is_some();
        Err(Refusal::NotAllowed {
            name: Arc::clone(&client.name),
            asked: format!("{}/{}", target.authority, target.repository),
            may_sign_in: !has_shown && is_challenged,
        })
    }

    /// Whether `/v2/` itself sends the client to the token server. Most clients ask for nothing else before they sign in.
    pub(in crate::server) fn challenges_ping(&self, identified: &Identified) -> bool {
        self.tokens.is_some() && !identified.has_shown
    }

    pub(in crate::server) const fn has_token_server(&self) -> bool {
        self.tokens.is_some()
    }

    /// The answer of the token server; `None` without one.
    pub(in crate::server) fn token(&self, identified: &Identified) -> Option<serde_json::Value> {
        let Identified { client, claimed, .. } = identified;
        let name = || client.name.to_string();
        let bearer = match claimed {
            Some((groups, _)) => Bearer::Stranger { name: name(), groups: groups.to_vec() },
            None if client.is_user => Bearer::User(name()),
            None => Bearer::Nobody,
        };
        let until = claimed.as_ref().map(|(_, until)| *until);
        let (token, issued) = self.tokens.as_ref()?.issue(&bearer, until);
        let (token, access_token) = (&token, &token);
        let left = until.map_or(LIFETIME, |until| until.since(self.clock.now()).min(LIFETIME));
        let expires_in = left.as_secs();
        Some(serde_json::json!({
            "token": token, "access_token": access_token, "expires_in": expires_in, "issued_at": issued.rfc3339(),
        }))
    }

    pub(in crate::server) fn answer(&self, refusal: &Refusal, origin: &Origin) -> WireError {
        refusal.answer(&self.sign_in, origin)
    }

    /// The same at the token server, whose clients show Basic.
    pub(in crate::server) fn answer_of_token_server(&self, refusal: &Refusal, origin: &Origin) -> WireError {
        let sign_in = if self.logins.is_some() || self.oidc.is_some() { &SignIn::Basic } else { &SignIn::None };
        refusal.answer(sign_in, origin)
    }
}

/// What follows a scheme, whose case does not count.
fn behind<'a>(scheme: &[u8], authorization: &'a [u8]) -> Option<&'a [u8]> {
    let (first, rest) = authorization.split_at_checked(scheme.len())?;
    first.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// What has the form of a JWT: as a Bearer token, or as the password of any name, as `docker login` can show it.
fn jwt_in(authorization: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(token) = behind(b"bearer ", authorization) {
        return Oidc::has_the_form(token.trim_ascii()).then_some(Cow::Borrowed(token));
    }
    let encoded = behind(b"basic ", authorization)?.trim_ascii();
    let decoded = STANDARD.decode(encoded).ok()?;
    let at = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.get(at + 1..)?;
    Oidc::has_the_form(password).then(|| Cow::Owned(password.to_vec()))
}
