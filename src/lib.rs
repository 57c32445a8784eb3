//! Roadstead: a pull-through caching mirror for many container registries at once.
//!
//! Modules have ranks; each uses lower ranks only, and a test keeps it so:
//!
//! | rank | modules |
//! |---|---|
//! | 9 | `main`, `cli`: commands |
//! | 8 | [`app`]: builds everything, owns tasks and shutdown |
//! | 7 | [`config`]: raw values → checked [`config::Config`] |
//! | 6 | [`server`]: HTTP in |
//! | 5 | [`jobs`]: long work |
//! | 4 | [`mirror`]: the pull; its module page tells it |
//! | 3 | [`fill`]: one download for each registry and digest, followed by all readers |
//! | 2 | [`cache`]: what is held, bytes and their record in step |
//! | 1 | [`upstream`]: HTTP out; [`store`]: bytes by digest; [`index`]: facts |
//! | 0 | [`oci`]: values that exist only when valid; [`clock`], [`coalesce`], [`secret`], [`metrics`], [`health`], [`telemetry`] |

pub mod app;
pub mod cache;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod fill;
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
