//! Pages of long answers.

use crate::jobs::Refused;

/// Rows of a page, if nobody says how many.
const DEFAULT_LIMIT: usize = 100;
pub const MAX_LIMIT: usize = 1000;

/// Which page.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// `next` of the page before.
    pub after: Option<String>,
    pub limit: Option<usize>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<usize, Refused> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            Ok(limit)
        } else {
            Err(Refused::invalid(format!("limit: it is between 1 and {MAX_LIMIT}")))
        }
    }
}
