//! A door in the fake. Tests put things in order with gates, never with sleeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Shut at first. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    open: bool,
    arrived: usize,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }

    /// Lets through whoever waits and whoever comes later.
    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Holds whoever comes from now on.
    pub(crate) fn shut(&self) {
        self.state.send_modify(|state| state.open = false);
    }

    /// Reaches the gate, and passes once it is open.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let state = Arc::clone(&self.state);
        async move {
            state.send_modify(|state| state.arrived += 1);
            state.subscribe().wait_for(|state| state.open).await.expect("the sender is held above");
        }
    }

    /// How many have reached the gate so far, held or let through.
    pub(crate) fn arrivals(&self) -> usize {
        self.state.borrow().arrived
    }

    /// Resolves when somebody has reached the gate.
    pub(crate) async fn arrived(&self) {
        self.arrived_times(1).await;
    }

    /// Resolves when the gate has been reached `n` times.
    pub(crate) async fn arrived_times(&self, n: usize) {
        let mut states = self.state.subscribe();
        let reached = states.wait_for(|state| state.arrived >= n);
        let reached = tokio::time::timeout(PATIENCE, reached).await.map(|reached| drop(reached.expect("held by self")));
        assert!(reached.is_ok(), "{} of {n} reached the gate in {PATIENCE:?}", self.arrivals());
    }
}
