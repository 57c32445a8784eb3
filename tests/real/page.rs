//! The page of the admin side in a real browser: small and large, light and dark, by keyboard, without scripts.
//!
//! `ROADSTEAD_PICTURES=FOLDER` keeps a picture of each page there, to be looked at.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::curl;
use crate::support::image::{Dialect, Image};
use crate::support::mirror::{Mirror, Transport};
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::upstreams::HUB;
use crate::support::work_folder;

const TOKEN: &str = "a-token-for-operators";

struct Story {
    folder: TempDir,
    _registry: Registry,
    mirror: Mirror,
}

impl Story {
    /// An image that was pulled whole, and a registry that is away.
    fn begin() -> Self {
        let folder = work_folder();
        let path = folder.path();
        let registry = Registry::open(path);
        let image = Image::index(path, Dialect::Oci, "1", "an image to look at");
        registry.push(&image);
        fs::write(path.join("token"), TOKEN).expect("a work folder is writable");
        let server = format!("admin_token_file = \"{}\"\n", path.join("token").display());
        let upstreams = format!(
            "[upstreams.\"{HUB}\"]\nurl = \"{}\"\n\n[upstreams.\"away.test\"]\nurl = \"http://127.0.0.1:9\"\n",
            registry.url()
        );
        let mirror = Mirror::start_with(path, Transport::Plain, &server, &upstreams);
        let native = image.native();
        let manifests = ["1", &native.manifest.digest].map(|reference| format!("manifests/{reference}"));
        let blobs = native.blobs.iter().map(|blob| format!("blobs/{}", blob.digest));
        for tail in manifests.into_iter().chain(blobs) {
            assert_eq!(get(path, &mirror, &format!("{REPOSITORY}/{tail}?ns={HUB}")), 200, "{tail}");
        }
        assert_eq!(get(path, &mirror, &format!("{REPOSITORY}/manifests/1?ns=away.test")), 502);
        Self { folder, _registry: registry, mirror }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.mirror.admin_url())
    }

    fn sign_in(&self, browser: &mut Browser) {
        browser.go(&self.url("/sign-in"));
        browser.tab_to("#token");
        browser.type_text(TOKEN);
        browser.enter();
        assert_eq!(browser.value("location.pathname"), "/");
        assert_eq!(browser.value("document.cookie"), "", "no script sees the session");
    }
}

fn get(folder: &Path, mirror: &Mirror, path: &str) -> u16 {
    let url = format!("http://{}/v2/{path}", mirror.address());
    curl::ask(folder, &["--header", "Accept: */*", &url]).expect("the mirror answers").status
}

fn pictures() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("ROADSTEAD_PICTURES")?);
    fs::create_dir_all(&folder).expect("the folder for pictures can be made");
    Some(folder)
}

#[test]
fn every_page_is_accessible_and_fits_small_and_large_light_and_dark() {
    let story = Story::begin();
    let mut browser = Browser::start(story.folder.path());
    let (repository, pictures) = (format!("{HUB}%2F{REPOSITORY}"), pictures());
    let pages = [
        ("sign-in", "/sign-in".to_owned()),
        ("overview", "/".to_owned()),
        ("repositories", "/repositories".to_owned()),
        ("repository", format!("/repository?name={repository}")),
        ("index", format!("/image?reference={repository}:1")),
        ("image", String::new()),
        ("pins", "/pins".to_owned()),
        ("jobs", "/jobs".to_owned()),
    ];
    story.sign_in(&mut browser);
    browser.go(&story.url(&format!("/image?reference={repository}:1")));
    let image = browser.value("document.querySelector('tbody tr td a').getAttribute('href')");
    for scheme in ["light", "dark"] {
        for width in [360, 1920] {
            browser.become_like(width, scheme);
            for (name, path) in &pages {
                let path = if path.is_empty() { image.as_str().expect("a link") } else { path };
                browser.go(&story.url(path));
                let what = format!("{name} at {width} px, {scheme}");
                assert_eq!(browser.complaints(), Vec::<String>::new(), "{what}");
                assert_eq!(browser.barriers(), Vec::<String>::new(), "{what}");
                let overflow = browser.value("document.documentElement.scrollWidth > innerWidth");
                assert_eq!(overflow, json!(false), "{what}: it has to be scrolled sideways");
                let ground = browser.value("getComputedStyle(document.body).backgroundColor");
                let is_dark = ground.as_str().is_some_and(|ground| ground.starts_with("rgb(19,"));
                assert_eq!(is_dark, scheme == "dark", "{what}: {ground}");
                if let Some(pictures) = &pictures {
                    browser.picture(&pictures.join(format!("{name}-{width}-{scheme}.png")));
                }
            }
        }
    }
    // The rules are in force.
    browser.value("document.documentElement.removeAttribute('lang')");
    assert!(browser.barriers().iter().any(|barrier| barrier.contains("html-has-lang")));
}

#[test]
fn an_operator_without_scripts_and_mouse_signs_in_finds_an_image_and_pins_it() {
    let story = Story::begin();
    let mut browser = Browser::start(story.folder.path());
    browser.forbid_scripts();
    browser.become_like(1280, "light");
    story.sign_in(&mut browser);
    browser.key("Tab");
    assert_eq!(browser.value("document.activeElement.className"), "skip", "the first way leads to the content");
    browser.tab_to("input[name=q]");
    browser.type_text(&format!("{HUB}/{REPOSITORY}:1"));
    browser.enter();
    assert_eq!(browser.value("document.querySelector('h1').innerText"), format!("{HUB}/{REPOSITORY}:1"));
    browser.tab_to("form[action='/pin'] button");
    browser.enter();
    assert_eq!(browser.value("location.pathname"), "/pins");
    let pinned = browser.value("document.querySelector('tbody th').innerText");
    assert_eq!(pinned, format!("{HUB}/{REPOSITORY}:1"));
    browser.tab_to("form[action='/unpin'] button");
    browser.enter();
    assert_eq!(browser.value("document.querySelectorAll('tbody tr').length"), 0);
    browser.tab_to("form[action='/sign-out'] button");
    browser.enter();
    assert_eq!(browser.value("document.querySelectorAll('form[method=post]').length"), 0);
}
