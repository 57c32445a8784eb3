//! Descriptors of referrers in the form in which they are kept and answered: a JSON array of what upstream wrote.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::oci::{Digest, Field, MediaType, Scalar, read_object};

/// Deepest nesting in a descriptor that is passed on. Those of the spec have two levels.
const MAX_DEPTH: usize = 16;

/// A JSON array of descriptors that name something which can be pulled, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerList(Bytes);

#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow, default)]
    manifests: Field<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    #[serde(borrow, default)]
    media_type: Scalar<'a>,
    #[serde(borrow, default)]
    digest: Scalar<'a>,
    #[serde(borrow, default)]
    size: Scalar<'a>,
    #[serde(borrow, default)]
    artifact_type: Scalar<'a>,
}

impl Descriptor<'_> {
    /// What it names; `None` if a client could not pull that.
    fn usable(&self) -> Option<Digest> {
        let is_typed = self.media_type.text().and_then(MediaType::parse).is_some();
        let digest = self.digest.text()?.parse().ok()?;
        (is_typed && self.size.number().is_some()).then_some(digest)
    }
}

impl Default for ReferrerList {
    fn default() -> Self {
        Self(Bytes::from_static(b"[]"))
    }
}

impl ReferrerList {
    /// Reads an index. `None` if it is none; one without a list of manifests has none only if `must_list`.
    pub fn read(body: &[u8], must_list: bool) -> Option<Self> {
        let index: Index<'_> = read_object(body)?;
        match index.manifests {
            Field::Absent if must_list => None,
            Field::Absent | Field::Null => Some(Self::default()),
            Field::Given(manifests) => Self::of_usable([manifests.get()]),
        }
    }

    /// Whether this begins as a JSON object and is none: what it lists cannot be told.
    pub fn breaks_off(body: &[u8]) -> bool {
        body.trim_ascii_start().starts_with(b"{") && read_object::<IgnoredAny>(body).is_none()
    }

    /// All pages as one list.
    pub fn joined(pages: &[Self]) -> Self {
        match pages {
            [] => Self::default(),
            [page] => page.clone(),
            pages => Self::of_usable(pages.iter().map(Self::text)).unwrap_or_default(),
        }
    }

    /// Descriptors that were made here.
    pub fn of(descriptors: &[serde_json::Value]) -> Self {
        let json = serde_json::to_string(descriptors).unwrap_or_default();
        Self::of_usable([json.as_str()]).unwrap_or_default()
    }

    /// A list as [`Self::json`] gave it.
    pub fn kept(json: Bytes) -> Self {
        Self(json)
    }

    pub fn json(&self) -> &Bytes {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() <= b"[]".len()
    }

    /// Those of these types: a descriptor without `artifactType` has none of them.
    #[must_use]
    pub fn of_types(&self, wanted: &[String]) -> Self {
        let mut kept = Kept::default();
        let _readable = each(self.text(), |item, descriptor| {
            if descriptor.artifact_type.text().is_some_and(|have| wanted.iter().any(|want| want == have)) {
                kept.push(item);
            }
        });
        kept.finish()
    }

    /// What the descriptors name.
    pub fn digests(&self) -> Vec<Digest> {
        let mut digests = Vec::new();
        let _readable = each(self.text(), |_, descriptor| digests.extend(descriptor.usable()));
        digests
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn of_usable<'a>(lists: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut seen, mut kept) = (HashSet::new(), Kept::default());
        for list in lists {
            kept.0.reserve(list.len());
            each(list, |item, descriptor| {
                if let Some(digest) = descriptor.usable().filter(|_| depth(item) <= MAX_DEPTH)
                    && seen.insert(digest)
                {
                    kept.push(item);
                }
            })?;
        }
        Some(kept.finish())
    }
}

#[derive(Default)]
struct Kept(Vec<u8>);

impl Kept {
    fn push(&mut self, descriptor: &str) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        self.0.extend_from_slice(descriptor.as_bytes());
    }

    fn finish(mut self) -> ReferrerList {
        if self.0.is_empty() {
            return ReferrerList::default();
        }
        self.0.push(b']');
        self.0.shrink_to_fit();
        ReferrerList(self.0.into())
    }
}

/// Shows each descriptor of a list, as it is written and as far as it is read here. `None` if it is no list.
fn each(list: &str, mut show: impl FnMut(&str, &Descriptor<'_>)) -> Option<()> {
    struct Items<F>(F);

    impl<'de, F: FnMut(&str, &Descriptor<'_>)> Visitor<'de> for Items<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of descriptors")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
            while let Some(item) = items.next_element::<&RawValue>()? {
                if let Some(descriptor) = read_object::<Descriptor<'_>>(item.get().as_bytes()) {
                    (self.0)(item.get(), &descriptor);
                }
            }
            Ok(())
        }
    }

    serde_json::Deserializer::from_str(list).deserialize_seq(Items(&mut show)).ok()
}

/// How deep the objects and arrays of valid JSON are nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            b'"' if !is_escaped => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped;
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(digit: char, rest: &str) -> String {
        let digest = format!("sha256:{}", digit.to_string().repeat(64));
        format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1{rest}}}"#)
    }

    fn read(items: &[String]) -> ReferrerList {
        ReferrerList::read(format!(r#"{{"manifests":[{}]}}"#, items.join(" , ")).as_bytes(), false).unwrap()
    }

    #[test]
    fn descriptors_go_on_as_they_were_written() {
        let one = descriptor('1', r#", "artifactType":"x/y","annotations":{"z":"1","a":"}"}"#);
        let other = descriptor('2', "");
        let both = read(&[one.clone(), one.clone(), other.clone(), "null".into(), "7".into(), "{}".into()]);
        assert_eq!(both.json(), format!("[{one},{other}]").as_bytes());
        assert_eq!(both.of_types(&["x/y".to_owned()]).json(), format!("[{one}]").as_bytes());
        assert!(both.of_types(&["none/x".to_owned()]).is_empty());
        let pages = [read(std::slice::from_ref(&one)), read(&[one.clone(), other.clone()])];
        assert_eq!(ReferrerList::joined(&pages), both);
    }

    #[test]
    fn what_no_client_could_use_is_left_out() {
        let deep = |levels: usize| descriptor('1', &format!(",\"x\":{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert!(!read(&[deep(MAX_DEPTH - 1)]).is_empty());
        assert!(read(&[deep(MAX_DEPTH)]).is_empty());
        assert!(read(&[deep(100_000)]).is_empty());
        let sized = descriptor('1', "").replace("\"size\":1", "\"size\":-1");
        assert!(read(&[sized]).is_empty());
    }

    #[test]
    fn an_index_without_a_list_is_one_only_where_its_type_says_so() {
        for (body, must_list, is_index) in [
            (r#"{"manifests":null}"#, true, true),
            ("{}", true, false),
            ("{}", false, true),
            (r#"{"manifests":5}"#, false, false),
            ("[]", false, false),
        ] {
            assert_eq!(ReferrerList::read(body.as_bytes(), must_list).is_some(), is_index, "{body}");
        }
    }
}
