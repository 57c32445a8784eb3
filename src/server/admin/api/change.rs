use std::sync::Arc;

use bytesize::ByteSize;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::asked::Asked;
use super::jobs::started;
use super::{ApiBody, json};
use crate::cache::retention::Gc;
use crate::jobs::change::{self, LongChange, Refresh, Removal};
use crate::jobs::{JobRunner, Refused};
use crate::mirror::Mirror;
use crate::oci::ImageName;
use crate::quote::quoted;

/// Names in one call.
const MAX_NAMES: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveOrder {
    references: Vec<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
    /// Start a job, and do not wait for it.
    #[serde(default)]
    job: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshOrder {
    globs: Vec<String>,
    #[serde(default)]
    after: Option<String>,
    /// Take what they point to now, whatever `min_age` says.
    #[serde(default)]
    now: bool,
    /// Start a job, and do not wait for it.
    #[serde(default)]
    job: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasOrder {
    alias: String,
    target: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GcOrder {
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    unused_for: Option<String>,
    /// Start a job, and do not wait for it.
    #[serde(default)]
    job: bool,
}

pub(super) async fn remove(
    mirror: &Arc<Mirror>,
    runner: &Arc<JobRunner>,
    asked: Asked,
) -> Result<Response<ApiBody>, Refused> {
    let RemoveOrder { references, dry_run, force, job } = asked.json().await?;
    if references.len() > MAX_NAMES {
        return Err(Refused::too_many(MAX_NAMES));
    }
    let how = Removal { dry_run, force };
    if job {
        return started(runner.change(LongChange::Remove(references, how)));
    }
    Ok(json(StatusCode::OK, &change::remove(mirror, &references, how).await))
}

pub(super) async fn refresh(
    mirror: &Arc<Mirror>,
    runner: &Arc<JobRunner>,
    asked: Asked,
) -> Result<Response<ApiBody>, Refused> {
    let RefreshOrder { globs, after, now, job } = asked.json().await?;
    if globs.len() > MAX_NAMES {
        return Err(Refused::too_many(MAX_NAMES));
    }
    if job && after.is_some() {
        return Err(Refused::invalid("after: a job checks all tags"));
    }
    let which = Refresh::read(mirror, &globs, now)?;
    if job {
        return started(runner.change(LongChange::Refresh(which)));
    }
    Ok(json(StatusCode::OK, &change::refresh(mirror, &which, after.as_deref()).await?))
}

pub(super) async fn alias(mirror: &Arc<Mirror>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let AliasOrder { alias, target } = asked.json().await?;
    let read =
        |text: &str| text.parse::<ImageName>().map_err(|err| Refused::invalid(format!("{}: {err}", quoted(text))));
    Ok(json(StatusCode::OK, &change::alias(mirror, &read(&alias)?, &read(&target)?).await?))
}

pub(super) async fn gc(
    mirror: &Arc<Mirror>,
    runner: &Arc<JobRunner>,
    asked: Asked,
) -> Result<Response<ApiBody>, Refused> {
    let GcOrder { to, unused_for, job } = asked.json().await?;
    let gc = match (to, unused_for) {
        (Some(to), None) => {
            let size: ByteSize = to.parse().map_err(|err| Refused::invalid(format!("to: {err}")))?;
            Gc::To(size.as_u64())
        }
        (None, Some(age)) => Gc::UnusedFor(
            humantime::parse_duration(&age).map_err(|err| Refused::invalid(format!("unused_for: {err}")))?,
        ),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Refused::invalid("it takes either `to`, as in \"10GiB\", or `unused_for`, as in \"30d\""));
        }
    };
    if job {
        return started(runner.change(LongChange::Gc(gc)));
    }
    Ok(json(StatusCode::OK, &change::collect(mirror, gc).await))
}
