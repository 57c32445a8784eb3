//! Lists of images whose coverage is a metric: `[[coverage]]`.

use std::path::PathBuf;

use crate::jobs::look::CoverageList;
use crate::oci::ImageName;

use super::section::Section;

pub(super) fn check(root: &Section<'_>) -> Vec<CoverageList> {
    let mut lists: Vec<CoverageList> = Vec::new();
    for list in root.sections("coverage") {
        let name = list.text("name").unwrap_or_default();
        if name.is_empty() {
            list.problem("name", "is the label of the list in the metrics, and must be there");
        } else if lists.iter().any(|other| other.name == name) {
            list.problem("name", "is the name of another list");
        }
        let images = list.each("images", |text| text.parse::<ImageName>().map(|_| text.to_owned())).unwrap_or_default();
        let file = list.text("file").map(PathBuf::from);
        if images.is_empty() && file.is_none() {
            list.problem("images", "must name some, or `file` a list of them");
        }
        if file.as_ref().is_some_and(|file| !file.exists()) {
            list.doubt("file", "is not there now");
        }
        let platforms = list.parsed_list("platforms").unwrap_or_default();
        list.finish();
        lists.push(CoverageList { name, images, file, platforms });
    }
    lists
}
