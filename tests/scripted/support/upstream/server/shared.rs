//! State that the test and the connections of one upstream share.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::wire::Rate;
use crate::support::upstream::content::contents::Contents;
use crate::support::upstream::content::guard::Guard;
use crate::support::upstream::content::token::TokenAuth;
use crate::support::upstream::observe::record::Journal;
use crate::support::upstream::script::in_force::Script;

pub(crate) struct Shared {
    pub(crate) scheme: &'static str,
    pub(crate) journal: Journal,
    pub(crate) connections: watch::Sender<Connections>,
    /// A change ends all connections that are open.
    pub(crate) cut_all: watch::Sender<()>,
    pub(crate) closes_on_accept: AtomicBool,
    pub(crate) rate: Rate,
    /// Panics inside the fake, for the test to fail by.
    pub(crate) panics: Mutex<Vec<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) contents: Contents,
    pub(crate) script: Script,
    pub(crate) guard: Guard,
    /// The token service that answers on the token path.
    pub(crate) tokens: Option<TokenAuth>,
    pub(crate) latency: Duration,
    /// Repository and reference of everything that was fetched by GET.
    pub(crate) fetched: HashSet<(Option<String>, Option<String>)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connections {
    pub(crate) total: usize,
    pub(crate) open: usize,
    pub(crate) peak: usize,
}

impl Shared {
    pub(crate) fn new(scheme: &'static str) -> Self {
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
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn panicked(&self) -> MutexGuard<'_, Vec<String>> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
