//! What a process uses, as the kernel counts it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The kernel counts CPU time for user programs in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Memory that belongs to the process alone, in KiB: heap and stacks, not the page cache.
pub(crate) fn private_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("RssAnon is a number of kB")
}

/// CPU seconds so far, of a process and its children.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    family(pid).map(|stat| stat.ticks as f64 / TICKS_PER_SECOND).sum()
}

/// CPU seconds so far, of this process alone.
pub(crate) fn own_cpu_seconds() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| stat.ticks as f64 / TICKS_PER_SECOND)
}

/// Bytes that a process has written so far, to sockets and files, by whatever call.
pub(crate) fn written_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("the process runs");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("Linux tells wchar");
    line.parse().expect("wchar is a number of bytes")
}

/// Open file descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// A process and its children.
fn family(pid: u32) -> impl Iterator<Item = Stat> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(stat).filter(move |stat| stat.pid == pid || stat.parent == pid)
}

struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// Nothing for a process that has just ended.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, numbers) = line.rsplit_once(')')?;
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    let number = |index: usize| numbers.get(index)?.parse::<u64>().ok();
    Some(Stat { pid, parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

/// Looks at a process's private memory again and again, on a thread of its own.
pub(crate) struct PeakMemory {
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl PeakMemory {
    /// Of a process and the children that it has now, together.
    pub(crate) fn watch(pid: u32) -> Self {
        let pids: Vec<u32> = family(pid).map(|stat| stat.pid).collect();
        let (peak_kib, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (peak, stopped) = (Arc::clone(&peak_kib), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = pids.iter().map(|pid| private_kib(*pid)).sum();
                peak.fetch_max(now, Ordering::Relaxed);
                thread::park_timeout(SAMPLE_EVERY);
            }
        });
        Self { peak_kib, stop, thread }
    }

    /// The most that was seen, in KiB.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the process runs until its memory is no longer watched");
        self.peak_kib.load(Ordering::Relaxed)
    }
}
