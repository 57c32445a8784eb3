//! Lists of images whose coverage is a metric: `[[coverage]]`.

use crate::jobs::look::CoverageList;
use crate::oci::ImageName;

use crate::config::section::Section;

pub(in crate::config) fn check(root: &Section<'_>) -> Vec<CoverageList> {
    let mut lists: Vec<CoverageList> = Vec::new();
    for list in root.sections("coverage") {
        let name = super::name(&list, lists.iter().map(|other| &other.name), "the metrics");
        let (images, file) = super::images(&list, |text| text.parse::<ImageName>().map(drop));
        let platforms = list.parsed_list("platforms").unwrap_or_default();
        list.finish();
        lists.push(CoverageList { name, images, file, platforms });
    }
    lists
}
