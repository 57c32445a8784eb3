//! Long work, and reports about the storage.
//!
//! A job belongs to no client: it goes on when the client that asked for it has left. Shutdown ends it.

pub mod change;
pub mod look;
mod pins;
mod refused;
mod status;
mod verify;

pub use pins::{PinEntry, add_pins, list_pins, remove_pins};
pub use refused::{Refused, RefusedCode};
pub use status::{Degraded, Status};
pub use verify::{Job, Started, State, VerifyJobs};
