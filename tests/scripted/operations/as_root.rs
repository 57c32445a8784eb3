//! The storage of another user: only root can make one.

use super::program::{run, stderr};

/// Its files would keep the owner's server from starting.
#[tokio::test]
async fn a_command_leaves_nothing_in_the_storage_of_another_user() {
    let data = tempfile::tempdir().unwrap();
    let storage = data.path().join("data");
    let file = data.path().join("roadstead.toml");
    std::fs::write(&file, format!("[storage]\npath = \"{}\"\n", storage.display())).unwrap();
    std::fs::create_dir(&storage).unwrap();
    std::fs::write(storage.join("VERSION"), "1\n").unwrap();
    let files = data.path().join("facts");
    std::os::unix::fs::chown(&storage, Some(65534), Some(65534)).unwrap();
    for command in [&["status"][..], &["verify"], &["lost"], &["pin", "ls"], &["backup", files.to_str().unwrap()]] {
        let output = run(&[command, &["--config", file.to_str().unwrap()]].concat(), &[]);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("belongs to the user with the id 65534"), "{command:?}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(&storage).unwrap().count(), 1, "but what was there");
    std::os::unix::fs::chown(&storage, Some(rustix::process::geteuid().as_raw()), None).unwrap();
    let output = run(&["status", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
