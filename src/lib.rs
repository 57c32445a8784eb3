//! Roadstead: a pull-through caching mirror for many container registries at once.
//!
//! # Ranks
//!
//! Modules have ranks; each uses lower ranks only, and a test keeps it so:
//!
//! | rank | modules |
//! |---|---|
//! | 10 | `main` |
//! | 9 | `cli`: commands |
//! | 8 | [`app`]: builds everything, owns tasks and shutdown |
//! | 7 | [`config`]: raw values → checked [`config::Config`] |
//! | 6 | [`server`]: HTTP in |
//! | 5 | [`jobs`]: long work |
//! | 4 | [`mirror`]: the pull; its module page tells it |
//! | 3 | [`fill`]: one download for each registry and digest, followed by all readers |
//! | 2 | [`cache`]: what is held, file and record in step |
//! | 1 | [`upstream`]: HTTP out; [`store`]: bytes by digest; [`index`]: facts; [`recent`]: slow answers and failures |
//! | 0 | [`oci`]: values that exist only when valid; [`clock`], [`coalesce`], [`file_blocks`], [`secret`], [`quote`], [`metrics`], [`health`], [`telemetry`] |
//!
//! `docs/ARCHITECTURE.md` tells five ways through them with file names, and has a glossary.
//!
//! # One pull
//!
//! 1. [`server`] reads a request: its route names an endpoint and a digest or tag.
//! 2. [`mirror::Mirror::resolve`] finds the registry and repository, and [`mirror::Mirror::blob`] or
//!    [`mirror::Mirror::manifest`] takes over.
//! 3. [`cache::Cache`] is asked: [`cache::Memory`] first, then the [`index::Index`] for the record and the grant, then the
//!    [`store::Store`] for the file.
//! 4. On a miss, [`fill::Fills::join_or_start`] gives the one [`fill::Fill`] of this registry and digest. Its task
//!    asks the [`upstream::RegistryClient`], writes a [`store::PartialFile`], proves the digest, and gives the file to
//!    [`cache::Cache::admit`].
//! 5. The answer is a [`mirror::BlobAnswer`]. The server makes headers of it, and a [`fill::BlobReader`] gives the bytes, at
//!    the client's own pace.
//!
//! # One start
//!
//! 1. [`config::Config::read`] checks everything, and reports every problem at once.
//! 2. [`app::App::start`] locks and opens the [`store::Store`], then [`index::Index::open`] replays the log.
//! 3. [`cache::recover`] puts in order what a crash left between a file and its record.
//! 4. Addresses are bound, background tasks start, and `/readyz` says so. No upstream is asked anything.
//!
//! # One stop
//!
//! [`app::App::stop`]: `/readyz` is off; no new connections; responses and fills go on until the deadline; fills write down
//! how far they are; background tasks end; the index takes a checkpoint and closes; the sign of a clean stop is written.

pub mod app;
pub mod cache;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod file_blocks;
pub mod fill;
pub mod health;
pub mod index;
pub mod jobs;
pub mod metrics;
pub mod mirror;
pub mod oci;
pub mod quote;
pub mod recent;
pub mod secret;
pub mod server;
pub mod shared_bytes;
pub mod store;
pub mod telemetry;
pub mod upstream;
