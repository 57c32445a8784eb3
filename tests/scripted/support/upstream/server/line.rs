//! One connection as the fake's other parts see it: its number, and what is to become of it.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1 over the life of the upstream.
    pub(crate) number: usize,
    pub(crate) client_certificate: bool,
    fate: Mutex<Fate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// Everything that was said so far goes out, then the connection ends.
    EndsWhenFlushed,
    EndsNow,
    /// These bytes go out instead of what hyper writes, then the connection ends.
    Says(Bytes),
}

impl Line {
    pub(crate) fn new(number: usize, client_certificate: bool) -> Self {
        Self { number, client_certificate, fate: Mutex::new(Fate::Lives) }
    }

    pub(crate) fn decide(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the script")
}
