//! Long work, and reports about the storage.
//!
//! A job belongs to no client: it goes on when the client that asked for it has left. Shutdown ends it.

pub mod bundle;
pub mod change;
pub mod export;
pub mod import;
mod job;
mod job_report;
mod job_runner;
pub mod look;
mod named_images;
mod refused;
mod status;
mod verify;
pub mod warm;

pub use change::blocks::{BlockEntry, add_blocks, list_blocks, remove_blocks};
pub use change::pins::{PinEntry, add_pins, list_pins, remove_pins};
pub use export::inventory;
pub use job::{Jobs, NoJob, RunningJob};
pub use job_report::{Gone, ItemDetails, JobItem, JobKind, JobOutcome, JobReport, JobState};
pub use job_runner::JobRunner;
pub use named_images::{named_images, read_images};
pub use refused::{Refused, RefusedCode};
pub use status::{Degraded, Status, StatusReports};
pub use verify::{Job, Started, State, VerifyJobs};
