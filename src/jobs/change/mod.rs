//! Changes of what is held, by an operator. What they did is told for each item; the same change again does no harm.

mod alias;
mod gc;
mod moved;
mod refresh;
mod remove;

pub use alias::{Aliased, alias};
pub use gc::{Gone, collect};
pub use moved::{MovedItem, moved};
pub use refresh::{RefreshItem, Refreshed, refresh};
pub use remove::{Removal, Removed, RemovedItem, remove};
