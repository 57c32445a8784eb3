//! A job as it is told: its kind, its state, the results of its items.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::oci::{Digest, Tag};

/// Longest text of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Warm,
    Export,
    Import,
    Refresh,
    Remove,
    Gc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    /// Every item was worked on, well or not.
    Done,
    /// It was cancelled, or the mirror stopped.
    Stopped,
    /// It could not go on.
    Failed,
}

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    Done,
    /// It was there already.
    Held,
    /// Some of it is not here, or not in the bundle.
    Missing,
    /// The configuration or the input forbids it.
    Refused,
    /// It did not work, or cannot be told now.
    Failed,
}

/// The result of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobItem {
    pub item: String,
    pub outcome: JobOutcome,
    pub bytes: u64,
    pub problem: Option<String>,
    /// It lacks what another part of the same bundle has: no failure yet.
    #[serde(rename = "waiting", skip_serializing_if = "std::ops::Not::not")]
    pub is_waiting: bool,
    #[serde(flatten)]
    pub details: Option<ItemDetails>,
}

/// What only one kind of job tells of its items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ItemDetails {
    Refreshed {
        /// Where the tag points.
        digest: Option<Digest>,
    },
    Removed {
        blobs: usize,
        /// Tags that are gone, or would be.
        tags: Vec<Tag>,
        /// Bytes among them that no registry can give again.
        last_copy_bytes: u64,
    },
}

/// What an eviction has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gone {
    pub evicted_blobs: u64,
    pub evicted_bytes: u64,
    /// Bytes that are used now.
    pub used_bytes: u64,
    /// Nothing is left to do, or nothing more may go.
    pub done: bool,
}

/// The state of a job as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobReport {
    /// Unique since the start of the server.
    pub id: String,
    pub kind: JobKind,
    pub state: JobState,
    pub begun: Timestamp,
    pub ended: Option<Timestamp>,
    pub bytes: u64,
    /// Zero if it is not known.
    pub bytes_total: u64,
    /// Items that have ended, those of them that failed, and those that wait for another part of a bundle.
    pub items: u64,
    pub failed: u64,
    pub waiting: u64,
    /// `null` if it is not known.
    pub items_total: Option<u64>,
    /// What it does, or waits for.
    pub note: Option<String>,
    /// Why it could not go on.
    pub problem: Option<String>,
    /// Of an export: the sizes of the parts that can be fetched. Bytes.
    pub parts: Vec<u64>,
    /// Of `gc`: what it has evicted so far.
    pub evicted: Option<Gone>,
}

impl JobKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Export => "export",
            Self::Import => "import",
            Self::Refresh => "refresh",
            Self::Remove => "remove",
            Self::Gc => "gc",
        }
    }
}

impl JobReport {
    /// Whether it is done, every item is well, and nothing else was wrong.
    pub fn is_good(&self) -> bool {
        self.state == JobState::Done && self.failed == 0 && self.problem.is_none()
    }
}

impl JobItem {
    pub fn new(item: impl Into<String>, outcome: JobOutcome, bytes: u64) -> Self {
        Self { item: item.into(), outcome, bytes, problem: None, is_waiting: false, details: None }
    }

    #[must_use]
    pub fn because(mut self, problem: impl std::fmt::Display) -> Self {
        let mut problem = problem.to_string();
        problem.truncate(problem.floor_char_boundary(MAX_PROBLEM_BYTES));
        self.problem = Some(problem);
        self
    }

    #[must_use]
    pub(super) fn with(mut self, details: ItemDetails) -> Self {
        self.details = Some(details);
        self
    }

    pub(super) const fn is_failed(&self) -> bool {
        !matches!(self.outcome, JobOutcome::Done | JobOutcome::Held) && !self.is_waiting
    }
}
