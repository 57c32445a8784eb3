//! T75, T77, T78: archives of strangers, and what describes the images in them.

use std::io::Read as _;

use roadstead::jobs::bundle::docker_archive::{made_manifest, read_saved};
use roadstead::jobs::bundle::layout::{
    Given, Rename, ToList, blob_path, digest_of_path, name_of, read_index, write_index,
};
use roadstead::jobs::bundle::receipt::Receipt;
use roadstead::jobs::bundle::tar_reader::{MAX_NAME_BYTES, TarKind, TarReader};
use roadstead::jobs::bundle::tar_writer::{TAR_END, tar_bytes, tar_header, tar_padding};
use roadstead::jobs::bundle::unpacked::Unpacked;
use roadstead::jobs::{named_images, warm::select::Selector};
use roadstead::oci::{Algorithm, Digest, Inspected, MediaType, Shape};

use crate::fuzz;
use crate::text::{json_bytes, one};

const WORDS: &[&str] = &[
    "manifests",
    "annotations",
    "digest",
    "mediaType",
    "size",
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
    "io.roadstead.repository",
    "Config",
    "RepoTags",
    "Layers",
    "docker.io/library/app:1",
    "app",
    "1.0",
    "../../etc/passwd",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "",
];

#[test]
fn t78_an_archive_of_any_bytes_ends_and_gives_no_more_than_it_holds() {
    fuzz(|u| {
        let mut bytes: Vec<u8> = u.arbitrary()?;
        // Random bytes are hardly ever a header: some are made.
        for _ in 0..u.int_in_range(0..=4)? {
            let size: u64 = u.int_in_range(0..=2000)?;
            let mut header = tar_header(one(u, WORDS)?.get(..80).unwrap_or("blobs/sha256/aa"), size).to_vec();
            let (at, byte) = (u.int_in_range(0..=511)?, u.arbitrary()?);
            if u.arbitrary()? {
                header[at] = byte;
            }
            header.extend(vec![byte; usize::try_from(size).unwrap()]);
            bytes.splice(0..0, header);
        }
        let total = bytes.len() as u64;
        let Ok(unpacked) = Unpacked::new(bytes.as_slice()) else { return Ok(()) };
        let mut reader = TarReader::new(unpacked);
        let mut given = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            assert!(entry.name.len() <= MAX_NAME_BYTES);
            if entry.kind == TarKind::File {
                let mut content = Vec::new();
                let _cut = reader.by_ref().take(entry.size_bytes).read_to_end(&mut content);
                assert!(content.len() as u64 <= entry.size_bytes);
                given += content.len() as u64;
            }
        }
        assert!(given <= total.max(1) * 2000, "{given} of {total}");
        Ok(())
    });
}

#[test]
fn an_archive_is_read_as_it_was_written() {
    fuzz(|u| {
        let contents: Vec<Vec<u8>> = u.arbitrary()?;
        let (mut archive, mut expected) = (Vec::new(), 0);
        for content in &contents {
            let digest = Digest::of(Algorithm::Sha256, content);
            archive.extend(tar_header(&blob_path(digest), content.len() as u64));
            archive.extend(content);
            archive.extend(vec![0; tar_padding(content.len() as u64)]);
            expected += tar_bytes(content.len() as u64);
            assert_eq!(archive.len() as u64, expected);
        }
        archive.extend(TAR_END);
        let mut reader = TarReader::new(archive.as_slice());
        for content in &contents {
            let entry = reader.next_entry().unwrap().unwrap();
            let (prefix, digest) = digest_of_path(&entry.name).unwrap();
            let mut read = vec![0; content.len()];
            reader.read_exact(&mut read).unwrap();
            assert!(prefix.is_empty() && read == *content && digest == Digest::of(Algorithm::Sha256, content));
        }
        assert_eq!(reader.next_entry().unwrap(), None);
        Ok(())
    });
}

#[test]
fn t75_an_index_names_images_by_names_that_are_valid() {
    fuzz(|u| {
        let bytes = json_bytes(u, WORDS)?;
        let rename = Rename::parse(one(u, WORDS)?).ok();
        for listed in read_index(&bytes).unwrap_or_default() {
            let Ok(name) = name_of(&listed.name, rename.as_ref(), u.arbitrary()?) else { continue };
            assert_eq!(name.to_string().parse(), Ok(name.clone()), "{name}");
            let Given::Image(_) = listed.name else { continue };
            let media_type = MediaType::parse(MediaType::OCI_MANIFEST).unwrap();
            let (digest, name) = (listed.digest, name.to_string());
            let written = write_index(&[ToList { digest, media_type, size_bytes: 1, name, has_name: true }]);
            assert_eq!(read_index(&written).unwrap().len(), 1);
        }
        Ok(())
    });
}

#[test]
fn a_saved_image_makes_one_manifest() {
    fuzz(|u| {
        let bytes = json_bytes(u, WORDS)?;
        for image in read_saved(&bytes).unwrap_or_default() {
            let part = |text: &String| roadstead::jobs::bundle::docker_archive::Part {
                digest: Digest::of(Algorithm::Sha256, text.as_bytes()),
                size_bytes: text.len() as u64,
                is_gzip: text.len().is_multiple_of(2),
            };
            let layers: Vec<_> = image.layers.iter().map(part).collect();
            let manifest = made_manifest(part(&image.config), &layers);
            let inspected = Inspected::read(&manifest, None).unwrap();
            assert!(inspected.shape == Shape::Image && inspected.children.len() == 1 + layers.len());
        }
        Ok(())
    });
}

#[test]
fn a_receipt_of_any_text_is_refused_or_written_the_same() {
    fuzz(|u| {
        let mut lines = vec!["roadstead-receipt 1\n".to_owned()];
        for _ in 0..u.int_in_range(0..=8)? {
            let digest = Digest::of(Algorithm::Sha256, &[u.arbitrary()?]);
            lines.push(match u.int_in_range(0..=3)? {
                0 => format!("blob {digest} {}\n", u.arbitrary::<u64>()?),
                1 => format!("blob {digest} {} {}\n", u.arbitrary::<u64>()?, u.arbitrary::<u32>()?),
                2 => format!("image {} {digest}\n", one(u, WORDS)?),
                _ => format!("{}\n", u.arbitrary::<&str>()?),
            });
        }
        let Ok(receipt) = Receipt::read(lines.concat().as_bytes()) else { return Ok(()) };
        let mut written = Vec::new();
        receipt.write(&mut written).unwrap();
        assert_eq!(Receipt::read(written.as_slice()).unwrap(), receipt);
        Ok(())
    });
}

#[test]
fn images_of_any_text_are_lines_of_it_and_selectors_are_refused_or_choose_what_is_there() {
    fuzz(|u| {
        let text: String = u.arbitrary()?;
        for name in named_images(&text) {
            assert!(text.contains(&name) && !name.is_empty());
        }
        if let Some(Ok((_, selector))) = Selector::split(&text) {
            let tags = vec!["1.0".to_owned(), "latest".to_owned()];
            assert!(selector.choose(tags.clone()).iter().all(|tag| tags.contains(tag)));
        }
        Ok(())
    });
}
