use std::time::Duration;

use super::upstream::PATIENCE;

/// Resolves when it is so. Fails the test where that takes longer than `PATIENCE`.
///
/// For what nothing announces: a metric, a file, an answer. Where a gate or a channel tells it, a test waits for that.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not so after {PATIENCE:?}: {what}"));
}
