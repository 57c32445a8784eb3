//! One connection of a fill: receive, sort, write.
//!
//! Received bytes are the connection's own to write, or known already, or another one's ([`super::segments`]). Receiving
//! goes on while a batch is being written.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::store::PIECE_BYTES;
use crate::upstream::{Failure, OpenedBlob};

use super::Download;
use super::Stop;
use super::receive_buffer::ReceiveBuffer;
use super::segments::{Assignment, Spot};

/// Received and not yet given to the disk. As much again is being written.
const AT_HAND_BYTES: usize = 1024 * 1024;
/// A write of fewer bytes waits for more, as long as they keep coming: each write wakes the hash and every reader.
const WORTH_WRITING: usize = PIECE_BYTES;
/// How long more is waited for, from the first byte that waits.
const LINGER: Duration = Duration::from_millis(2);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// There is nothing more for it to do.
    Done,
    /// The body came to its end, here.
    Whole(u64),
    Broken(Failure),
    /// Shutdown, or trouble elsewhere.
    Stopped,
}

/// A connection's cursor in its body.
struct BodyCursor<'p> {
    assignment: &'p Assignment,
    position: u64,
    received: ReceiveBuffer,
    /// The upstream sends the blob from its start, whatever was asked for: what is known is compared, what others
    /// fetch is skipped.
    is_replay: bool,
    /// It may go on behind its assignment, if nobody else does.
    is_first: bool,
}

type Write = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Download<'_> {
    /// Receives and writes what belongs to `assignment`. No write is under way when it returns.
    pub(super) async fn stream(
        &self,
        opened: OpenedBlob,
        assignment: &Assignment,
        is_first: bool,
    ) -> Result<Ended, Stop> {
        let OpenedBlob { start, mut body, answered_in, .. } = opened;
        self.segments().begun(assignment.id, answered_in);
        let mut cursor = BodyCursor {
            assignment,
            position: start,
            received: ReceiveBuffer::default(),
            is_replay: is_first && start < assignment.range.start,
            is_first,
        };
        let mut writing: Option<Write> = None;
        let mut ended: Option<Ended> = None;
        // When what is at hand is written, however little; the first bytes at once, since somebody waits for them.
        let mut due = Some(Instant::now());
        loop {
            let is_little = (1..WORTH_WRITING).contains(&cursor.received.length());
            let gathers =
                writing.is_none() && ended.is_none() && is_little && due.is_none_or(|due| due > Instant::now());
            let until = *due.get_or_insert_with(|| Instant::now() + LINGER);
            if writing.is_none() && !gathers {
                match self.sort(&mut cursor).await? {
                    Sorted::Write(at, chunks) => {
                        due = None;
                        writing = Some(Box::pin(self.pipeline.write(assignment.id, at, chunks)));
                    }
                    Sorted::Done => return Ok(Ended::Done),
                    Sorted::Nothing => {}
                }
            }
            if writing.is_none()
                && let Some(ended) = ended.take()
            {
                let is_whole = matches!(ended, Ended::Whole(_));
                return Ok(if is_whole { Ended::Whole(cursor.position) } else { ended });
            }
            let written = async {
                match &mut writing {
                    Some(write) => write.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                chunk = body.chunk(), if ended.is_none() && cursor.received.length() < AT_HAND_BYTES => match chunk {
                    Ok(Some(chunk)) => cursor.received.add(&chunk),
                    Ok(None) => ended = Some(Ended::Whole(0)),
                    Err(failure) => ended = Some(Ended::Broken(failure)),
                },
                written = written => {
                    written?;
                    writing = None;
                    if cursor.received.length() == 0 && self.is_outrun(&cursor) {
                        return Ok(Ended::Done);
                    }
                }
                () = tokio::time::sleep_until(until), if gathers => {}
                () = assignment.stop.cancelled(), if ended.is_none() => {
                    cursor.received = ReceiveBuffer::default();
                    ended = Some(Ended::Done);
                }
                () = self.complete.cancelled(), if !is_first && ended.is_none() => ended = Some(Ended::Done),
                () = self.abort.cancelled(), if ended.as_ref().is_none_or(|ended| !matches!(ended, Ended::Stopped)) => {
                    cursor.received = ReceiveBuffer::default();
                    ended = Some(Ended::Stopped);
                }
            }
        }
    }

    /// Whether the next bytes have been given to other connections: then its answer need not be waited for.
    fn is_outrun(&self, cursor: &BodyCursor<'_>) -> bool {
        let segments = self.segments();
        let is_end = segments.size() == Some(cursor.position) || cursor.position == cursor.assignment.range.end;
        match segments.spot(cursor.assignment.id, cursor.position) {
            Spot::Own(_) => false,
            Spot::Free(_) => !cursor.is_first && !is_end,
            Spot::Written(_) | Spot::Foreign(_) => !cursor.is_replay && !is_end,
        }
    }

    /// Decides which of the received bytes are written next.
    async fn sort(&self, cursor: &mut BodyCursor<'_>) -> Result<Sorted, Stop> {
        loop {
            let front_bytes = cursor.received.first_length();
            if front_bytes == 0 {
                return Ok(Sorted::Nothing);
            }
            let (spot, size) = {
                let segments = self.segments();
                (segments.spot(cursor.assignment.id, cursor.position), segments.size())
            };
            if cursor.is_first && size.is_some_and(|size| cursor.position + front_bytes > size) {
                return Err(Stop::Lied);
            }
            match spot {
                Spot::Own(end) => {
                    let at = cursor.position;
                    let length = (cursor.received.length() as u64).min(end - at);
                    self.take_room(length).await?;
                    let mine = self.segments().take(cursor.assignment.id, at, length);
                    self.room.put_back(length - mine);
                    if mine > 0 {
                        return Ok(Sorted::Write(at, cursor.cut(mine)));
                    }
                }
                Spot::Written(until) if cursor.is_replay || cursor.assignment.range.is_empty() => {
                    let known = cursor.cut((until - cursor.position).min(front_bytes));
                    self.compare(cursor.position - known.iter().map(|k| k.len() as u64).sum::<u64>(), known).await?;
                }
                Spot::Free(_) if cursor.is_first => {
                    self.segments().move_on(
                        cursor.assignment.id,
                        cursor.position,
                        self.job.source.client.settings().segments,
                    );
                }
                Spot::Foreign(until) if cursor.is_replay => {
                    let _not_mine = cursor.cut((until - cursor.position).min(front_bytes));
                }
                Spot::Written(_) | Spot::Free(_) | Spot::Foreign(_) => return Ok(Sorted::Done),
            }
        }
    }

    async fn compare(&self, at: u64, chunks: Vec<Bytes>) -> Result<(), Stop> {
        let mut at = at;
        for chunk in chunks {
            let there = self.job.fill.read(at, chunk.len()).await?;
            if there != chunk {
                tracing::warn!(digest = %self.job.fill.digest, "upstream sent other bytes than before; the download starts anew");
                return Err(Stop::StartAnew);
            }
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

enum Sorted {
    /// Bytes at a position.
    Write(u64, Vec<Bytes>),
    Nothing,
    Done,
}

impl BodyCursor<'_> {
    /// The next `length` of the bytes at hand.
    fn cut(&mut self, length: u64) -> Vec<Bytes> {
        let pieces = self.received.cut(length);
        self.position += pieces.iter().map(|assignment| assignment.len() as u64).sum::<u64>();
        pieces
    }
}
