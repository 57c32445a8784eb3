//! From a request to the mirror's answer.

mod auth;
pub(in crate::server) mod conditional;
pub(in crate::server) mod handler;
mod query;
pub(in crate::server) mod route;
mod route_cache;
pub(in crate::server) mod self_hosts;
mod via;

pub use handler::PublicSide;
pub use route::{Endpoint, Route, RouteError};
