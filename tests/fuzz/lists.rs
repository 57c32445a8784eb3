//! Tag lists and lists of referrers.

use roadstead::upstream::{ReferrerList, TagList};
use serde_json::Value;

use crate::fuzz;
use crate::text::{json_bytes, text};

const WORDS: &[&str] = &["name", "tags", "latest", "v1", "", "../x", "\r\n", "library/app", "\\", "\"", "\",\""];

#[test]
fn a_tag_list_is_read_whole_or_refused() {
    fuzz(|u| {
        let body = bytes::Bytes::from(json_bytes(u, WORDS)?);
        let Some(list) = TagList::read(&body) else { return Ok(()) };
        // A string in a field that nobody reads may be none that can be.
        let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
        assert!(value.is_object(), "{value}");
        let tags = value.get("tags").and_then(Value::as_array);
        let listed: Vec<_> = tags.into_iter().flatten().map(|tag| tag.as_str().unwrap()).collect();
        assert_eq!(list.names().collect::<Vec<_>>(), listed);
        assert_eq!(serde_json::from_slice::<Vec<String>>(list.json()).unwrap(), listed);
        Ok(())
    });
}

#[test]
fn a_page_is_what_sorting_all_names_gives() {
    fuzz(|u| {
        let mut names = Vec::new();
        for _ in 0..u.int_in_range(0..=6)? {
            names.push(text(u, WORDS, 3)?);
        }
        let last = if u.arbitrary()? { Some(text(u, WORDS, 2)?) } else { None };
        let limit = u.int_in_range(0..=4)?;
        let tags = TagList::of(names.iter().map(String::as_str));
        let (page, has_more) = tags.page(last.as_deref(), limit);
        names.sort_unstable();
        names.dedup();
        names.retain(|name| last.as_ref().is_none_or(|last| name > last));
        assert_eq!(has_more, names.len() > limit);
        names.truncate(limit);
        assert_eq!(page.names().collect::<Vec<_>>(), names);
        assert_eq!(serde_json::from_slice::<Vec<String>>(page.json()).unwrap(), names);
        Ok(())
    });
}

#[test]
fn of_referrers_only_what_can_be_pulled_goes_on_as_it_was_written() {
    const WORDS: &[&str] = &[
        "manifests",
        "digest",
        "mediaType",
        "size",
        "artifactType",
        "a/b",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "",
    ];
    fuzz(|u| {
        let body = json_bytes(u, WORDS)?;
        let Some(list) = ReferrerList::read(&body, false) else { return Ok(()) };
        let kept: Vec<Value> = serde_json::from_slice(list.json()).unwrap_or_default();
        let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
        for descriptor in &kept {
            assert!(value["manifests"].as_array().unwrap().contains(descriptor), "{descriptor}");
            assert!(descriptor["size"].is_u64() && descriptor["mediaType"].is_string(), "{descriptor}");
        }
        assert_eq!(ReferrerList::joined(&[list.clone(), list.clone()]), list);
        Ok(())
    });
}
