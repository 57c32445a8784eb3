//! Long lists are read off the runtime, a few at a time.

use tokio::sync::Semaphore;

/// Longest text that is read where it came. Bytes.
const SHORT: usize = 64 * 1024;
/// Longer ones that are read at one time, whoever asked for them: each may take a few times its size.
static READERS: Semaphore = Semaphore::const_new(4);

/// Does work whose cost goes with a text of `length` bytes. `None` if it panicked.
pub async fn read_in_turn<T: Send + 'static>(length: usize, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if length <= SHORT {
        return Some(read());
    }
    let _turn = READERS.acquire().await.ok()?;
    tokio::task::spawn_blocking(read).await.ok()
}
