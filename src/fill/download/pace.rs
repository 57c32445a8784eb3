//! Downloads that bring next to nothing, or that no client waits for: what they hold is for others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::upstream::Failure;

use super::{Download, Stop};

/// Bytes per second. What brings less keeps no room ahead, and keeps its place only while a client waits for it and nobody
/// waits for one.
const LEAST_RATE: u64 = 1024;
/// From one look to the next whether the place of a download is wanted that no client waits for.
const LOOK: Duration = Duration::from_millis(500);
/// Looks within `idle_timeout`, over which the rate is measured.
const LOOKS: u32 = 8;

/// Ends the download where its place is wanted, and it crawls or no client waits for it. What came stays, for the next who asks.
pub(super) async fn keep_pace(download: &Download<'_>) {
    let client = &download.job.source.client;
    let window = client.settings().idle_timeout;
    let mut tick = tokio::time::interval((window / LOOKS).max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (began, before) = (Instant::now(), download.segments().written_bytes());
    let mut written = VecDeque::new();
    let end = |because| {
        let endpoint = download.endpoints().last().copied().unwrap_or(0);
        tracing::debug!(digest = %download.job.fill.digest, because, "a download gives its place to others");
        download.fail(Stop::Failed(client.error_at(endpoint, Failure::Timeout(because)).into()));
    };
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = look.tick() => {
                let brought = download.segments().written_bytes().saturating_sub(before);
                let rate = || brought / began.elapsed().as_secs().max(1);
                let unattended = (!download.job.fill.is_attended()).then(rate);
                if download.job.permit.has_to_end(unattended) {
                    end("others wait for its place");
                    return;
                }
                continue;
            }
            () = download.complete.cancelled() => return,
            () = download.abort.cancelled() => return,
        }
        let now = download.segments().written_bytes();
        written.push_back(now);
        if written.len() <= LOOKS as usize {
            continue;
        }
        let brought = now - written.pop_front().unwrap_or(now);
        if u128::from(brought) * 1000 >= u128::from(LEAST_RATE) * window.as_millis() {
            continue;
        }
        download.give_room_back().await;
        if !download.job.fill.is_attended() || download.job.permit.is_wanted_more() {
            end("its body comes too slowly");
            return;
        }
    }
}
