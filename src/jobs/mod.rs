//! Long work over the mirror, and what is told of it.
//!
//! A job belongs to nobody: who asked for it may go, and it goes on. Shutdown ends it.

mod pins;
mod status;
mod verify;

pub use pins::{PinRefused, add_pins, list_pins, remove_pins};
pub use status::{Degraded, Status};
pub use verify::{Job, Started, State, VerifyJobs};
