//! A token bucket: so many bytes per second, as content networks ration each connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The largest burst: so much time's worth, or a page.
const GRAIN: Duration = Duration::from_millis(10);
const LEAST_GRAIN: f64 = 4096.0;
/// A slow connection drips: its bursts come no further apart.
const MOST_PAUSE: Duration = Duration::from_millis(100);
/// How long a pause is made up for. The timer is coarse and the machine busy: with less, the rate would sag.
const MEMORY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Bucket {
    /// How many of `wanted` bytes may go now: at least one.
    pub(crate) fn poll_allowance(&mut self, cx: &mut Context<'_>, rate: u64, wanted: usize) -> Poll<usize> {
        let rate = float(rate);
        let grain = (rate * GRAIN.as_secs_f64()).max(LEAST_GRAIN.min(rate * MOST_PAUSE.as_secs_f64()));
        let depth = (rate * MEMORY.as_secs_f64()).max(grain);
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let now = Instant::now();
            let since = self.filled.replace(now).map_or(Duration::ZERO, |filled| now - filled);
            self.tokens = since.as_secs_f64().mul_add(rate, self.tokens).min(depth);
            let enough = grain.min(float(wanted as u64)).max(1.0);
            if self.tokens >= enough {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
                return Poll::Ready(wanted.min(self.tokens as usize));
            }
            let missing = Duration::from_secs_f64((enough - self.tokens) / rate);
            self.pause = Some(Box::pin(tokio::time::sleep(missing)));
        }
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.tokens -= float(bytes as u64);
    }
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
