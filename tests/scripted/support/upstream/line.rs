//! One connection as the fake's other parts see it: its number, and what is to become of it.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1 over the life of the upstream.
    pub(super) number: usize,
    pub(super) client_certificate: bool,
    fate: Mutex<Fate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// Everything that was said so far goes out, then the connection ends.
    EndsWhenFlushed,
    EndsNow,
    /// These bytes go out instead of what hyper writes, then the connection ends.
    Says(Bytes),
}

impl Line {
    pub(super) fn new(number: usize, client_certificate: bool) -> Self {
        Self { number, client_certificate, fate: Mutex::new(Fate::Lives) }
    }

    pub(super) fn decide(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the script")
}
