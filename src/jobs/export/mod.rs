//! Export: what is held, written as one OCI image layout, or as several that are imported one by one.
//!
//! A plan is made first ([`plan`]), which names every byte; then each part is written from it ([`mod@write`]), as often as it is
//! asked for. The content of a plan is leased, so that it is not evicted before it is written. The same content gives the
//! same bytes.

mod divide;
pub mod held;
mod inventory;
mod plan;
mod write;

use std::time::Duration;

pub use divide::{ExportRefused, Part};
pub use inventory::inventory;
pub use plan::{Plan, make_plan};
pub use write::{PartStream, stream_part};

use super::bundle::receipt::Receipt;
use held::WantedPlatforms;

/// What is to be exported.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    pub chosen: Chosen,
    pub platforms: WantedPlatforms,
    /// Also what refers to the images: signatures, SBOMs, attestations.
    pub referrers: bool,
    /// What the other side has.
    pub since: Option<Receipt>,
    /// Largest part, in bytes.
    pub split: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// Names of images.
    Named(Vec<String>),
    /// All that is held.
    All,
    /// Those that were pulled since, by days.
    UsedSince(Duration),
}
