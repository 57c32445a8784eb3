//! Writing has failed: what is to be written is kept back, and tried again until the disk takes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Run;
use super::held::Held;
use crate::health::Part;
use crate::index::{Change, IndexError};

/// Between attempts to write again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Writing has failed.
pub(super) struct Outage {
    /// What is to be written when it works again, in order.
    pub(super) held: Held,
    /// The database answers nothing until it is opened anew.
    pub(super) is_closed: bool,
    /// What was visible and not durable is gone. The journal has the facts, and not what is made of them.
    is_behind: bool,
    pub(super) try_at: Instant,
    pub(super) pause: Duration,
}

impl Run {
    pub(super) async fn fail(&mut self, err: &IndexError, changes: Vec<Change>) {
        self.report(err);
        (self.flush_at, self.checkpoint_at) = (None, None);
        for done in self.waiting.drain(..) {
            drop(done.send(Err(IndexError::Unavailable)));
        }
        // The journal's failure leaves the database as it is.
        let is_closed = !matches!(err, IndexError::Log(_));
        self.view.is_behind.store(is_closed, Ordering::Release);
        let outage = Outage {
            held: Held::default(),
            is_closed,
            is_behind: is_closed,
            try_at: Instant::now(),
            pause: FIRST_PAUSE,
        };
        self.outage = Some(outage);
        self.hold(changes).await;
    }

    fn report(&self, err: &IndexError) {
        let why = format!("facts cannot be written ({err}); they are kept back until the disk takes them");
        if self.view.health.degrade(Part::Index, why) {
            tracing::warn!(%err, "facts cannot be written; pulls go on, and the index heals when the disk does");
        }
    }

    pub(super) async fn hold(&mut self, changes: Vec<Change>) {
        let changes = self.effective_denials(changes).await;
        if let Some(outage) = &mut self.outage {
            for change in changes {
                outage.held.push(change);
            }
        }
    }

    pub(super) async fn heal(&mut self) {
        let Some(mut outage) = self.outage.take() else { return };
        let (held, is_closed, is_behind) =
            (Arc::new(std::mem::take(&mut outage.held)), outage.is_closed, outage.is_behind);
        let to_write = Arc::clone(&held);
        let healed = self.blocking(move |view| {
            let mut is_closed = is_closed;
            let healed = view.heal(to_write.changes(), is_behind, &mut is_closed);
            (is_closed, healed)
        });
        let (is_closed, healed) = healed.await.unwrap_or((true, Err(IndexError::Closed)));
        let held = Arc::unwrap_or_clone(held);
        match healed {
            Ok(()) => {
                self.durable();
                if outage.is_behind {
                    // In this order: who sees that it is over sees that pins are to be worked out, too.
                    self.view.reopened.fetch_add(1, Ordering::Release);
                    self.view.is_behind.store(false, Ordering::Release);
                    self.view.healed.notify_one();
                }
                if self.view.health.heal(Part::Index) {
                    tracing::info!(kept = held.changes().len(), dropped = held.dropped, "facts are written again");
                }
            }
            Err(err) => {
                self.report(&err);
                let try_at = Instant::now() + outage.pause;
                let pause = (outage.pause * 2).min(LONGEST_PAUSE);
                let is_behind = outage.is_behind || is_closed;
                self.view.is_behind.store(is_behind, Ordering::Release);
                self.outage = Some(Outage { held, is_closed, is_behind, try_at, pause });
            }
        }
    }
}
