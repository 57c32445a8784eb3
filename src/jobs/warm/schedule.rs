//! Lists of images that are kept fresh: `[[warm]]` in the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::WarmRequest;
use crate::clock::Timestamp;
use crate::jobs::job_report::{JobReport, JobState};
use crate::jobs::named_images::images_in_file;

/// From the start to the first round: a server that starts with many others has time to settle.
const FIRST: Duration = Duration::from_secs(3);
/// Part of the period by which rounds are moved, so that many mirrors do not ask at the same moment.
const JITTER: u32 = 10;

/// One `[[warm]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmSchedule {
    /// Its name in `status` and metrics.
    pub name: String,
    pub request: WarmRequest,
    /// A file with more names, read again each time.
    pub file: Option<PathBuf>,
    pub every: Duration,
}

/// The last round of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmState {
    pub name: String,
    /// The job that runs, or ran last.
    pub job: Option<String>,
    pub state: Option<JobState>,
    /// When it ended last with every image held.
    pub last_good: Option<Timestamp>,
    pub items: u64,
    pub failed: u64,
    /// Why it could not begin or go on.
    pub problem: Option<String>,
}

/// The states of all schedules.
#[derive(Debug, Default)]
pub struct WarmStates(Mutex<BTreeMap<String, WarmState>>);

impl WarmStates {
    pub fn list(&self) -> Vec<WarmState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(in crate::jobs) fn expect(&self, name: &str) {
        let state = WarmState {
            name: name.to_owned(),
            job: None,
            state: None,
            last_good: None,
            items: 0,
            failed: 0,
            problem: None,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), state);
    }

    pub(in crate::jobs) fn note(&self, name: &str, report: &JobReport) {
        if let Some(state) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            state.last_good = report.ended.filter(|_| report.is_good()).or(state.last_good);
            state.job = Some(report.id.clone());
            state.state = Some(report.state);
            (state.items, state.failed) = (report.items, report.failed);
            state.problem.clone_from(&report.problem);
        }
    }

    pub(in crate::jobs) fn cannot_begin(&self, name: &str, why: String) {
        if let Some(state) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name) {
            tracing::warn!(list = name, error = why, "images are not kept fresh");
            state.problem = Some(why);
        }
    }
}

impl WarmSchedule {
    /// What is to be pulled now.
    pub(in crate::jobs) async fn request(&self) -> Result<WarmRequest, String> {
        let mut request = self.request.clone();
        if let Some(file) = &self.file {
            let names = images_in_file(file.clone()).await.map_err(|err| format!("{}: {err}", file.display()))?;
            request.references.extend(names);
        }
        Ok(request)
    }

    /// The pause before a round; `is_first` after the start.
    pub(in crate::jobs) fn pause(&self, is_first: bool) -> Duration {
        let most = if is_first { FIRST.min(self.every) } else { self.every / JITTER };
        let mut random = [0; 2];
        // Without randomness rounds are not moved.
        let part = getrandom::fill(&mut random).map_or(0, |()| u32::from(u16::from_le_bytes(random)));
        let moved = most * part / u32::from(u16::MAX);
        if is_first { moved } else { self.every.saturating_sub(most / 2).saturating_add(moved) }
    }
}

/// Waits for the next round. `false` if the mirror stops.
pub(in crate::jobs) async fn wait(pause: Duration, stopping: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = stopping.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_moved_by_a_tenth_at_most() {
        let schedule = WarmSchedule {
            name: "a".to_owned(),
            request: WarmRequest::default(),
            file: None,
            every: Duration::from_hours(1),
        };
        for _ in 0..100 {
            let pause = schedule.pause(false).as_secs();
            assert!((3420..=3780).contains(&pause), "{pause}");
            assert!(schedule.pause(true) <= FIRST);
        }
    }
}
