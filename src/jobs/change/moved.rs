//! Tags of which their registry says that they have moved.

use std::sync::Arc;

use serde::Serialize;

use crate::jobs::JobOutcome;
use crate::jobs::look::holdings;
use crate::mirror::Mirror;
use crate::oci::ImageName;

/// One tag.
#[derive(Debug, Serialize)]
pub struct MovedItem {
    pub item: String,
    /// `done`: it is checked at the next pull. `held`: nothing follows, because nobody has pulled it, or it does not change.
    pub outcome: JobOutcome,
    pub problem: Option<String>,
}

/// Has these tags checked at their next pull. Upstream is not asked now.
pub async fn moved(mirror: &Arc<Mirror>, names: &[ImageName]) -> Vec<MovedItem> {
    let mut items = Vec::new();
    for name in names {
        let item = name.to_string();
        let expired = match holdings(mirror, &name.authority, &name.repository) {
            Ok(holdings) => holdings.check_soon(&name.tag_or_latest()).await.map_err(|err| err.to_string()),
            Err(unknown) => {
                items.push(MovedItem { item, outcome: JobOutcome::Refused, problem: Some(unknown.to_string()) });
                continue;
            }
        };
        let (outcome, problem) = match expired {
            Ok(true) => (JobOutcome::Done, None),
            Ok(false) => (JobOutcome::Held, None),
            Err(problem) => (JobOutcome::Failed, Some(problem)),
        };
        items.push(MovedItem { item, outcome, problem });
    }
    items
}
