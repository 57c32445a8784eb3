//! HTTP in: what clients ask, and what they are told. The mirror decides; this maps.
//!
//! One connection passes these layers:
//!
//! ```text
//! listener/    accept, limit, TLS, deadlines, HTTP/1.1 or HTTP/2
//!    │
//! request/     route (pure), conditional headers; the handler asks the mirror
//!    │
//! response/    headers of answers and errors; bodies; files by sendfile
//!    │
//! access_log/  follows each request to its end, and writes one line
//! ```
//!
//! `admin/` is the operators' side, on an address and a socket of its own.

mod access_log;
mod admin;
mod listener;
mod request;
mod response;
mod settings;

pub use admin::Admin;
pub use listener::{BindError, CertificateError, Listeners, load_identity};
pub use request::{Endpoint, PublicSide, Route, RouteError};
pub use settings::{ListenerSettings, ServerSettings, TlsSettings};
