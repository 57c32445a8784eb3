//! The application's log lines, by thread: all tasks of a test run on its own thread.
//!
//! One subscriber for the whole process, because `tracing` forgets lines whose first use was on a thread that no
//! subscriber listened to.

#![allow(dead_code, reason = "each test uses a part")]

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log of this thread from its beginning on, at every level, as JSON lines.
pub(crate) struct Log {
    /// It belongs to the thread it began on.
    lines: &'static std::thread::LocalKey<RefCell<Option<Vec<u8>>>>,
}

impl Log {
    pub(crate) fn begin() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let own = Targets::new().with_target("roadstead", LevelFilter::TRACE).with_default(LevelFilter::WARN);
            let layer = tracing_subscriber::fmt::layer().json().with_writer(|| ThreadLog).with_filter(own);
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
                .expect("nobody else listens in this process");
        });
        LINES.set(Some(Vec::new()));
        Self { lines: &LINES }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.with_borrow(|lines| String::from_utf8_lossy(lines.as_deref().unwrap_or_default()).into_owned())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
