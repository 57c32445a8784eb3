//! Bodies over TLS 1.3. The client has one cipher suite, so that every server uses the same.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use roadstead::oci::{Algorithm, Hasher};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::programs::Secure;

const BUFFER_BYTES: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_mins(1);

/// How clients connect.
pub(crate) struct SecureClient {
    config: Arc<ClientConfig>,
}

impl SecureClient {
    pub(crate) fn new(secure: &Secure) -> Self {
        let suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = CryptoProvider { cipher_suites: suites, ..default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the suite is one of TLS 1.3")
            .with_root_certificates(secure.roots.clone())
            .with_no_client_auth();
        Self { config: Arc::new(config) }
    }

    /// So many clients ask for the path so many times, each on its connection. How long it took, and the bytes.
    pub(crate) fn read_all(&self, from: SocketAddr, path: &str, clients: usize, times: usize) -> (Duration, u64) {
        let begun = Instant::now();
        let bytes = thread::scope(|scope| {
            let client = || {
                let mut stream = self.connect(from).expect("the server speaks TLS");
                let bytes = (0..times).map(|_| get(&mut stream, from, path, |_| ()).expect("the server answers"));
                bytes.sum::<u64>()
            };
            let started: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            started.into_iter().map(|client| client.join().expect("every client gets what it asks for")).sum()
        });
        (begun.elapsed(), bytes)
    }

    /// Asks once and compares what came with the digest.
    pub(crate) fn verified(&self, from: SocketAddr, path: &str, digest: &str) {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut stream = self.connect(from).expect("the server speaks TLS");
        get(&mut stream, from, path, |piece| hasher.update(piece)).expect("the server answers");
        assert_eq!(hasher.finish().to_string(), digest, "{path} from {from}");
    }

    fn connect(&self, to: SocketAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(to.ip());
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn get(
    stream: &mut StreamOwned<ClientConnection, TcpStream>,
    from: SocketAddr,
    path: &str,
    mut each: impl FnMut(&[u8]),
) -> io::Result<u64> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {from}\r\n\r\n").as_bytes())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut received = 0;
    let (head, length) = loop {
        if let Some(found) = super::requests::head(buffer.get(..received).unwrap_or_default())? {
            break found;
        }
        received += more(stream, buffer.get_mut(received..).unwrap_or_default())?;
    };
    each(buffer.get(head..received).unwrap_or_default());
    let mut left = length.saturating_sub(received - head);
    while left > 0 {
        let piece = more(stream, &mut buffer)?;
        each(buffer.get(..piece).unwrap_or_default());
        left -= piece;
    }
    Ok(length as u64)
}

fn more(stream: &mut StreamOwned<ClientConnection, TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        more => Ok(more),
    }
}
