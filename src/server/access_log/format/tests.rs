use std::io;
use std::sync::{Arc, Mutex};

use http::Method;
use tracing_subscriber::Layer as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::server::access_log::request_id::RequestId;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The line as `tracing` writes it, in the format of `telemetry`.
fn traced(format: Format, line: &AccessLine, end: &End<'_>) -> String {
    let log_text = Written::default();
    let layer = tracing_subscriber::fmt::layer().with_writer(log_text.clone()).with_ansi(false).with_target(false);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || trace(line, end));
    let bytes = log_text.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn by_hand(format: Format, line: &AccessLine, end: &End<'_>) -> String {
    let mut out = Vec::new();
    write(&mut out, format, line, end);
    String::from_utf8(out).unwrap()
}

/// The line with zeros for the digits of its time.
fn timeless(line: &str) -> String {
    let mut left = 20;
    let blank = |c: char| {
        let is_of_time = c.is_ascii_digit() && left > 0;
        left -= i32::from(is_of_time);
        if is_of_time { '0' } else { c }
    };
    line.chars().map(blank).collect()
}

#[test]
fn a_line_reads_as_the_others_do() {
    let references = ["latest", "", "a \"b\" \\ c", "x\r\nforged\u{1b}[0m\t", "ü\u{200b}\u{7f}", "sha256:0"];
    let durations =
        [0, 1, 499, 500, 999, 1000, 99_500, 100_000, 250_000_000, 5_000_000, 1_234_567_890, 86_400_000_000_000];
    let long = [b'x'; 1000];
    let agents: [&[u8]; 5] = [b"containerd/2.1", b"a \"b\" \\ c", b"\t\xff\xfe", "docker/ü".as_bytes(), &long];
    for (nth, reference) in references.into_iter().cycle().take(24).enumerate() {
        let nanos = durations[nth % durations.len()];
        let labels = Labels { authority: "docker.io".to_owned(), ..Labels::of_path(reference) };
        let line = AccessLine {
            request: RequestId::next(),
            client: if nth % 2 == 0 { "127.0.0.1".parse().unwrap() } else { "2001:db8::1".parse().unwrap() },
            method: if nth % 3 == 0 { Method::HEAD } else { Method::from_bytes(b"M!X").unwrap() },
            labels: Arc::new(labels),
            identity: (nth % 4 == 1).then(|| "ci-a\"".into()),
            outcome: "hit",
            status: 200,
            agent: (nth % 3 != 0).then(|| HeaderValue::from_bytes(agents[nth % agents.len()]).unwrap()),
            error: None,
            remedy: "",
        };
        let end = End {
            level: if nth % 5 == 0 { Level::WARN } else { Level::INFO },
            bytes: u64::MAX >> nth,
            lasted: Duration::from_nanos(nanos),
            first_byte: (nth % 2 == 0).then(|| Duration::from_nanos(nanos / 7)),
            error: (nth % 4 == 0).then_some(reference),
        };
        for format in [Format::Text, Format::Json] {
            // Labels cache their text in the one format of the process.
            let line = AccessLine {
                labels: Arc::new(Labels { authority: "docker.io".to_owned(), ..Labels::of_path(reference) }),
                ..line.clone()
            };
            let (traced, by_hand) = (traced(format, &line, &end), by_hand(format, &line, &end));
            assert_eq!(timeless(&by_hand), timeless(&traced));
            assert_eq!(by_hand.lines().count(), 1);
        }
    }
}
