//! `refresh`: checks tags with their registries now.

use std::process::ExitCode;
use std::sync::Arc;

use roadstead::jobs::change::{LongChange, Refresh};
use roadstead::mirror::Mirror;
use serde_json::json;

use crate::cli::carry::follow::Shown;
use crate::cli::output::number;
use crate::cli::reach::Reach;

pub(in crate::cli) fn run(reach: &Reach, globs: &[String], now: bool, as_json: bool) -> Result<(), ExitCode> {
    let mut shown = Shown::new(as_json, false);
    let orders = [super::order(json!({ "globs": globs, "now": now }))];
    let here = |mirror: &Arc<Mirror>| Ok(LongChange::Refresh(Refresh::read(mirror, globs, now)?));
    let job = super::change(reach, &mut shown, "/api/v1/refresh", &orders, here)?;
    if number(&job, "items") == 0 {
        shown.remark("nothing is named by this");
    }
    super::end(shown, &job)
}
