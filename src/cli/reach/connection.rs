//! One HTTP/1.1 exchange over a connection of its own.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Largest head of an answer, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
/// Bytes of an upload that are sent at one time.
const PIECE: usize = 64 * 1024;

/// An answer with its unread body.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: u16,
    /// Its `Date`, as the server wrote it.
    pub(in crate::cli) date: Option<String>,
    pub(in crate::cli) body: Box<dyn Read>,
}

/// The body of a request.
pub(in crate::cli) enum Upload<'a> {
    Nothing,
    Json(Vec<u8>),
    /// Of unknown length; its media type.
    Stream(&'a str, &'a mut dyn Read),
}

/// The head of a request.
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) token: Option<&'a str>,
}

/// Sends the request and reads the head of the answer.
pub(super) fn exchange<S: Read + Write + 'static>(
    mut stream: S,
    head: &Head<'_>,
    upload: Upload<'_>,
) -> io::Result<Answer> {
    let sent = send(&mut stream, head, upload);
    // A server that refuses an upload answers before it has read all of it.
    let answer = read_answer(stream);
    if answer.is_err() { sent.and(answer) } else { answer }
}

fn send(stream: &mut impl Write, head: &Head<'_>, upload: Upload<'_>) -> io::Result<()> {
    let Head { method, path, host, token } = head;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}");
    match upload {
        Upload::Nothing if *method == "GET" => stream.write_all(format!("{text}\r\n").as_bytes())?,
        Upload::Nothing => stream.write_all(format!("{text}Content-Length: 0\r\n\r\n").as_bytes())?,
        Upload::Json(body) => {
            let length = body.len();
            let head = format!("{text}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
        }
        Upload::Stream(kind, body) => {
            let head = format!("{text}Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            send_chunks(stream, body)?;
        }
    }
    stream.flush()
}

fn send_chunks(stream: &mut impl Write, body: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = match body.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        write!(stream, "{length:x}\r\n")?;
        stream.write_all(buffer.get(..length).unwrap_or_default())?;
        stream.write_all(b"\r\n")?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_answer(stream: impl Read + 'static) -> io::Result<Answer> {
    let mut body = BufReader::new(stream);
    let mut head;
    loop {
        head = read_head(&mut body)?;
        // Interim answers come before the one that counts.
        if head.status >= 200 {
            break;
        }
    }
    let AnswerHead { status, length, chunked, date } = head;
    let body: Box<dyn Read> = match (chunked, length) {
        (true, _) => Box::new(Chunks { body, left: 0, has_begun: false, has_ended: false }),
        (false, Some(left)) => Box::new(Sized { body, left }),
        (false, None) => Box::new(body),
    };
    Ok(Answer { status, date, body })
}

struct AnswerHead {
    status: u16,
    length: Option<u64>,
    chunked: bool,
    date: Option<String>,
}

fn read_head(body: &mut impl BufRead) -> io::Result<AnswerHead> {
    let mut head = body.take(LONGEST_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.starts_with("HTTP/1.").then(|| line.split(' ').nth(1)?.trim().parse().ok()).flatten();
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))?;
    let (mut length, mut chunked, mut date) = (None, false, None);
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
        if name.eq_ignore_ascii_case("date") {
            date = Some(value.trim().to_owned());
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    Ok(AnswerHead { status, length, chunked, date })
}

/// A body of a known length: one that ends early is an error.
struct Sized<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Sized<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_up_to(&mut self.body, buffer, &mut self.left)
    }
}

fn read_up_to(body: &mut impl Read, buffer: &mut [u8], left: &mut u64) -> io::Result<usize> {
    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
    let read = body.read(buffer)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *left -= read as u64;
    Ok(read)
}

/// A body in chunks: one without the last one is an error.
struct Chunks<R> {
    body: R,
    left: u64,
    has_begun: bool,
    has_ended: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.has_ended {
            let mut line = String::new();
            if std::mem::replace(&mut self.has_begun, true) {
                self.body.by_ref().take(2).read_line(&mut line)?;
                line.clear();
            }
            self.body.by_ref().take(LONGEST_HEAD).read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(|_not_a_size| io::ErrorKind::UnexpectedEof)?;
            self.has_ended = self.left == 0;
        }
        read_up_to(&mut self.body, buffer, &mut self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &'static str) -> io::Result<String> {
        let mut text = String::new();
        read_answer(answer.as_bytes())?.body.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_body_ends_as_its_head_says_and_one_that_is_cut_is_an_error() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "abcde");
        assert!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").is_err());
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").unwrap(), "abc");
        assert!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").is_err());
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nabc").unwrap(), "abc");
        assert_eq!(body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabc").unwrap(), "abc");
        assert!(body("SSH-2.0-OpenSSH\r\n").is_err() && body("").is_err());
    }

    #[test]
    fn an_upload_is_sent_in_chunks() {
        let mut sent = Vec::new();
        let head = Head { method: "POST", path: "/x", host: "h", token: Some("t") };
        send(&mut sent, &head, Upload::Stream("application/x-tar", &mut &b"abc"[..])).unwrap();
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n") && sent.contains("\r\nAuthorization: Bearer t\r\n"));
    }
}
