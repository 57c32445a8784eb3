//! HTTP in. The mirror decides; this module maps requests to it and its answers to responses.
//!
//! One connection passes these layers:
//!
//! ```text
//! listener/    accept, limit, TLS, deadlines, HTTP/1.1 or HTTP/2
//!    │
//! access/      who the client is, and what it may read; nothing unless configured
//!    │
//! request/     route (pure), conditional headers; the handler asks the mirror
//!    │
//! response/    headers of answers and errors; bodies; files by sendfile
//!    │
//! access_log/  follows each request to its end, and writes one line
//! ```
//!
//! `admin/` serves operators, on its own address and unix socket.

mod access;
mod access_log;
mod admin;
mod listener;
mod request;
mod response;
mod settings;
mod stall;

pub use access::{
    AccessSettings, Asked, Asker, BrokenLine, Decision, Group, HeaderKeys, Htpasswd, InvalidWho, OidcIssuer, Rule, Who,
    decide, groups_of, is_safe,
};
pub use access_log::pulls::WhoSettings;
pub use admin::Admin;
pub use listener::{BindError, CertificateError, Listeners, check_certificates, load_identity};
pub use request::{Endpoint, PublicSide, Route, RouteError};
pub use settings::{ClientCertificates, ListenerSettings, ServerSettings, TlsSettings};
