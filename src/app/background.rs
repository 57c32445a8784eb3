//! All tasks that run as long as the server does, and the order in which they end:
//!
//! 1. the listeners accept no more, and responses end;
//! 2. fills, and other work that outlives its request, end, or are interrupted and keep their bytes;
//! 3. the upkeep ends, each task by itself when [`Context::stopping`] is cancelled.
//!
//! The index closes after that, and the admin side ends last.
//!
//! [`Context::stopping`]: crate::cache::Context::stopping

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::storage::Opened;
use crate::cache::retention::run_rows;
use crate::cache::retry_faults;
use crate::cache::scrub::{VerifySettings, run_scrub};
use crate::jobs::look::{CoverageList, run_coverage};
use crate::server::{Admin, Listeners, PublicSide};

/// After the deadline, how long interrupted fills may take for their last sync, and then the upkeep for its last step.
const LAST_STEP: Duration = Duration::from_secs(5);

pub(super) struct Background {
    serving: JoinHandle<()>,
    stop_accepting: CancellationToken,
    /// Fills, checks, and other work that outlives the request which started it.
    work: TaskTracker,
    stopping: CancellationToken,
    /// Named tasks of the cache, which no request starts.
    upkeep: Vec<(&'static str, AbortOnDropHandle<()>)>,
    stop_admin: CancellationToken,
}

impl Background {
    /// Starts everything. `was_clean`: the last server of this storage ended in good order.
    pub(super) fn start(
        opened: &Opened,
        listeners: Listeners,
        public_side: Arc<PublicSide>,
        admin: Arc<Admin>,
        (verify, coverage): (VerifySettings, Vec<CoverageList>),
        was_clean: bool,
    ) -> Self {
        let (stop_accepting, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let pulls = Arc::clone(&public_side);
        let serving = listeners.serve(public_side, admin, stop_accepting.clone(), stop_admin.clone());
        let serving = tokio::spawn(serving);
        let (mirror, evictor) = (&opened.mirror, opened.mirror.evictor());
        let upkeep = vec![
            // Drops grants and lists that were not used for long.
            ("grant expiry", spawn(Arc::clone(mirror).run_grant_expiry())),
            // Proves and fetches what the next pull needs.
            ("completion", spawn(Arc::clone(mirror).run_completion())),
            // Counts the images that are held whole.
            ("census", spawn(Arc::clone(mirror).run_census())),
            // Writes down who pulls what.
            ("pulls", spawn(pulls.record_pulls())),
            // Tells how much of the configured lists would survive an outage.
            ("coverage", spawn(run_coverage(Arc::clone(mirror), coverage))),
            // Tries a disk that failed until it works, and cleans up after it.
            ("fault retry", spawn(retry_faults(Arc::clone(evictor)))),
            // Keeps usage below the limits.
            ("eviction", spawn(Arc::clone(evictor).run())),
            // Keeps what made-up names take of the index below its bound.
            ("row bound", spawn(run_rows(Arc::clone(mirror.cache())))),
            // Reads stored bytes again.
            ("scrub", spawn(run_scrub(Arc::clone(mirror.cache()), verify, was_clean))),
        ];
        let (work, stopping) = (opened.tasks.clone(), opened.stopping.clone());
        Self { serving, stop_accepting, work, stopping, upkeep, stop_admin }
    }

    /// Ends everything but the admin side. Responses and fills have until `deadline`.
    pub(super) async fn drain(&mut self, deadline: Instant) {
        self.stop_accepting.cancel();
        if timeout_at(deadline, &mut self.serving).await.is_err() {
            tracing::warn!("responses are cut: they did not end within `shutdown_deadline`");
            self.serving.abort();
        }
        self.work.close();
        if timeout_at(deadline, self.work.wait()).await.is_err() {
            tracing::warn!("downloads are interrupted; they go on from where they are at the next request");
        }
        self.stopping.cancel();
        let _overdue = timeout_at(Instant::now() + LAST_STEP, self.work.wait()).await;
        let deadline = Instant::now() + LAST_STEP;
        for (task, ended) in &mut self.upkeep {
            if timeout_at(deadline, ended).await.is_err() {
                tracing::warn!(task, "a background task did not end in time");
            }
        }
    }

    pub(super) fn stop_admin(&self) {
        self.stop_admin.cancel();
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
