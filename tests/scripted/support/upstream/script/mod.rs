//! The script: requests to match, and what happens to them.

pub(crate) mod gate;
pub(crate) mod habits;
pub(crate) mod in_force;
pub(crate) mod lie;
pub(crate) mod matcher;
pub(crate) mod plan;
pub(crate) mod step;
