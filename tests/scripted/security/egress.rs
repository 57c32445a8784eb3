//! An egress proxy that a test owns: HTTP (plain and CONNECT) and SOCKS5. It dials where its table says, whatever the
//! name, so that the upstream behind it may have any address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

pub(super) struct Egress {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    routes: Mutex<HashMap<String, SocketAddr>>,
    seen: Mutex<Vec<Seen>>,
    /// `name:password` for SOCKS5.
    login: Option<String>,
}

/// A connection that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `CONNECT`, another method, or `SOCKS5`.
    pub(super) how: String,
    /// `host:port`.
    pub(super) target: String,
    /// `Proxy-Authorization`, or a SOCKS5 `name:password`.
    pub(super) login: Option<String>,
}

impl Egress {
    pub(super) async fn start() -> Self {
        Self::with_login(None).await
    }

    /// SOCKS5 only: insists on this `name:password`.
    pub(super) async fn with_login(login: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { login: login.map(str::to_owned), ..State::default() });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // A connection that ends in an error ends.
                tokio::spawn(async move { drop(state.serve(client).await) });
            }
        });
        Self { address, state }
    }

    /// `host:port` is reached at `address`.
    pub(super) fn route(&self, target: &str, address: SocketAddr) {
        self.state.routes.lock().unwrap().insert(target.to_owned(), address);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl State {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut first = [0];
        client.peek(&mut first).await?;
        if first == [5] { self.serve_socks(client).await } else { self.serve_http(&mut client).await }
    }

    fn open(&self, how: &str, target: &str, login: Option<String>) -> Option<SocketAddr> {
        self.seen.lock().unwrap().push(Seen { how: how.to_owned(), target: target.to_owned(), login });
        self.routes.lock().unwrap().get(target).copied()
    }

    async fn serve_http(&self, client: &mut TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let host = match target.strip_prefix("http://") {
            Some(rest) => rest.split('/').next().unwrap(),
            None => target,
        };
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let login = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
        });
        let Some(address) = self.open(method, &host, login) else {
            return client.write_all(b"HTTP/1.1 502 No Route\r\ncontent-length: 0\r\n\r\n").await;
        };
        let mut server = TcpStream::connect(address).await?;
        if method == "CONNECT" {
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
        } else {
            server.write_all(&head).await?;
        }
        copy_bidirectional(client, &mut server).await.map(drop)
    }

    async fn serve_socks(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut head = [0; 2];
        client.read_exact(&mut head).await?;
        let mut methods = vec![0; usize::from(head[1])];
        client.read_exact(&mut methods).await?;
        let mut login = None;
        if self.login.is_some() {
            client.write_all(&[5, 2]).await?;
            client.read_u8().await?;
            let (name, password) = (read_text(&mut client).await?, read_text(&mut client).await?);
            login = Some(format!("{name}:{password}"));
            let wrong = login != self.login;
            client.write_all(&[1, u8::from(wrong)]).await?;
            if wrong {
                return Ok(());
            }
        } else {
            client.write_all(&[5, 0]).await?;
        }
        let mut request = [0; 4];
        client.read_exact(&mut request).await?;
        let host = match request[3] {
            1 => {
                let mut octets = [0; 4];
                client.read_exact(&mut octets).await?;
                std::net::Ipv4Addr::from(octets).to_string()
            }
            _ => read_text(&mut client).await?,
        };
        let target = format!("{host}:{}", client.read_u16().await?);
        let Some(address) = self.open("SOCKS5", &target, login) else {
            return client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        };
        let mut server = TcpStream::connect(address).await?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }
}

async fn read_text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut text = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
