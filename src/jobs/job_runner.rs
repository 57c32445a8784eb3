//! Starts jobs, and keeps what they leave to be fetched.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::bundle::receipt::Receipt;
use super::change::LongChange;
use super::export::{ExportRequest, PartStream, Plan, make_plan, stream_part};
use super::import::{ImportRequest, import};
use super::job::{Jobs, NoJob, RunningJob};
use super::job_report::{JobKind, JobReport, JobState};
use super::warm::schedule::{self, WarmSchedule, WarmState, WarmStates};
use super::warm::{WarmRequest, warm};
use crate::metrics::ByList;
use crate::mirror::Mirror;
use crate::store::jobs;

/// An export that nobody fetches ends after so long.
const UNFETCHED: Duration = Duration::from_hours(1);

/// Receipts of exports that have ended and can still be fetched.
const MAX_RECEIPTS: usize = 4;

/// The one runner of jobs, for the API and for commands.
pub struct JobRunner {
    /// Weak, so that it does not keep a closed storage alive.
    mirror: Weak<Mirror>,
    jobs: Jobs,
    exports: Mutex<HashMap<String, Arc<Fetched>>>,
    /// Of the last exports that have ended.
    receipts: Mutex<VecDeque<(String, Arc<Receipt>)>>,
    warm_states: WarmStates,
}

/// An export, and which of its parts were fetched.
struct Fetched {
    plan: Arc<Plan>,
    parts: Mutex<HashSet<usize>>,
}

impl JobRunner {
    pub fn new(mirror: &Arc<Mirror>) -> Self {
        Self {
            mirror: Arc::downgrade(mirror),
            jobs: Jobs::new(mirror.cache().context.clock.clone()),
            exports: Mutex::default(),
            receipts: Mutex::default(),
            warm_states: WarmStates::default(),
        }
    }

    pub const fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Ends all jobs soon, and begins no other. Shutdown does so first: a fill that one waits for is given the time to end.
    pub fn stop(&self) {
        self.jobs.stop();
    }

    /// Starts an export: its parts are offered when all of it was looked up.
    pub fn export(self: &Arc<Self>, request: ExportRequest) -> Result<Arc<RunningJob>, NoJob> {
        let mirror = self.mirror()?;
        let job = self.jobs.begin(JobKind::Export)?;
        let (this, started) = (Arc::clone(self), Arc::clone(&job));
        mirror.cache().context.tasks.clone().spawn(async move {
            let job = started;
            job.note("looks up what is held");
            match make_plan(&mirror, &job, &request).await {
                Ok(plan) => {
                    let plan = Arc::new(plan);
                    let fetched = Fetched { plan: Arc::clone(&plan), parts: Mutex::default() };
                    this.exports().insert(job.id().to_owned(), Arc::new(fetched));
                    job.note("waits for its parts to be fetched");
                    job.offer_parts(plan.parts.iter().map(|part| part.bytes).collect());
                    drop(mirror);
                    this.wait_for_fetches(&job).await;
                    this.exports().remove(job.id());
                    let mut receipts = this.receipts.lock().unwrap_or_else(PoisonError::into_inner);
                    receipts.push_back((job.id().to_owned(), Arc::clone(&plan.receipt)));
                    if receipts.len() > MAX_RECEIPTS {
                        receipts.pop_front();
                    }
                }
                Err(err) => {
                    let state = if job.is_cancelled() { JobState::Stopped } else { JobState::Failed };
                    job.end(state, this.jobs.clock().now(), Some(err.to_string()));
                }
            }
        });
        Ok(job)
    }

    async fn wait_for_fetches(&self, job: &RunningJob) {
        let mut changes = job.watch();
        let (mut fetched, mut bytes) = (0, 0);
        loop {
            let Some(export) = self.exports().get(job.id()).cloned() else { return };
            let count = export.fetched().len();
            if count == export.plan.parts.len() {
                return job.end(JobState::Done, self.jobs.clock().now(), None);
            }
            let change = tokio::select! {
                change = tokio::time::timeout(UNFETCHED, changes.changed()) => change,
                () = job.cancelled() => {
                    return job.end(JobState::Stopped, self.jobs.clock().now(), Some("it was cancelled".to_owned()));
                }
            };
            let report = job.report();
            if change.is_err() && (count, report.bytes) == (fetched, bytes) {
                let problem = "nobody has fetched its parts for an hour".to_owned();
                return job.end(JobState::Stopped, self.jobs.clock().now(), Some(problem));
            }
            (fetched, bytes) = (count, report.bytes);
        }
    }

    /// The bytes of one part of an export, from the first on. `None` if there is none.
    pub fn part(&self, id: &str, number: usize) -> Option<(u64, PartStream)> {
        let (mirror, job) = (self.mirror.upgrade()?, self.jobs.get(id)?);
        let plan = Arc::clone(&self.exports().get(id)?.plan);
        let bytes = plan.parts.get(number)?.bytes;
        Some((bytes, stream_part(&mirror, &job, &plan, number)?))
    }

    /// A part was fetched to its end.
    pub fn part_is_fetched(&self, id: &str, number: usize) {
        let export = self.exports().get(id).cloned();
        if let (Some(export), Some(job)) = (export, self.jobs.get(id)) {
            export.fetched().insert(number);
            job.tell();
        }
    }

    /// Starts to pull what is named. The job is written down first: one that the process did not live to end goes on at the
    /// next start.
    pub async fn warm(self: &Arc<Self>, request: WarmRequest) -> Result<Arc<RunningJob>, NoJob> {
        let mirror = self.mirror()?;
        let job = self.jobs.begin(JobKind::Warm)?;
        let text = serde_json::to_vec(&request).unwrap_or_default();
        if let Err(err) = jobs::remember_job(&mirror.cache().store, job.id(), text).await {
            tracing::warn!(job = job.id(), error = %err, "a job cannot be written down: it does not outlive this process");
        }
        self.run_warm(&mirror, &job, request, job.id().to_owned());
        Ok(job)
    }

    fn run_warm(self: &Arc<Self>, mirror: &Arc<Mirror>, job: &Arc<RunningJob>, request: WarmRequest, written: String) {
        let (this, job, held) = (Arc::clone(self), Arc::clone(job), Arc::clone(mirror));
        mirror.cache().context.tasks.spawn(async move {
            warm(&held, &this.jobs, &job, request).await;
            // What the end of the process has stopped goes on at the next start.
            if !this.jobs.stopping().is_cancelled() {
                let _gone = jobs::forget_job(&held.cache().store, &written).await;
            }
        });
    }

    /// Goes on with what an earlier process did not live to end.
    pub async fn resume(self: &Arc<Self>) {
        let Ok(mirror) = self.mirror() else { return };
        let written = jobs::remembered_jobs(&mirror.cache().store).await.unwrap_or_default();
        for (id, text) in written {
            let Ok(request) = serde_json::from_slice::<WarmRequest>(&text) else {
                let _gone = jobs::forget_job(&mirror.cache().store, &id).await;
                continue;
            };
            // Others wait for the next start.
            let Ok(job) = self.jobs.begin(JobKind::Warm) else { return };
            tracing::info!(job = job.id(), earlier = id, "an interrupted job goes on");
            self.run_warm(&mirror, &job, request, id);
        }
    }

    /// Keeps lists of images fresh, until the mirror stops.
    pub async fn run_schedules(self: Arc<Self>, schedules: Vec<WarmSchedule>) {
        for schedule in &schedules {
            self.warm_states.expect(&schedule.name);
        }
        let runs = schedules.into_iter().map(|schedule| self.run_schedule(schedule));
        futures_util::future::join_all(runs).await;
    }

    async fn run_schedule(self: &Arc<Self>, schedule: WarmSchedule) {
        let mut pause = schedule.pause(true);
        while schedule::wait(pause, self.jobs.stopping()).await {
            pause = schedule.pause(false);
            let begun = match schedule.request().await {
                Ok(request) => self.begin_round(request),
                Err(why) => Err(why),
            };
            let job = match begun {
                Ok(job) => job,
                Err(why) => {
                    self.warm_states.cannot_begin(&schedule.name, why);
                    continue;
                }
            };
            let mut changes = job.watch();
            // In this order: no change is missed.
            while !job.has_ended() {
                self.warm_states.note(&schedule.name, &job.report());
                tokio::select! {
                    _changed = changes.changed() => {}
                    () = self.jobs.stopping().cancelled() => return,
                }
            }
            let report = job.report();
            self.warm_states.note(&schedule.name, &report);
            self.count_round(&schedule.name, &report);
        }
    }

    /// A round of a schedule is not written down: the next start begins one by itself.
    fn begin_round(self: &Arc<Self>, request: WarmRequest) -> Result<Arc<RunningJob>, String> {
        let mirror = self.mirror().map_err(|err| err.to_string())?;
        let job = self.jobs.begin(JobKind::Warm).map_err(|err| err.to_string())?;
        let (this, running) = (Arc::clone(self), Arc::clone(&job));
        mirror.cache().context.tasks.clone().spawn(async move { warm(&mirror, &this.jobs, &running, request).await });
        Ok(job)
    }

    fn count_round(&self, name: &str, report: &JobReport) {
        let Ok(mirror) = self.mirror() else { return };
        let metrics = &mirror.cache().context.metrics;
        let labels = ByList { list: name.to_owned() };
        metrics.warm_failed_images.get_or_create(&labels).set(i64::try_from(report.failed).unwrap_or(i64::MAX));
        let last_good = self.warm_states.list().into_iter().find(|state| state.name == name);
        if let Some(at) = last_good.and_then(|state| state.last_good) {
            let seconds = i64::try_from(at.as_millis() / 1000).unwrap_or_default();
            metrics.warm_last_good.get_or_create(&labels).set(seconds);
        }
    }

    /// The states of all schedules.
    pub fn warm_states(&self) -> Vec<WarmState> {
        self.warm_states.list()
    }

    /// What the other side has when it has imported an export.
    pub fn receipt(&self, id: &str) -> Option<Arc<Receipt>> {
        if let Some(export) = self.exports().get(id) {
            return Some(Arc::clone(&export.plan.receipt));
        }
        let receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.iter().find(|(export, _)| export == id).map(|(_, receipt)| Arc::clone(receipt))
    }

    /// Starts a change of what is held.
    pub fn change(self: &Arc<Self>, change: LongChange) -> Result<Arc<RunningJob>, NoJob> {
        let mirror = self.mirror()?;
        let job = self.jobs.begin(change.kind())?;
        let (this, started) = (Arc::clone(self), Arc::clone(&job));
        mirror.cache().context.tasks.clone().spawn(async move {
            let problem = change.run(&mirror, &started).await.err().map(|err| err.to_string());
            let (state, problem) = match (started.is_cancelled(), problem) {
                (true, _) => (JobState::Stopped, Some("it was cancelled".to_owned())),
                (false, Some(problem)) => (JobState::Failed, Some(problem)),
                (false, None) => (JobState::Done, None),
            };
            started.end(state, this.jobs.clock().now(), problem);
        });
        Ok(job)
    }

    /// Starts an import of what `archive` gives.
    pub fn import(
        self: &Arc<Self>,
        archive: impl Read + Send + 'static,
        request: ImportRequest,
    ) -> Result<Arc<RunningJob>, NoJob> {
        let mirror = self.mirror()?;
        let job = self.jobs.begin(JobKind::Import)?;
        let (this, started) = (Arc::clone(self), Arc::clone(&job));
        mirror
            .cache()
            .context
            .tasks
            .clone()
            .spawn(async move { import(&mirror, &this.jobs, &started, archive, request).await });
        Ok(job)
    }

    fn mirror(&self) -> Result<Arc<Mirror>, NoJob> {
        self.mirror.upgrade().ok_or(NoJob::Stopping)
    }

    fn exports(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Fetched>>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetched {
    fn fetched(&self) -> std::sync::MutexGuard<'_, HashSet<usize>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
