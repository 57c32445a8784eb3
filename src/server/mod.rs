//! HTTP in: what clients ask, and what they are told. The mirror decides; this maps.
//!
//! `listen` accepts and times out, `route` reads the path (pure), `pull` asks the mirror, `respond` makes headers of its
//! answers, `wire_error` of its failures, `body` streams, `access_log` writes one line per request. `admin` and `api` are the
//! operators' side, on an address and a socket of its own.

mod access_log;
mod admin;
mod admin_socket;
mod api;
mod body;
mod conditional;
mod listen;
mod own_names;
mod pull;
mod respond;
mod route;
mod settings;
mod stall;
mod tls;
mod wire_error;

pub use admin::Admin;
pub use listen::{BindError, Listeners};
pub use pull::Front;
pub use route::{Endpoint, Route, RouteError};
pub use settings::{ListenerSettings, ServerSettings, TlsSettings};
pub use tls::{CertificateError, load_identity};
