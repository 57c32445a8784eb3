use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Deserialize;

use super::asked::Asked;
use super::{ApiBody, json};
use crate::jobs::Refused;
use crate::jobs::look::{self, PageQuery, Selection, Sort, UsageReports};
use crate::mirror::Mirror;
use crate::oci::{ImageName, Named, Platform};

/// Names in one call.
const MAX_NAMES: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CoverageQuestion {
    references: Vec<String>,
    #[serde(default)]
    platforms: Vec<String>,
}

fn page(asked: &Asked) -> Result<PageQuery, Refused> {
    Ok(PageQuery { after: asked.text("after").map(str::to_owned), limit: asked.parsed("limit")? })
}

pub(super) async fn repositories(
    mirror: &Mirror,
    reports: &UsageReports,
    asked: &Asked,
) -> Result<Response<ApiBody>, Refused> {
    let sort = asked.parsed::<Sort>("sort")?.unwrap_or_default();
    let selection = Selection { glob: asked.text("glob"), contains: asked.text("contains") };
    let found = look::repositories(mirror, reports, selection, sort, &page(asked)?).await?;
    Ok(json(StatusCode::OK, &found))
}

pub(super) async fn usage(mirror: &Mirror, reports: &UsageReports) -> Result<Response<ApiBody>, Refused> {
    Ok(json(StatusCode::OK, &look::used(mirror, reports).await?))
}

pub(super) fn activity(mirror: &Mirror) -> Response<ApiBody> {
    json(StatusCode::OK, &look::activity(mirror))
}

pub(super) async fn tags(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let repository: String = asked.required("repository")?;
    let (authority, repository) = ImageName::parse_repository(&repository).map_err(Refused::invalid)?;
    let found = look::tags(mirror, (&authority, &repository), asked.text("glob"), &page(asked)?).await?;
    Ok(json(StatusCode::OK, &found))
}

pub(super) async fn inspect(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let named: Named = asked.required("reference")?;
    Ok(json(StatusCode::OK, &look::inspect(mirror, &named).await?))
}

pub(super) async fn coverage(mirror: &Arc<Mirror>, asked: Asked) -> Result<Response<ApiBody>, Refused> {
    let CoverageQuestion { references, platforms } = asked.json().await?;
    if references.len() > MAX_NAMES {
        return Err(Refused::too_many(MAX_NAMES));
    }
    let read = |text: &String| text.parse::<Platform>().map_err(|err| Refused::invalid(format!("{text}: {err}")));
    let platforms = platforms.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &look::coverage(mirror, &references, &platforms).await))
}

pub(super) async fn who(mirror: &Arc<Mirror>, asked: &Asked) -> Result<Response<ApiBody>, Refused> {
    let named: Named = asked.required("reference")?;
    let since = asked.text("since").map(humantime::parse_duration).transpose();
    let since = since.map_err(|err| Refused::invalid(format!("since: {err}")))?;
    Ok(json(StatusCode::OK, &look::who(mirror, &named, since).await?))
}
