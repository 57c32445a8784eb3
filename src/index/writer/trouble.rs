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
pub(super) struct Trouble {
    /// What is to be written when it works again, in order.
    pub(super) held: Held,
    /// The database answers nothing until it is opened anew.
    pub(super) is_closed: bool,
    /// What was visible and not durable is gone. The journal has the facts, and not what is made of them.
    has_lost: bool,
    pub(super) try_at: Instant,
    pub(super) pause: Duration,
}

impl Run {
    pub(super) async fn fail(&mut self, err: &IndexError, changes: Vec<Change>) {
        self.tell(err);
        self.flush_at = None;
        for done in self.waiting.drain(..) {
            drop(done.send(Err(IndexError::Unavailable)));
        }
        // The journal's failure leaves the database as it is.
        let is_closed = !matches!(err, IndexError::Journal(_));
        self.ledger.has_lost.store(is_closed, Ordering::Release);
        let trouble = Trouble {
            held: Held::default(),
            is_closed,
            has_lost: is_closed,
            try_at: Instant::now(),
            pause: FIRST_PAUSE,
        };
        self.trouble = Some(trouble);
        self.hold(changes).await;
    }

    fn tell(&self, err: &IndexError) {
        let why = format!("facts cannot be written ({err}); they are kept back until the disk takes them");
        if self.ledger.health.degrade(Part::Index, why) {
            tracing::warn!(%err, "facts cannot be written; pulls go on, and the index heals when the disk does");
        }
    }

    pub(super) async fn hold(&mut self, changes: Vec<Change>) {
        let changes = self.founded(changes).await;
        if let Some(trouble) = &mut self.trouble {
            for change in changes {
                trouble.held.push(change);
            }
        }
    }

    pub(super) async fn heal(&mut self) {
        let Some(mut trouble) = self.trouble.take() else { return };
        let (held, is_closed) = (Arc::new(std::mem::take(&mut trouble.held)), trouble.is_closed);
        let to_write = Arc::clone(&held);
        let healed = self.blocking(move |ledger| {
            let mut is_closed = is_closed;
            let healed = ledger.heal(to_write.changes(), &mut is_closed);
            (is_closed, healed)
        });
        let (is_closed, healed) = healed.await.unwrap_or((true, Err(IndexError::Closed)));
        let held = Arc::unwrap_or_clone(held);
        match healed {
            Ok(()) => {
                self.durable();
                if trouble.has_lost {
                    // In this order: who sees that it is over sees that pins are to be worked out, too.
                    self.ledger.losses.fetch_add(1, Ordering::Release);
                    self.ledger.has_lost.store(false, Ordering::Release);
                    self.ledger.healed.notify_one();
                }
                if self.ledger.health.heal(Part::Index) {
                    tracing::info!(kept = held.changes().len(), dropped = held.dropped, "facts are written again");
                }
            }
            Err(err) => {
                self.tell(&err);
                let try_at = Instant::now() + trouble.pause;
                let pause = (trouble.pause * 2).min(LONGEST_PAUSE);
                let has_lost = trouble.has_lost || is_closed;
                self.ledger.has_lost.store(has_lost, Ordering::Release);
                self.trouble = Some(Trouble { held, is_closed, has_lost, try_at, pause });
            }
        }
    }
}
