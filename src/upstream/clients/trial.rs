//! Whether the request that is out went over a kept connection or a new one.
//!
//! reqwest does not say. Its connector is called in the task of the request that needs a connection, so a task-local
//! tells: a request during which the connector was not called is on a connection that was kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    static TRIAL: Trial;
}

/// The requests of one operation at one endpoint, one after the other. Clones share their state.
#[derive(Debug, Clone, Default)]
pub(in crate::upstream) struct Trial {
    state: Arc<AtomicU8>,
    /// When the operation is given up.
    deadline: Option<Instant>,
}

const ANSWERED: u8 = 0;
const ON_KEPT: u8 = 1;
const ON_NEW: u8 = 2;

impl Trial {
    pub(in crate::upstream) fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..Self::default() }
    }

    /// The trial that this task works for; else a new one.
    pub(super) fn current() -> Self {
        TRIAL.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs `work` as the trial that its requests and their connections belong to.
    pub(in crate::upstream) fn watch<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        TRIAL.scope(self.clone(), work)
    }

    pub(super) fn time_left(&self) -> Option<Duration> {
        Some(self.deadline?.saturating_duration_since(Instant::now()))
    }

    /// A request goes out. It is taken to be on a kept connection until one is opened.
    pub(super) fn asks(&self) {
        self.state.store(ON_KEPT, Ordering::Relaxed);
    }

    pub(super) fn opens(&self) {
        self.state.store(ON_NEW, Ordering::Relaxed);
    }

    pub(super) fn is_answered(&self) {
        self.state.store(ANSWERED, Ordering::Relaxed);
    }

    /// Whether a request is out, and no new connection was tried for it: its silence says little about the endpoint.
    pub(in crate::upstream) fn waits_on_kept(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ON_KEPT
    }
}

/// The layer around the connector that tells the trial of each new connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct TellsTrial;

impl<S> Layer<S> for TellsTrial {
    type Service = Telling<S>;

    fn layer(&self, connector: S) -> Telling<S> {
        Telling(connector)
    }
}

/// A connector that tells the trial before it connects.
#[derive(Debug, Clone)]
pub(super) struct Telling<S>(S);

impl<S: Service<T>, T> Service<T> for Telling<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: T) -> S::Future {
        // Outside of a trial nobody wants to know.
        let _nobody_asks = TRIAL.try_with(Trial::opens);
        self.0.call(target)
    }
}
