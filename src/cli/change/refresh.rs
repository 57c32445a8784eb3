//! `refresh`: checks tags with their registries now.

use std::process::ExitCode;

use roadstead::jobs::change::refresh;
use serde_json::{Value, json};

use super::Items;
use crate::cli::reach::{Reach, Request};

pub(in crate::cli) fn run(reach: &Reach, globs: &[String], now: bool, as_json: bool) -> Result<(), ExitCode> {
    let mut items = Items::new(as_json);
    let mut after: Option<String> = None;
    loop {
        let order = json!({ "globs": globs, "after": after, "now": now });
        let answer = reach.answer(Request::post("/api/v1/refresh").with(&order), async |mirror| {
            Ok(serde_json::to_value(refresh(mirror, globs, after.as_deref(), now).await?).unwrap_or_default())
        })?;
        items.add(&answer);
        match answer.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return items.end(),
        }
    }
}
