//! Roadstead: a pull-through caching mirror for many container registries at once.
//!
//! Modules have ranks; each uses lower ranks only, and a test keeps it so:
//!
//! | rank | modules |
//! |---|---|
//! | 7 | `main`, `cli`: commands |
//! | 6 | [`app`]: builds everything, owns tasks and shutdown |
//! | 5 | [`config`]: raw values → checked [`config::Config`] |
//! | 4 | [`server`]: HTTP in |
//! | 3 | [`jobs`]: long work over the mirror |
//! | 2 | [`mirror`]: the decisions; its module page tells a pull |
//! | 1 | [`upstream`]: HTTP out; [`store`]: bytes by digest; [`index`]: facts |
//! | 0 | [`oci`]: values that exist only when valid; [`clock`], [`coalesce`], [`secret`], [`metrics`], [`health`], [`telemetry`] |

pub mod app;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod health;
pub mod index;
pub mod jobs;
pub mod metrics;
pub mod mirror;
pub mod oci;
pub mod secret;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
