//! An import onto a disk that is full before it ends: takes root and `/dev/fuse`.

use rustix::io::Errno;

use super::bundles::{archive, blobs, index};
use super::{app, assert_nothing_of, assert_served, lines, text};
use crate::facts::backup::said;
use crate::support::faulty_disk::{Fault, FaultyDisk, Op};
use crate::support::mirror::{Mirror, files_below};

#[tokio::test]
async fn a_disk_that_is_full_in_mid_import_leaves_what_was_whole_and_the_next_import_goes_on() {
    let (one, two) = (app(1), app(5));
    let mut files = vec![index(&[(&one, "docker.io/org/one:1"), (&two, "docker.io/org/two:1")])];
    files.extend(blobs(&one));
    files.extend(blobs(&two));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b.tar");
    std::fs::write(&bundle, archive(&files)).unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-the-site\n").unwrap();
    let key = format!("admin_token_file = \"{}\"", token.display());
    let import = async |mirror: &Mirror| {
        // There is no socket on such a disk.
        let url = format!("http://{}", mirror.admin);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.env_clear().args(["import", "--json", text(&bundle), "--server", &url, "--token-file", text(&token)]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let (mut whole, mut lacking) = (0, 0);
    for writes in [0, 3, 5, 7, 9] {
        let disk = FaultyDisk::mount();
        let toml = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n";
        let mirror = Mirror::builder(toml).server(&key).directory(disk.directory()).start().await;
        disk.fails(Fault::on(Op::Write).at("/partial/").with(Errno::NOSPC).after(writes).always());
        let done = import(&mirror).await;
        let (items, _) = lines(&done);
        for (item, repository, image) in [(&items[0], "org/one", &one), (&items[1], "org/two", &two)] {
            if item["outcome"] == "done" {
                assert_served(&mirror, repository, "1", image).await;
                whole += 1;
            } else {
                assert_eq!(item["outcome"], "failed", "after {writes} writes: {items:?}");
                assert!(item["problem"].as_str().unwrap().contains("was not stored"), "{items:?}");
                assert_nothing_of(&mirror, repository, image).await;
                lacking += 1;
            }
        }
        let is_all = items.iter().all(|item| item["outcome"] == "done");
        assert_eq!(done.status.success(), is_all, "{}", said(&done));
        disk.heals();
        let done = import(&mirror).await;
        assert!(done.status.success(), "after {writes} writes: {}", said(&done));
        assert_served(&mirror, "org/one", "1", &one).await;
        assert_served(&mirror, "org/two", "1", &two).await;
        assert_eq!(files_below(&mirror.storage().join("blobs")).len(), 8);
        assert!(files_below(&mirror.storage().join("partial")).is_empty());
    }
    assert!(whole > 0 && lacking > 2, "{whole} were whole, {lacking} were not: other moments are needed");
}
