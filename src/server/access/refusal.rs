//! Why a client is refused, and what it is told.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::oci::ErrorCode;
use crate::server::response::error::WireError;

#[derive(Debug)]
pub(in crate::server) enum Refusal {
    /// It shows nothing, and has to.
    NothingShown,
    WrongLogin,
    WrongKey,
    WrongToken,
    /// The certificate of its connection has expired since the handshake.
    CertificateOver,
    /// The issuer of its token cannot be asked for keys.
    IssuerAway,
    /// Too many passwords are being checked.
    Busy,
    /// Its rules refuse what it asks for.
    NotAllowed {
        name: Arc<str>,
        asked: String,
        /// Whether it could be somebody else by signing in.
        may_sign_in: bool,
    },
}

/// How clients can sign in, as configured. `None`: not at all.
#[derive(Debug)]
pub(super) enum SignIn {
    Token,
    Basic,
    /// A key in this header.
    Header(HeaderName),
    None,
}

/// How a client reached this server, as far as it says so itself: the challenge leads it there again.
#[derive(Debug)]
pub(in crate::server) struct Origin {
    pub(in crate::server) scheme: &'static str,
    pub(in crate::server) host: String,
    pub(in crate::server) mount: String,
    /// The name in the path, if it is one.
    pub(in crate::server) name: Option<String>,
}

impl SignIn {
    fn challenge(&self, refusal: &Refusal, origin: &Origin) -> Option<HeaderValue> {
        let challenge = match self {
            Self::Token => {
                let Origin { scheme, host, mount, name } = origin;
                let scope = name.as_ref().map(|name| format!(",scope=\"repository:{name}:pull\""));
                let error = if matches!(refusal, Refusal::WrongToken) { ",error=\"invalid_token\"" } else { "" };
                let scope = scope.unwrap_or_default();
                format!("Bearer realm=\"{scheme}://{host}{mount}/token\",service=\"roadstead\"{scope}{error}")
            }
            Self::Basic => "Basic realm=\"roadstead\"".to_owned(),
            // No client has a password for it, and none is sent.
            Self::Header(header) => format!("Header realm=\"roadstead\", name=\"{header}\""),
            Self::None => return None,
        };
        HeaderValue::from_str(&challenge).ok()
    }
}

impl Refusal {
    /// T83: a challenge is sent only where signing in is configured, since clients answer it with secrets for others.
    pub(super) fn answer(&self, sign_in: &SignIn, origin: &Origin) -> WireError {
        let message = match self {
            Self::NothingShown => "sign in to read here: nothing says who you are",
            Self::WrongLogin => "the user name or the password is wrong",
            Self::WrongKey => "the key in the header is nobody's",
            Self::WrongToken => "the token is not good, or not any more",
            Self::CertificateOver => {
                let message = "the certificate of this connection has expired; connect again with a new one";
                return WireError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message);
            }
            Self::IssuerAway => return WireError::issuer_away(),
            Self::Busy => return WireError::too_many_logins(),
            Self::NotAllowed { name, asked, .. } => {
                &format!("{asked}: {name} may not read it here; `roadstead explain` says by which rule")
            }
        };
        let may_sign_in = !matches!(self, Self::NotAllowed { may_sign_in: false, .. });
        match may_sign_in.then(|| sign_in.challenge(self, origin)).flatten() {
            Some(challenge) => WireError {
                challenge: Some(challenge),
                ..WireError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message)
            },
            None => WireError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
        }
    }
}
