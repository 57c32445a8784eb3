//! Names of tags in the form in which they are kept and answered: the JSON array that upstream wrote. A long list is a part
//! of the body that brought it, and a page is cut from it without making a value of each name.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::oci::read_object;

/// A JSON array of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(Bytes);

#[derive(Deserialize)]
struct Body<'a> {
    /// `null` in registries without tags.
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Default for TagList {
    fn default() -> Self {
        Self(Bytes::from_static(b"[]"))
    }
}

impl TagList {
    /// Reads the body of an answer. `None` if it is not the spec's JSON.
    pub fn read(body: &Bytes) -> Option<Self> {
        let Body { tags } = read_object(body)?;
        let Some(tags) = tags else { return Some(Self::default()) };
        serde_json::Deserializer::from_str(tags.get()).deserialize_seq(AllNames).ok()?;
        Some(Self(body.slice_ref(tags.get().as_bytes())))
    }

    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut written = Written(Vec::new());
        for name in names {
            written.push(name);
        }
        written.finish()
    }

    /// A list as [`Self::json`] gave it.
    pub fn kept(json: Bytes) -> Self {
        Self(json)
    }

    pub fn json(&self) -> &Bytes {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.next_name(0).is_none()
    }

    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (start, end) = self.next_name(at)?;
            at = end;
            Some(self.name(start, end))
        })
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, more: &[String]) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        let mut written = Written(Vec::with_capacity(self.0.len() + more.len() * 16));
        if !self.is_empty() {
            written.0.extend_from_slice(self.0.strip_suffix(b"]").unwrap_or_default());
        }
        for name in more {
            written.push(name);
        }
        written.finish()
    }

    /// In ASCII order and each once: the names behind `last`, at most `limit`, and whether there are more.
    #[must_use]
    pub fn page(&self, last: Option<&str>, limit: usize) -> (Self, bool) {
        // Positions and not texts: a list of four bytes a name must not cost sixteen more for each.
        let mut names: Vec<(u32, u32)> = Vec::with_capacity(self.count());
        let mut at = 0;
        while let Some((start, end)) = self.next_name(at) {
            at = end;
            let is_behind = last.is_none_or(|last| *self.name(start, end) > *last);
            if let (true, Ok(start), Ok(end)) = (is_behind, u32::try_from(start), u32::try_from(end)) {
                names.push((start, end));
            }
        }
        let name = |(start, end): (u32, u32)| self.name(start as usize, end as usize);
        names.sort_unstable_by(|one, other| name(*one).cmp(&name(*other)));
        names.dedup_by(|one, other| name(*one) == name(*other));
        let has_more = names.len() > limit;
        names.truncate(limit);
        let length: usize = names.iter().map(|(start, end)| (end - start) as usize + 1).sum();
        let mut written = Written(Vec::with_capacity(length + 2));
        for (start, end) in names {
            written.push_json(self.0.get(start as usize..end as usize).unwrap_or_default());
        }
        (written.finish(), has_more)
    }

    pub fn count(&self) -> usize {
        let (mut count, mut at) = (0, 0);
        while let Some((_, end)) = self.next_name(at) {
            (count, at) = (count + 1, end);
        }
        count
    }

    /// The position of the next name behind `at`, quotes included.
    fn next_name(&self, at: usize) -> Option<(usize, usize)> {
        let rest = self.0.get(at..)?;
        let start = at + rest.iter().position(|byte| *byte == b'"')?;
        let inside = self.0.get(start + 1..)?;
        let mut is_escaped = false;
        let length = inside.iter().position(|byte| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        })?;
        Some((start, start + length + 2))
    }

    fn name(&self, start: usize, end: usize) -> Cow<'_, str> {
        let json = self.0.get(start..end).unwrap_or_default();
        if json.contains(&b'\\') {
            return Cow::Owned(serde_json::from_slice(json).unwrap_or_default());
        }
        let inside = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
        Cow::Borrowed(std::str::from_utf8(inside).unwrap_or_default())
    }
}

/// A list while it is written.
struct Written(Vec<u8>);

impl Written {
    fn separate(&mut self) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
    }

    fn push(&mut self, name: &str) {
        self.separate();
        // Writing into memory cannot fail.
        let _infallible = serde_json::to_writer(&mut self.0, name);
    }

    fn push_json(&mut self, name: &[u8]) {
        self.separate();
        self.0.extend_from_slice(name);
    }

    fn finish(mut self) -> TagList {
        if self.0.is_empty() {
            return TagList::default();
        }
        self.0.push(b']');
        self.0.shrink_to_fit();
        TagList(self.0.into())
    }
}

/// Reads past names, and nothing else.
struct AllNames;

impl<'de> Visitor<'de> for AllNames {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<(), A::Error> {
        while let Some(Name(_name)) = names.next_element()? {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_as_it_is_answered() {
        let read = |body: &'static str| TagList::read(&Bytes::from_static(body.as_bytes()));
        let list = read(r#"{"name":"a","tags":[ "b" , "a\/\u00e9\"" ]}"#).unwrap();
        assert_eq!(list.json(), r#"[ "b" , "a\/\u00e9\"" ]"#.as_bytes());
        assert_eq!(list.names().collect::<Vec<_>>(), ["b", "a/\u{e9}\""]);
        for none in [r#"{"tags":null}"#, r#"{"name":"a"}"#, r#"{"tags":[]}"#, r#"{"tags":[ ]}"#] {
            assert!(read(none).unwrap().is_empty(), "{none}");
        }
        for bad in [r#"{"tags":[1]}"#, r#"{"tags":[null]}"#, r#"{"tags":{}}"#, "[]", r#"{"tags":["a"}"#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_is_cut_in_order() {
        let list = TagList::of(["c", "a", "b\"", "a", "d"]);
        let page = |last, limit| {
            let (page, more) = list.page(last, limit);
            (page.names().map(Cow::into_owned).collect::<Vec<_>>(), more)
        };
        assert_eq!(page(None, 9), (vec!["a".into(), "b\"".into(), "c".into(), "d".into()], false));
        assert_eq!(page(Some("a"), 2), (vec!["b\"".into(), "c".into()], true));
        assert_eq!(page(Some("d"), 2), (Vec::new(), false));
        assert_eq!(list.count(), 5);
        assert_eq!(list.and(&["x".to_owned()]).names().last().unwrap(), "x");
        assert_eq!(TagList::default().and(&["x".to_owned()]), TagList::of(["x"]));
    }
}
