//! All facts of one moment, as lines: a snapshot beside the blobs, or a backup.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use redb::ReadTransaction;

use super::framing::{self, Mark};
use super::segments::LogDirectory;
use crate::index::{IndexError, facts};

/// Lines that are written together. Bytes.
const CHUNK: usize = 64 * 1024;

/// Writes `snapshot-<number>.jsonl`, whole or not at all, and removes what it replaces. Returns its size in bytes.
pub(in crate::index) fn take(
    facts: &LogDirectory,
    number: u64,
    from: &ReadTransaction,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, IndexError> {
    let path = facts.snapshot(number);
    let unfinished = path.with_extension("tmp");
    let io = IndexError::Log;
    match std::fs::remove_file(&unfinished) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(io(err)),
        _ => {}
    }
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, LogDirectory::create_file(&unfinished).map_err(io)?);
        write(from, &mut out, goes_on)?;
        let file: File = out.into_inner().map_err(|err| io(err.into_error()))?;
        file.sync_all().map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        std::fs::rename(&unfinished, &path).map_err(io)?;
        facts.sync().map_err(io)?;
        Ok(bytes)
    })();
    if written.is_err() {
        // The next start removes it, if it cannot be removed now.
        let _left = std::fs::remove_file(&unfinished);
        return written;
    }
    facts.remove_superseded().map_err(io)?;
    written
}

/// Writes all facts, and returns how many. Ends early, with an error, when `goes_on` says no.
pub(in crate::index) fn write(
    from: &ReadTransaction,
    out: &mut dyn Write,
    goes_on: &dyn Fn() -> bool,
) -> Result<u64, IndexError> {
    let (mut buffer, mut count) = (Vec::new(), 0_u64);
    framing::write(&Mark::RoadsteadFacts(framing::VERSION), &mut buffer)?;
    facts::all(from, &mut |fact| {
        count += 1;
        if count.is_multiple_of(1000) && !goes_on() {
            return Err(IndexError::Closed);
        }
        framing::write(&fact, &mut buffer)?;
        if buffer.len() >= CHUNK {
            out.write_all(&buffer).map_err(IndexError::Log)?;
            buffer.clear();
        }
        Ok(())
    })?;
    framing::write(&Mark::End { facts: count }, &mut buffer)?;
    out.write_all(&buffer).map_err(IndexError::Log)?;
    Ok(count)
}
