//! Long lists are read off the runtime, a few at a time.

use tokio::sync::Semaphore;

use crate::shared_bytes::SHORT;

/// Texts longer than [`SHORT`] that are read at one time, whoever asked for them: each may take a few times its size.
static READERS: Semaphore = Semaphore::const_new(4);

/// Does work whose cost goes with a text of `length` bytes; a short one is read where it came. `None` if it panicked.
pub async fn read_in_turn<T: Send + 'static>(length: usize, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if length <= SHORT {
        return Some(read());
    }
    let _turn = READERS.acquire().await.ok()?;
    tokio::task::spawn_blocking(read).await.ok()
}
