//! HTTP in: what clients ask, and what they are told. The mirror decides; this maps.
//!
//! `listen` accepts and times out, `route` reads the path (pure), `pull` asks the mirror, `respond` makes headers of its
//! answers, `wire_error` of its failures, `body` streams, `outbox` and `file_sender` let files go out unread, `access_log`
//! follows each request to its end and `line` writes what it was. `memo` remembers where a path leads. `admin` and `api` are
//! the operators' side, on an address and a socket of its own, which `operators` serves.

mod access_log;
mod admin;
mod admin_socket;
mod api;
mod body;
mod conditional;
mod file_sender;
mod http2;
mod line;
mod listen;
mod memo;
mod operators;
mod outbox;
mod own_names;
mod pull;
mod request_id;
mod respond;
mod route;
mod settings;
mod stall;
mod subject;
mod tls;
mod turn_away;
mod wire_error;

pub use admin::Admin;
pub use listen::{BindError, Listeners};
pub use pull::Front;
pub use route::{Endpoint, Route, RouteError};
pub use settings::{ListenerSettings, ServerSettings, TlsSettings};
pub use tls::{CertificateError, load_identity};
