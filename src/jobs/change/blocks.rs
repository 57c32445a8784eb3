//! Adds and removes several blocks at once: all are read before any is made.

use std::sync::Arc;

use serde::Serialize;

use super::pins::read_pattern;
use crate::cache::blocks::BlockError;
use crate::clock::Timestamp;
use crate::index::BlockRow;
use crate::jobs::{Refused, RefusedCode};
use crate::mirror::Mirror;
use crate::oci::{BlockPattern, BlockedNames, ImageName};
use crate::quote::quoted;

/// Patterns in one call.
const MAX_PATTERNS: usize = 1000;
/// Longest reason. Characters.
const MAX_REASON: usize = 500;

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// A digest, or a glob.
    pub what: BlockPattern,
    pub reason: Option<String>,
    pub at: Timestamp,
    /// How many manifests and layers are blocked because only what this names uses them.
    pub also: usize,
}

/// All blocks, in the order of their texts.
pub async fn list_blocks(mirror: &Arc<Mirror>) -> Result<Vec<BlockEntry>, Refused> {
    let cache = mirror.cache();
    let entry = |(what, row): (BlockPattern, BlockRow)| {
        let BlockRow { reason, at, reaches, shared } = row;
        BlockEntry { what, reason, at, also: reaches.len().saturating_sub(shared.len()) }
    };
    Ok(cache.blocks.list(&cache.index).await?.into_iter().map(entry).collect())
}

/// Blocks durably. When it returns, nobody is given any of it, and what was being sent or downloaded ends. Returns all blocks.
pub async fn add_blocks(
    mirror: &Arc<Mirror>,
    patterns: &[String],
    reason: Option<&str>,
) -> Result<Vec<BlockEntry>, Refused> {
    check_count(patterns)?;
    if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control)) {
        return Err(Refused::invalid(format!("a reason is one line of at most {MAX_REASON} characters")));
    }
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    let blocks = patterns.iter().map(|text| read(mirror, text)).collect::<Result<Vec<_>, _>>()?;
    let cache = mirror.cache();
    cache.blocks.add(&cache.index, blocks.clone(), reason.map(str::to_owned), cache.context.clock.now()).await?;
    mirror.end_blocked();
    for block in blocks {
        tracing::warn!(block = block.as_str(), reason, "blocked by command: nobody is given it any more");
    }
    list_blocks(mirror).await
}

/// Takes blocks back durably. Returns those that are left.
pub async fn remove_blocks(mirror: &Arc<Mirror>, patterns: &[String]) -> Result<Vec<BlockEntry>, Refused> {
    check_count(patterns)?;
    let known = list_blocks(mirror).await?;
    let mut blocks = Vec::new();
    for text in patterns {
        let unknown = || Refused::not_found(format!("{}: there is no such block", quoted(text)));
        // One of a registry that is not configured any more can be removed too.
        let block = read(mirror, text).or_else(|_unknown| text.parse()).map_err(|_invalid| unknown())?;
        if !known.iter().any(|known| known.what == block) {
            return Err(unknown());
        }
        blocks.push(block);
    }
    let cache = mirror.cache();
    cache.blocks.remove(&cache.index, blocks.clone()).await?;
    for block in blocks {
        tracing::warn!(block = block.as_str(), "a block was taken back by command");
    }
    list_blocks(mirror).await
}

/// A name without globs is one as people type it: a block that matches nothing would go unnoticed.
fn read(mirror: &Arc<Mirror>, text: &str) -> Result<BlockPattern, Refused> {
    let refused = |err: &dyn std::fmt::Display| Refused::invalid(format!("{}: {err}", quoted(text)));
    if let Ok(block) = text.parse::<BlockPattern>()
        && let BlockedNames::Content(_) = block.names
    {
        return Ok(block);
    }
    let typed = Some(text).filter(|text| text.contains('/')).and_then(|text| text.parse::<ImageName>().ok());
    let name = match typed {
        Some(ImageName { digest: Some(_), .. }) => {
            return Err(refused(&"a digest is blocked by itself, in all repositories: leave the name out"));
        }
        Some(ImageName { authority, repository, tag, .. }) => {
            format!("{authority}/{repository}{}", tag.map(|tag| format!(":{tag}")).unwrap_or_default())
        }
        None => text.to_owned(),
    };
    // What is no pin is no block either; the message is that of blocks.
    let _block: BlockPattern = name.parse().map_err(|err| refused(&err))?;
    let pin = read_pattern(mirror, &name)?;
    pin.as_str().parse().map_err(|err| refused(&err))
}

fn check_count(patterns: &[String]) -> Result<(), Refused> {
    match patterns.len() {
        0 => Err(Refused::invalid("nothing is named, as in \"sha256:…\" or \"docker.io/library/app:1\"")),
        1..=MAX_PATTERNS => Ok(()),
        _ => Err(Refused::too_many(MAX_PATTERNS)),
    }
}

impl From<BlockError> for Refused {
    fn from(err: BlockError) -> Self {
        match err {
            BlockError::Index(err) => err.into(),
            BlockError::TooMany => Self::new(RefusedCode::TooLarge, err),
        }
    }
}
