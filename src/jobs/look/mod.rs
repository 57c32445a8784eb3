//! Questions about what is held: repositories, tags, manifests, bytes. Nothing is fetched, and looking counts as no use.

mod activity;
mod coverage;
mod examine;
mod find;
mod inspect;
mod kept;
mod page;
mod repositories;
mod select;
mod tags;
mod watch;
mod who;

pub use activity::{Activity, LoggedWarning, Traffic, UpstreamActivity, activity};
pub use coverage::{Covered, Item, PlatformState, coverage};
pub use examine::{Kind, Wholeness};
pub use find::{Found, find, full_digest, holdings};
pub use inspect::{InspectedImage, InspectedPart, InspectedTag, Inspection, StoredContent, inspect};
pub use kept::Kept;
pub use page::{MAX_LIMIT, PageQuery};
pub use repositories::{
    AuthorityRow, Repositories, RepositoryRow, Selection, Sort, UsageReport, UsageReports, repositories, used,
};
pub use select::held_names;
pub use tags::{Moved, TagEntry, Tags, tags};
pub use watch::{CoverageList, run_coverage};
pub use who::{Puller, Pullers, who};
