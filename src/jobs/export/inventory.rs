//! What is held here, as a receipt.

use crate::index::{IndexError, PinRoots, stored_blobs};
use crate::mirror::Mirror;

use crate::jobs::bundle::receipt::Receipt;

/// Rows that are read at a time.
const STEP: usize = 1000;
/// Most blobs, and most images: what a receipt may list.
const MAX: usize = 1_000_000;

/// All blobs that are stored, and all tags with what they point to. At most a million of each.
pub async fn inventory(mirror: &Mirror) -> Result<Receipt, IndexError> {
    let index = &mirror.cache().index;
    let mut receipt = Receipt::default();
    let mut after = None;
    loop {
        let (blobs, next) = stored_blobs(index, after, STEP).await?;
        receipt.blobs.extend(blobs.into_iter().map(|(digest, row)| (digest, (row.size_bytes, 0))));
        match next.filter(|_| receipt.blobs.len() < MAX) {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let (roots, next) = index.pin_roots(PinRoots::Tags, after, STEP).await?;
        for root in roots {
            // A tag whose manifest has gone is not held.
            if let Some(tag) = root.tag.filter(|_| receipt.blobs.contains_key(&root.manifest)) {
                let name = format!("{}/{}:{tag}", root.scope.authority, root.scope.repository);
                receipt.images.insert((name, root.manifest));
            }
        }
        match next.filter(|_| receipt.images.len() < MAX) {
            Some(next) => after = Some(next),
            None => return Ok(receipt),
        }
    }
}
