//! The least that a proven cold pull costs on this machine: a forwarder that receives, writes, hashes and sends, and does
//! nothing else. It keeps nothing, checks nothing but the digest, and panics where a server would have an answer.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use roadstead::oci::{Algorithm, Hasher};
use rustix::fs::{FallocateFlags, fallocate, sendfile};

const PIECE_BYTES: usize = 512 * 1024;
/// Pieces that are received and not yet hashed.
const AHEAD: usize = 4;
/// Sent when the digest is known.
const WITHHELD_BYTES: u64 = 64 * 1024;
const HEAD_BYTES: usize = 16 * 1024;
/// Smaller bodies are passed on as they come.
const SMALL_BYTES: u64 = 64 * 1024;

/// Serves one connection after another until the bench ends.
pub(crate) fn start(upstream: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that has gone ends its connection.
            thread::spawn(move || drop(serve(client, upstream)));
        }
    });
    address
}

fn serve(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    loop {
        let (request, _) = head(&mut client)?;
        upstream.write_all(request.as_bytes())?;
        let (answer, begun) = head(&mut upstream)?;
        client.write_all(answer.as_bytes())?;
        let size = header(&answer, "content-length").and_then(|length| length.parse().ok());
        let size: u64 = size.expect("the upstream tells how long its answers are");
        if size <= SMALL_BYTES {
            client.write_all(&begun)?;
            io::copy(&mut (&mut upstream).take(size - begun.len() as u64), &mut client)?;
        } else {
            let digest =
                request.split_whitespace().find_map(|path| path.rsplit_once('/')).expect("blobs have a path").1;
            pass(&mut upstream, &client, begun, size, digest)?;
        }
    }
}

/// Receives here, writes and hashes in a second thread, sends from the file in a third.
fn pass(upstream: &mut TcpStream, client: &TcpStream, begun: Vec<u8>, size: u64, digest: &str) -> io::Result<()> {
    let file = &tempfile::tempfile()?;
    fallocate(file, FallocateFlags::KEEP_SIZE, 0, size)?;
    let (give, pieces) = sync_channel::<Vec<u8>>(AHEAD);
    let (free, buffers) = channel();
    let (tell, ends) = channel();
    (0..AHEAD + 2).try_for_each(|_| free.send(Vec::with_capacity(PIECE_BYTES))).map_err(io::Error::other)?;
    thread::scope(|scope| {
        let proof = scope.spawn(move || {
            let (mut hash, mut at) = (Hasher::new(Algorithm::Sha256), 0);
            for piece in pieces {
                file.write_all_at(&piece, at)?;
                at += piece.len() as u64;
                tell.send(at.min(size - WITHHELD_BYTES)).map_err(io::Error::other)?;
                hash.update(&piece);
                // The receiver has ended when the last ones come back.
                let _ended = free.send(piece);
            }
            assert_eq!(hash.finish().to_string(), digest, "the upstream sent another blob");
            tell.send(size).map_err(io::Error::other)
        });
        let sending = scope.spawn(move || {
            let mut at = 0;
            for end in ends {
                while at < end {
                    let window = usize::try_from(end - at).unwrap_or(usize::MAX);
                    sendfile(client, file, Some(&mut at), window)?;
                }
            }
            Ok(())
        });
        receive(upstream, begun, size, &give, &buffers)?;
        drop(give);
        proof.join().and_then(|proved| sending.join().map(|sent| proved.and(sent))).expect("no thread panics")
    })
}

fn receive(
    upstream: &mut TcpStream,
    begun: Vec<u8>,
    size: u64,
    give: &SyncSender<Vec<u8>>,
    buffers: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut left = size - begun.len() as u64;
    give.send(begun).map_err(io::Error::other)?;
    while left > 0 {
        let mut piece = buffers.recv().map_err(io::Error::other)?;
        let length = left.min(PIECE_BYTES as u64);
        piece.resize(usize::try_from(length).unwrap_or(PIECE_BYTES), 0);
        upstream.read_exact(&mut piece)?;
        left -= length;
        give.send(piece).map_err(io::Error::other)?;
    }
    Ok(())
}

/// A head, and what came behind it.
fn head(from: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut there = Vec::new();
    let mut buffer = vec![0; HEAD_BYTES];
    loop {
        if let Some(end) = there.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = there.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&there).into_owned(), rest));
        }
        match from.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => there.extend_from_slice(buffer.get(..more).unwrap_or_default()),
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
