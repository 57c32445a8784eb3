//! Downloads that bring next to nothing: what they hold is for others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::upstream::Failure;

use super::{Download, Stop};

/// Bytes per second. What brings less keeps no room ahead, and keeps its place only while somebody follows it and nobody
/// waits for one.
const LEAST_RATE: u64 = 1024;
/// Looks within `idle_timeout`, over which the rate is measured.
const LOOKS: u32 = 8;

/// Ends the download where it crawls and its place is wanted. What came stays, for the next who asks.
pub(super) async fn keep_pace(download: &Download<'_>) {
    let client = &download.job.source.client;
    let window = client.settings().idle_timeout;
    let mut tick = tokio::time::interval((window / LOOKS).max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = VecDeque::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
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
        if !download.job.fill.is_followed() || download.job.permit.is_wanted_more() {
            let endpoint = download.endpoints().last().copied().unwrap_or(0);
            let crawls = Failure::Timeout("its body comes too slowly");
            tracing::debug!(digest = %download.job.fill.digest, "a download that brings next to nothing is ended");
            download.fail(Stop::Failed(client.error_at(endpoint, crawls).into()));
            return;
        }
    }
}
