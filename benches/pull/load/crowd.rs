//! Many connections on one thread, whose bodies are dropped in the kernel.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use super::bodies::MSG_TRUNC;

const DROP_BYTES: usize = 1024 * 1024;
const HEAD_BYTES: usize = 4096;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections of one source address.
const FROM_EACH: usize = 1000;

/// How long each connection asks.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Answered,
    /// Again and again without a pause, until so much time has passed; the last answers are waited for.
    Over(Duration),
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Crowd {
    /// Answers with 200, and the bytes of their bodies.
    pub(crate) served: u64,
    pub(crate) bytes: u64,
    /// Answers with 503, and how many of these told when to come back.
    pub(crate) refused: u64,
    pub(crate) told_when: u64,
    /// From the first request to the last head of a first answer.
    pub(crate) all_began: Duration,
    pub(crate) took: Duration,
}

struct Member {
    stream: TcpStream,
    head: Vec<u8>,
    /// Bytes of the body that did not come yet; nothing before the head is there.
    left: Option<u64>,
    has_begun: bool,
    is_done: bool,
}

/// All connect, then all ask for the same. Every answer has to be a 200 of this length or a 503.
pub(crate) fn crowd(to: SocketAddr, path: &str, length: u64, members: usize, until: Until) -> io::Result<Crowd> {
    let mut poll = Poll::new()?;
    let mut all = (0..members).map(|nth| Member::connect(nth, to, &poll)).collect::<io::Result<Vec<_>>>()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let begun = Instant::now();
    for member in &mut all {
        member.ask(&request)?;
    }
    let mut sum = Crowd::default();
    let mut scrap = Box::new_uninit_slice(DROP_BYTES);
    let (mut events, mut running, mut waiting) = (Events::with_capacity(1024), members, members);
    while running > 0 {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for event in &events {
            let Some(member) = all.get_mut(event.token().0).filter(|member| !member.is_done) else { continue };
            loop {
                let is_whole = member.receive(length, &mut scrap, &mut sum)?;
                if member.left.is_some() && !member.has_begun {
                    member.has_begun = true;
                    waiting -= 1;
                    if waiting == 0 {
                        sum.all_began = begun.elapsed();
                    }
                }
                if !is_whole {
                    break;
                }
                match until {
                    Until::Over(lasting) if begun.elapsed() < lasting => member.ask(&request)?,
                    Until::Answered | Until::Over(_) => {
                        member.is_done = true;
                        running -= 1;
                        break;
                    }
                }
            }
        }
    }
    sum.took = begun.elapsed();
    Ok(sum)
}

impl Member {
    fn connect(nth: usize, to: SocketAddr, poll: &Poll) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source(nth), 0)).into())?;
        socket.connect(&to.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(socket.into());
        poll.registry().register(&mut stream, Token(nth), Interest::READABLE)?;
        Ok(Self { stream, head: Vec::new(), left: None, has_begun: false, is_done: false })
    }

    fn ask(&mut self, request: &str) -> io::Result<()> {
        self.head.clear();
        self.left = None;
        // It always fits: the one before it was answered.
        let sent = self.stream.write(request.as_bytes())?;
        if sent < request.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Takes what is there. Whether the answer is whole; if not, the next event tells of more.
    fn receive(&mut self, length: u64, scrap: &mut [MaybeUninit<u8>], sum: &mut Crowd) -> io::Result<bool> {
        loop {
            let received = match self.left {
                Some(0) => return Ok(true),
                Some(left) => {
                    let room = scrap.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    SockRef::from(&self.stream).recv_with_flags(scrap.get_mut(..room).unwrap_or_default(), MSG_TRUNC)
                }
                None => {
                    let mut piece = [0; HEAD_BYTES];
                    let received = self.stream.read(&mut piece);
                    let more = received.as_ref().copied().unwrap_or(0);
                    self.head.extend_from_slice(piece.get(..more).unwrap_or_default());
                    received
                }
            };
            match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => match &mut self.left {
                    Some(left) => *left -= more as u64,
                    None => self.left = left(&self.head, length, sum)?,
                },
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(err) => return Err(err),
            }
        }
    }
}

/// Bytes of the body that did not come with the head, if the head is there.
fn left(there: &[u8], length: u64, sum: &mut Crowd) -> io::Result<Option<u64>> {
    let Some(end) = there.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else { return Ok(None) };
    let text = String::from_utf8_lossy(there.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let told = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
    if text.starts_with("http/1.1 200 ") && told == Some(length) {
        sum.served += 1;
        sum.bytes += length;
    } else if text.starts_with("http/1.1 503 ") {
        sum.refused += 1;
        sum.told_when += u64::from(text.contains("\r\nretry-after: "));
    } else {
        return Err(io::Error::other(format!("neither a 200 of {length} bytes nor a 503: {text}")));
    }
    let came = (there.len() - end - END_OF_HEAD.len()) as u64;
    let told = told.ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok(Some(told.saturating_sub(came)))
}

/// There are only so many ports for each address.
fn source(nth: usize) -> Ipv4Addr {
    let last = u8::try_from(nth / FROM_EACH % 200).unwrap_or(0);
    Ipv4Addr::new(127, 0, 0, 2 + last)
}
