//! What the test and the connections of one upstream have in common.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::contents::Contents;
use super::guard::Guard;
use super::record::Journal;
use super::script::Script;
use super::token::TokenAuth;
use super::wire::Rate;

pub(super) struct Shared {
    pub(super) scheme: &'static str,
    pub(super) journal: Journal,
    pub(super) connections: watch::Sender<Connections>,
    /// A change ends all connections that are open.
    pub(super) cut_all: watch::Sender<()>,
    pub(super) closes_on_accept: AtomicBool,
    pub(super) rate: Rate,
    /// What panicked inside the fake, for the test to be told.
    pub(super) panics: Mutex<Vec<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) contents: Contents,
    pub(super) script: Script,
    pub(super) guard: Guard,
    /// Who answers on the token path.
    pub(super) tokens: Option<TokenAuth>,
    pub(super) latency: Duration,
    /// What was fetched by GET: repository and reference.
    pub(super) fetched: HashSet<(Option<String>, Option<String>)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connections {
    pub(super) total: usize,
    pub(super) open: usize,
    pub(super) peak: usize,
}

impl Shared {
    pub(super) fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            journal: Journal::default(),
            connections: watch::Sender::default(),
            cut_all: watch::Sender::default(),
            closes_on_accept: AtomicBool::new(false),
            rate: Rate::default(),
            panics: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Never held over an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn panicked(&self) -> MutexGuard<'_, Vec<String>> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
