//! `block`: what may not be pulled any more.

use std::process::ExitCode;

use clap::Subcommand;
use roadstead::jobs::{add_blocks, list_blocks, remove_blocks};
use roadstead::oci::BlockPattern;
use serde_json::{Value, json};

use crate::cli::output::{list, number, plain, print, print_json, usage};
use crate::cli::reach::{Reach, Request, query};

#[derive(Subcommand)]
pub(in crate::cli) enum Action {
    /// Show all blocks.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give nobody these any more. What is being sent or downloaded ends at once.
    Add {
        /// Digests of manifests or layers, or globs over registry/repository or registry/repository:tag.
        #[arg(value_name = "DIGEST|GLOB", required = true)]
        blocks: Vec<String>,
        /// Clients are told it.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take blocks back.
    Rm {
        /// As `ls` shows them.
        #[arg(value_name = "DIGEST|GLOB", required = true)]
        blocks: Vec<String>,
    },
}

pub(in crate::cli) fn run(reach: &Reach, action: &Action) -> Result<(), ExitCode> {
    let (method, blocks, reason, as_json) = match action {
        Action::Ls { json } => ("GET", &[][..], None, *json),
        Action::Add { blocks, reason } => ("POST", blocks.as_slice(), reason.as_ref(), false),
        Action::Rm { blocks } => ("DELETE", blocks.as_slice(), None, false),
    };
    if let Action::Add { blocks, .. } = action {
        // The mirror would refuse it as well. What is mistyped is told as that.
        for block in blocks.iter().filter(|block| !block.contains('@')) {
            block.parse::<BlockPattern>().map_err(|err| usage(&format!("{block}: {err}")))?;
        }
    }
    let keys = blocks.iter().map(|block| ("block", block)).chain(reason.map(|reason| ("reason", reason)));
    let path = query("/api/v1/blocks", keys);
    let blocks = reach.answer(Request { method, path: &path, body: None }, async |mirror| {
        let blocks = match action {
            Action::Ls { .. } => list_blocks(mirror).await,
            Action::Add { blocks, reason } => add_blocks(mirror, blocks, reason.as_deref()).await,
            Action::Rm { blocks } => remove_blocks(mirror, blocks).await,
        };
        Ok(json!({ "blocks": blocks? }))
    })?;
    if as_json {
        print_json(&blocks);
        return Ok(());
    }
    for block in list(&blocks, "blocks") {
        let also = match number(block, "also") {
            0 => String::new(),
            also => format!(" (and {also} that only it uses)"),
        };
        let reason = block.get("reason").and_then(Value::as_str);
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        print(&format!("{}{also}{reason}", plain(block, "what")));
    }
    Ok(())
}
