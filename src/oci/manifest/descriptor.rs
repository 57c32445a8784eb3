//! Descriptors, as far as a mirror has to know them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::oci::{Digest, Platform, Scalar};

/// Most descriptors that a manifest may list: each is a row that is looked at when the image is used. Images have up to 127
/// layers, and indexes some dozens of manifests.
pub(super) const MAX_DESCRIPTORS: usize = 2000;
/// Longest word of a platform that is read. Bytes.
const MAX_PLATFORM_WORD: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDescriptor<'a> {
    #[serde(borrow, default)]
    digest: Scalar<'a>,
    #[serde(borrow, default)]
    size: Scalar<'a>,
    #[serde(borrow, default)]
    pub(super) media_type: Scalar<'a>,
    /// The content itself, in base64 (image-spec, descriptor.md).
    #[serde(borrow, default)]
    data: Scalar<'a>,
    #[serde(borrow, default)]
    urls: Scalar<'a>,
    #[serde(borrow)]
    platform: Option<RawPlatform<'a>>,
}

#[derive(Deserialize)]
struct RawPlatform<'a> {
    #[serde(borrow, default)]
    os: Scalar<'a>,
    #[serde(borrow, default)]
    architecture: Scalar<'a>,
    #[serde(borrow, default)]
    variant: Scalar<'a>,
}

impl RawPlatform<'_> {
    /// `None` if a word of it is too long for any that there is.
    fn platform(&self) -> Option<Platform> {
        let words = [&self.os, &self.architecture, &self.variant];
        let is_short = words.iter().all(|word| word.text().is_none_or(|word| word.len() <= MAX_PLATFORM_WORD));
        let word = |word: &Scalar<'_>| word.text().unwrap_or_default().to_owned();
        let variant = self.variant.text().map(str::to_owned);
        is_short.then(|| Platform { os: word(&self.os), architecture: word(&self.architecture), variant })
    }
}

/// What clients will ask for here.
pub(super) struct Needed {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) platform: Option<Platform>,
}

impl RawDescriptor<'_> {
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest.text()?.parse().ok()
    }

    /// What it names, if clients will ask for it here.
    pub(super) fn needed(&self) -> Option<Needed> {
        let digest = self.digest()?;
        let size_bytes = self.size.number().filter(|_| !self.is_foreign() && !self.is_known_to_all(digest))?;
        Some(Needed { digest, size_bytes, platform: self.platform.as_ref().and_then(RawPlatform::platform) })
    }

    /// Whether clients have the content without a request: inlined, or `{}` of the empty descriptor.
    fn is_known_to_all(&self, digest: Digest) -> bool {
        let is_content = |content: &[u8]| Digest::of(digest.algorithm(), content) == digest;
        let inlined = self.data.text().and_then(|data| STANDARD.decode(data).ok());
        inlined.is_some_and(|data| is_content(&data)) || is_content(b"{}")
    }

    /// Whether it is a layer that clients fetch from its `urls`, such as a base layer of Windows.
    fn is_foreign(&self) -> bool {
        let is_type = |text: &str| text.contains(".foreign.") || text.contains(".nondistributable.");
        matches!(self.urls, Scalar::Texts(1..)) && self.media_type.text().is_some_and(is_type)
    }
}

/// A list of descriptors: those that clients will ask for.
pub(super) struct Listed {
    pub(super) needed: Vec<Needed>,
    pub(super) count: usize,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Descriptors;

        impl<'de> Visitor<'de> for Descriptors {
            type Value = Listed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Listed, A::Error> {
                let mut listed = Listed { needed: Vec::new(), count: 0 };
                while listed.count < MAX_DESCRIPTORS {
                    let Some(descriptor) = values.next_element::<Option<RawDescriptor<'_>>>()? else {
                        return Ok(listed);
                    };
                    listed.count += 1;
                    listed.needed.extend(descriptor.and_then(|descriptor| descriptor.needed()));
                }
                while values.next_element::<IgnoredAny>()?.is_some() {
                    listed.count += 1;
                }
                Ok(listed)
            }
        }

        deserializer.deserialize_seq(Descriptors)
    }
}
