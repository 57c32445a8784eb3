//! Formats access lines exactly as `tracing` would. Done by hand for speed: every hit has a line.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tracing::Level;

use crate::quote::MAX_QUOTED_BYTES;
use crate::telemetry::Format;

use crate::server::access_log::AccessLine;
use crate::server::access_log::labels::Labels;

/// How a request ended.
pub(in crate::server) struct End<'a> {
    pub(in crate::server) level: Level,
    pub(in crate::server) bytes: u64,
    pub(in crate::server) lasted: Duration,
    pub(in crate::server) first_byte: Option<Duration>,
    pub(in crate::server) error: Option<&'a str>,
}

pub(in crate::server) fn write(out: &mut Vec<u8>, format: Format, line: &AccessLine, end: &End<'_>) {
    #[expect(clippy::disallowed_methods, reason = "a log tells the system's time, as all its other lines do")]
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    // Writing to a `Vec` cannot fail.
    let _infallible = match format {
        Format::Text => write_text(out, &now, line, end),
        Format::Json => write_json(out, &now, line, end),
    };
}

fn write_text(out: &mut Vec<u8>, now: &dyn std::fmt::Display, line: &AccessLine, end: &End<'_>) -> std::io::Result<()> {
    write!(out, "{now} {:>5} request client={} method=", end.level.as_str(), line.client)?;
    quoted(out, method(line))?;
    out.extend_from_slice(line.labels.log_text.get_or_init(|| subject_text(&line.labels)));
    if let Some(identity) = &line.identity {
        out.extend_from_slice(b" identity=");
        quoted(out, identity)?;
    }
    number(out, b" status=", line.status.into());
    out.extend_from_slice(b" outcome=\"");
    out.extend_from_slice(line.outcome.as_bytes());
    number(out, b"\" bytes=", end.bytes);
    millis(out, b" ms=", end.lasted);
    if let Some(first_byte) = end.first_byte {
        millis(out, b" first_byte_ms=", first_byte);
    }
    out.extend_from_slice(b" request=\"");
    out.extend_from_slice(line.request.as_str().as_bytes());
    out.push(b'"');
    if let Some(agent) = &line.agent {
        let text = agent_text(agent);
        out.extend_from_slice(b" agent=");
        if is_plain(&text) {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        } else {
            quoted(out, &text)?;
        }
    }
    if let Some(error) = end.error {
        out.extend_from_slice(b" error=");
        quoted(out, error)?;
    }
    out.push(b'\n');
    Ok(())
}

fn write_json(out: &mut Vec<u8>, now: &dyn std::fmt::Display, line: &AccessLine, end: &End<'_>) -> std::io::Result<()> {
    let level = end.level.as_str();
    write!(
        out,
        "{{\"timestamp\":\"{now}\",\"level\":\"{level}\",\"message\":\"request\",\"client\":\"{}\"",
        line.client
    )?;
    out.extend_from_slice(b",\"method\":");
    serde_json::to_writer(&mut *out, method(line))?;
    out.extend_from_slice(line.labels.log_text.get_or_init(|| subject_json(&line.labels)));
    if let Some(identity) = &line.identity {
        out.extend_from_slice(b",\"identity\":");
        serde_json::to_writer(&mut *out, &**identity)?;
    }
    number(out, b",\"status\":", line.status.into());
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(line.outcome.as_bytes());
    number(out, b"\",\"bytes\":", end.bytes);
    millis(out, b",\"ms\":", end.lasted);
    if let Some(first_byte) = end.first_byte {
        millis(out, b",\"first_byte_ms\":", first_byte);
    }
    out.extend_from_slice(b",\"request\":\"");
    out.extend_from_slice(line.request.as_str().as_bytes());
    out.push(b'"');
    if let Some(agent) = &line.agent {
        out.extend_from_slice(b",\"agent\":");
        serde_json::to_writer(&mut *out, &agent_text(agent))?;
    }
    if let Some(error) = end.error {
        out.extend_from_slice(b",\"error\":");
        serde_json::to_writer(&mut *out, error)?;
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

fn subject_text(labels: &Labels) -> Vec<u8> {
    let Labels { kind, authority, repository, reference, .. } = labels;
    format!(" kind={kind:?} authority={authority:?} repository={repository:?} reference={reference:?}").into_bytes()
}

fn subject_json(labels: &Labels) -> Vec<u8> {
    let fields = [
        ("kind", labels.kind),
        ("authority", &labels.authority),
        ("repository", &labels.repository),
        ("reference", &labels.reference),
    ];
    let field = |(name, value): (&str, &str)| format!(",\"{name}\":{}", serde_json::Value::from(value));
    fields.map(field).concat().into_bytes()
}

/// A method may be any word of a client's choice. It is ASCII.
fn method(line: &AccessLine) -> &str {
    let method = line.method.as_str();
    method.get(..MAX_QUOTED_BYTES).unwrap_or(method)
}

/// The beginning of `User-Agent` as text.
fn agent_text(agent: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(agent.as_bytes().get(..MAX_QUOTED_BYTES).unwrap_or(agent.as_bytes()))
}

/// Whether text is the same with and without escapes, as that of nearly all clients is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

fn quoted(out: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    write!(out, "{text:?}")
}

fn number(out: &mut Vec<u8>, name: &[u8], mut number: u64) {
    out.extend_from_slice(name);
    let mut digits = [0; 20];
    let mut length = 0;
    for digit in &mut digits {
        *digit = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.iter().take(length).rev());
}

/// Rounded to microseconds, the precision of these times.
fn micros(duration: Duration) -> u64 {
    u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)
}

/// Writes a decimal in its shortest form: `5.0`, `0.25`, `0.215`.
fn millis(out: &mut Vec<u8>, name: &[u8], duration: Duration) {
    let micros = micros(duration);
    number(out, name, micros / 1000);
    let fraction = micros % 1000;
    let (shortest, width) = match fraction {
        _ if fraction.is_multiple_of(100) => (fraction / 100, 1),
        _ if fraction.is_multiple_of(10) => (fraction / 10, 2),
        _ => (fraction, 3),
    };
    let mut digits = [b'0'; 3];
    let mut rest = shortest;
    for digit in digits.iter_mut().take(width).rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    out.push(b'.');
    out.extend(digits.iter().take(width));
}

/// The same line through `tracing`, for terminals and other subscribers.
pub(in crate::server) fn trace(line: &AccessLine, end: &End<'_>) {
    let millis = |duration| micros(duration) as f64 / 1e3;
    let labels = &line.labels;
    macro_rules! write_at {
        ($level:ident) => {
            tracing::$level!(
                client = %line.client,
                method = method(line),
                kind = labels.kind,
                authority = labels.authority,
                repository = labels.repository,
                reference = labels.reference,
                identity = line.identity.as_deref(),
                status = line.status,
                outcome = line.outcome,
                bytes = end.bytes,
                ms = millis(end.lasted),
                first_byte_ms = end.first_byte.map(millis),
                request = line.request.as_str(),
                agent = line.agent.as_ref().map(agent_text).as_deref(),
                error = end.error,
                "request"
            )
        };
    }
    if end.level == Level::WARN {
        write_at!(warn);
    } else {
        write_at!(info);
    }
}

#[cfg(test)]
#[path = "format/tests.rs"]
mod tests;
