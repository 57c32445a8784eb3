//! `alias`: another name for a tag.

use std::process::ExitCode;

use roadstead::jobs::change::alias;
use roadstead::oci::ImageName;
use serde_json::json;

use crate::cli::output::{plain, print, usage};
use crate::cli::reach::{Reach, Request};

pub(in crate::cli) fn run(reach: &Reach, name: &str, target: &str) -> Result<(), ExitCode> {
    let typed = |text: &str| text.parse::<ImageName>().map_err(|err| usage(&format!("{text}: {err}")));
    let (from, to) = (typed(name)?, typed(target)?);
    let order = json!({ "alias": name, "target": target });
    let made = reach.answer(Request::post("/api/v1/alias").with(&order), async |mirror| {
        Ok(serde_json::to_value(alias(mirror, &from, &to).await?).unwrap_or_default())
    })?;
    print(&format!("{} is {}", plain(&made, "alias"), plain(&made, "target")));
    Ok(())
}
