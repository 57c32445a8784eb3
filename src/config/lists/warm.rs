//! Lists of images that are kept fresh: `[[warm]]`.

use std::time::Duration;

use crate::jobs::export::held::WantedPlatforms;
use crate::jobs::warm::WarmRequest;
use crate::jobs::warm::schedule::WarmSchedule;
use crate::jobs::warm::select::Selector;
use crate::oci::ImageName;

use crate::config::section::Section;

const EVERY: Duration = Duration::from_hours(1);
/// Shortest period: tags are not checked more often.
const SHORTEST: Duration = Duration::from_mins(1);

pub(in crate::config) fn check(root: &Section<'_>) -> Vec<WarmSchedule> {
    let mut lists: Vec<WarmSchedule> = Vec::new();
    for list in root.sections("warm") {
        let name = super::name(&list, lists.iter().map(|other| &other.name), "`status` and the metrics");
        let (references, file) = super::images(&list, read);
        let platforms = list.texts("platforms").unwrap_or_default();
        if let Err(why) = WantedPlatforms::parse(&platforms) {
            list.problem("platforms", why);
        }
        let referrers = list.flag("referrers").unwrap_or(false);
        let every = list.duration("every").unwrap_or(EVERY);
        if every < SHORTEST {
            list.problem("every", "must be a minute or more");
        }
        list.finish();
        let request = WarmRequest { references, platforms, referrers };
        lists.push(WarmSchedule { name, request, file, every });
    }
    lists
}

/// A name of an image, or a selector of tags.
fn read(text: &str) -> Result<(), String> {
    let repository = match Selector::split(text) {
        None => return text.parse::<ImageName>().map(drop).map_err(|err| err.to_string()),
        Some(split) => split?.0,
    };
    ImageName::parse_repository(repository).map(drop).map_err(|err| err.to_string())
}
