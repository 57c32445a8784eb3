//! How commands find a mirror: over the network, over its socket, in its storage.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{roadstead, stdout, told};
use crate::operations::program::stderr;
use crate::support::mirror::Mirror;
use crate::support::upstream::Canary;

const NOWHERE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n";

#[tokio::test]
async fn a_command_finds_the_mirror_over_the_network_the_socket_and_in_a_stopped_storage() {
    let directory = tempfile::tempdir().unwrap();
    let (token, wrong) = (directory.path().join("token"), directory.path().join("wrong"));
    std::fs::write(&token, "right-token\n").unwrap();
    std::fs::write(&wrong, "wrong-token\n").unwrap();
    let line = format!("admin_token_file = \"{}\"", token.display());
    let mirror = Mirror::builder(NOWHERE).admin_listen("0.0.0.0:0").server(&line).start().await;
    let url = format!("http://127.0.0.1:{}", mirror.admin.port());
    let over_network = async |arguments: &[&str], token: &std::path::Path| {
        let at = ["--server", &url, "--token-file", token.to_str().unwrap()];
        roadstead(&[arguments, &at[..]].concat()).await
    };
    let status = over_network(&["status"], &token).await;
    assert!(status.status.success() && stdout(&status).contains("running: yes"), "{}", stderr(&status));
    let added = over_network(&["pin", "add", "docker.io/org/**"], &token).await;
    assert_eq!(stdout(&added), "docker.io/org/**\n", "{}", stderr(&added));
    let refused = over_network(&["pin", "ls"], &wrong).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("admin_token_file"), "{}", stderr(&refused));
    let backup = over_network(&["backup", "-"], &token).await;
    assert!(stdout(&backup).ends_with("{\"end\":{\"facts\":1}}\n"), "{}", stderr(&backup));
    let file = mirror.config_file();
    assert_eq!(told(&file, &["status"]).await["running"], true);
    let stopped = mirror.stop().await;
    assert_eq!(told(&stopped.config_file(), &["status"]).await["running"], false);
    assert_eq!(told(&stopped.config_file(), &["pin", "ls"]).await["pins"][0]["pattern"], "docker.io/org/**");
}

#[tokio::test]
async fn what_names_no_server_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    for arguments in [
        &["status", "--server", "mirror.corp:5001"][..],
        &["status", "--server", "ftp://mirror.corp"],
        &["status", "--server", "http://user:secret@mirror.corp"],
        &["status", "--server", "http://127.0.0.1:9", "--token-file", "/does/not/exist"],
        &["status", "--server", "http://127.0.0.1:9", "--token-file", empty],
        &["status", "--token-file", empty],
        &["status", "--server", "http://127.0.0.1:9", "--config", "x.toml"],
        &["stat"],
    ] {
        let output = roadstead(arguments).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("secret"), "{}", stderr(&output));
    }
    let nobody = roadstead(&["status", "--server", "http://127.0.0.1:9"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("http://127.0.0.1:9"), "{}", stderr(&nobody));
}

#[tokio::test]
async fn t72_a_command_follows_no_redirect_with_its_token() {
    let canary = Canary::listen();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let elsewhere =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n", canary.url());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(elsewhere.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "right-token\n").unwrap();
    let output = roadstead(&["status", "--server", &url, "--token-file", token.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("307"), "{}", stderr(&output));
    assert!(answering.await.unwrap().contains("Authorization: Bearer right-token"));
    canary.assert_untouched();
}
