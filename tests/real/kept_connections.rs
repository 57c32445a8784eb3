//! A front door that closes connections while they are used again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::distance::Distance;
use crate::support::image::{Dialect, Image};
use crate::support::mirror::{Mirror, Transport};
use crate::support::nginx::Nginx;
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::work_folder;

const ROUNDS: usize = 40;
const AT_ONCE: usize = 50;
/// The end of a connection and a request on it pass each other on the way.
const ONE_WAY: Duration = Duration::from_millis(10);

/// nginx closes a connection after a second of rest: just when the next round would use it.
#[test]
fn no_cold_manifest_fails_behind_an_nginx_that_keeps_connections_for_a_second() {
    let folder = work_folder();
    let folder = folder.path();
    let registry = Registry::open(folder);
    let image = Image::single(folder, Dialect::Oci, "1", "kept connections");
    registry.push(&image);
    let tags: Vec<String> = (0..ROUNDS * AT_ONCE).map(|nth| format!("t{nth}")).collect();
    for tag in &tags {
        registry.tag(tag, image.digest());
    }
    let nginx = Nginx::in_front_of(&registry, folder);
    let far = Distance::to(nginx.port, ONE_WAY);
    let upstream = format!("[upstreams.\"quay.test\"]\nurl = \"http://127.0.0.1:{}\"\n", far.port);
    let mirror = Mirror::start(folder, Transport::Plain, &upstream);

    let mut failed = Vec::new();
    for (round, tags) in tags.chunks(AT_ONCE).enumerate() {
        // Around the second, as nobody knows when nginx counts it.
        thread::park_timeout(Duration::from_millis(960 + (round as u64 * 7) % 40));
        let asked: Vec<_> = tags
            .iter()
            .map(|tag| {
                let path = format!("/v2/quay.test/{REPOSITORY}/manifests/{tag}");
                let address = mirror.address();
                thread::spawn(move || status(&address, &path))
            })
            .collect();
        let statuses = asked.into_iter().map(|asked| asked.join().expect("a client does not panic"));
        failed.extend(statuses.filter(|status| status != "200"));
    }
    assert!(failed.is_empty(), "of {}: {failed:?}", tags.len());
}

fn status(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the mirror listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the mirror reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the mirror answers");
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}
