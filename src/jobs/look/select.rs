//! Selectors of tags, among those that are held.

use std::sync::Arc;

use super::find::holdings;
use crate::jobs::Refused;
use crate::jobs::warm::select::Selector;
use crate::mirror::Mirror;
use crate::oci::ImageName;

/// The names that one line of a list stands for: itself, or the held tags that its selector chooses.
pub async fn held_names(mirror: &Arc<Mirror>, text: &str) -> Result<Vec<String>, Refused> {
    let Some(split) = Selector::split(text) else { return Ok(vec![text.to_owned()]) };
    let (repository, selector) = split.map_err(Refused::invalid)?;
    let (authority, repository) = ImageName::parse_repository(repository).map_err(Refused::invalid)?;
    let holdings = holdings(mirror, &authority, &repository)?;
    let tags = mirror.cache().index.tags_of(holdings.scope(), holdings.whole_authority()).await?;
    let chosen = selector.choose(tags);
    if chosen.is_empty() {
        return Err(Refused::not_found("no tag that is held is selected"));
    }
    Ok(chosen.into_iter().map(|tag| format!("{authority}/{repository}:{tag}")).collect())
}
