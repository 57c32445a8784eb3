//! Named lists of images: `[[coverage]]` and `[[warm]]`.

pub(super) mod coverage;
pub(super) mod warm;

use std::fmt::Display;
use std::path::PathBuf;

use super::section::Section;

/// The name of a list, which no other of `names` has. `label_of` says where it is shown.
fn name(list: &Section<'_>, names: impl IntoIterator<Item = impl AsRef<str>>, label_of: &str) -> String {
    let name = list.text("name").unwrap_or_default();
    if name.is_empty() {
        list.problem("name", format!("is the label of the list in {label_of}, and must be there"));
    } else if names.into_iter().any(|other| other.as_ref() == name) {
        list.problem("name", "is the name of another list");
    }
    name
}

/// `images`, each of which `parse` takes, and `file`. One of them must be there.
fn images<E: Display>(list: &Section<'_>, parse: impl Fn(&str) -> Result<(), E>) -> (Vec<String>, Option<PathBuf>) {
    let images = list.each("images", |text| parse(text).map(|()| text.to_owned())).unwrap_or_default();
    let file = list.text("file").map(PathBuf::from);
    if images.is_empty() && file.is_none() {
        list.problem("images", "must name some, or `file` a list of them");
    }
    if file.as_ref().is_some_and(|file| !file.exists()) {
        list.doubt("file", "is not there now");
    }
    (images, file)
}
