//! A server far away: a TCP relay that passes everything on a little later, ends of connections too.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Relays connections on a port of its own to another port, for as long as the test program runs.
pub(crate) struct Distance {
    pub(crate) port: u16,
}

impl Distance {
    pub(crate) fn to(target: u16, one_way: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A connection that breaks is what the stories are about, not a failure of the relay.
                thread::spawn(move || relay(&client, target, one_way).ok());
            }
        });
        Self { port }
    }
}

fn relay(client: &TcpStream, target: u16, one_way: Duration) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || pass(&from_client, &to_server, one_way).ok());
    pass(&server, client, one_way)
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, one_way: Duration) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        // A reset ends it as well.
        let length = from.read(&mut chunk).unwrap_or(0);
        thread::park_timeout(one_way);
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            return to.shutdown(Shutdown::Write);
        };
        to.write_all(read)?;
    }
}
