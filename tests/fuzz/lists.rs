//! Tag lists.

use roadstead::upstream::TagsPage;

use crate::fuzz;
use crate::text::{json_bytes, text};

const WORDS: &[&str] = &["name", "tags", "latest", "v1", "", "../x", "\r\n", "library/app"];

#[test]
fn a_tag_list_is_read_whole_or_refused() {
    fuzz(|u| {
        let body = json_bytes(u, WORDS)?;
        let Some(page) = TagsPage::read(&body, None) else { return Ok(()) };
        // A string in a field that nobody reads may be none that can be.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&body) else { return Ok(()) };
        assert!(value.is_object(), "{value}");
        let tags = value.get("tags").and_then(serde_json::Value::as_array);
        let listed: Vec<_> = tags.into_iter().flatten().map(|tag| tag.as_str().unwrap()).collect();
        assert_eq!(page.tags, listed);
        Ok(())
    });
}

#[test]
fn a_page_survives_being_kept() {
    fuzz(|u| {
        let mut tags = Vec::new();
        for _ in 0..u.int_in_range(0..=5)? {
            tags.push(text(u, WORDS, 3)?);
        }
        let page = TagsPage { tags, next: if u.arbitrary()? { Some(text(u, WORDS, 3)?) } else { None } };
        let kept = serde_json::to_string(&page).unwrap();
        assert_eq!(serde_json::from_str::<TagsPage>(&kept).unwrap(), page);
        Ok(())
    });
}
