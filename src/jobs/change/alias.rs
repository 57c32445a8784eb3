//! Another name for a tag.

use std::sync::Arc;

use serde::Serialize;

use crate::index::{AliasTarget, Change, PutAlias};
use crate::jobs::look::holdings;
use crate::jobs::{Refused, RefusedCode};
use crate::mirror::Mirror;
use crate::oci::ImageName;

/// What was made.
#[derive(Debug, Serialize)]
pub struct Aliased {
    pub alias: String,
    pub target: String,
}

/// Makes `alias` another name of `target`. One that is there points elsewhere from now on.
pub async fn alias(mirror: &Arc<Mirror>, alias: &ImageName, target: &ImageName) -> Result<Aliased, Refused> {
    let Some(tag) = alias.tag.clone().filter(|_| alias.digest.is_none() && target.digest.is_none()) else {
        return Err(Refused::invalid(
            "an alias is a tag, as in \"docker.io/library/app:stable\", and so is its target",
        ));
    };
    let (from, to) = (
        holdings(mirror, &alias.authority, &alias.repository)?,
        holdings(mirror, &target.authority, &target.repository)?,
    );
    let target = AliasTarget {
        authority: to.scope().authority.clone(),
        repository: to.scope().repository.clone(),
        tag: target.tag_or_latest(),
    };
    if from.scope() == to.scope() && tag == target.tag {
        return Err(Refused::new(RefusedCode::Conflict, "a tag cannot be an alias of itself"));
    }
    if to.tag(&target.tag).await?.is_some_and(|row| row.alias.is_some()) {
        return Err(Refused::new(
            RefusedCode::Conflict,
            format!("{target} is an alias itself: name what it points to"),
        ));
    }
    if from.tag(&tag).await?.is_some_and(|row| row.is_pinned) {
        let why = format!("{alias} is pinned to a digest: take the pin back first");
        return Err(Refused::new(RefusedCode::Conflict, why));
    }
    let index = &mirror.cache().index;
    let (scope, at) = (from.scope().clone(), mirror.cache().context.clock.now());
    let name = format!("{}/{}:{tag}", scope.authority, scope.repository);
    index.apply_durably(vec![Change::from(PutAlias { scope, tag, target: target.clone(), at })]).await?;
    tracing::info!(alias = name, %target, "a tag is an alias now: it is answered with what its target points to");
    Ok(Aliased { alias: name, target: target.to_string() })
}
