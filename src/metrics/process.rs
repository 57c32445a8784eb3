//! Figures of this process, by the names that Prometheus' own clients use. They are read when somebody asks for them.

use std::fmt::{self, Write};
use std::time::SystemTime;

/// Ticks of `/proc` in a second, which Linux fixes for its user space.
const TICKS: f64 = 100.0;

/// When the process began, in seconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started(f64);

impl Started {
    pub(super) fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a moment in the system's time, as every process shows it")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(now.unwrap_or_default().as_secs_f64())
    }
}

/// Appends what can be found out.
pub(super) fn encode(out: &mut String, Started(started): Started) -> fmt::Result {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        counter(out, "process_cpu_seconds", "seconds", "CPU time of this process", seconds)?;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, key, help) in [
        ("process_resident_memory_bytes", "VmRSS:", "Memory of this process that is resident"),
        ("process_virtual_memory_bytes", "VmSize:", "Address space of this process"),
    ] {
        if let Some(kibibytes) = number_after(&status, key) {
            gauge(out, name, Some("bytes"), help, kibibytes.saturating_mul(1024) as f64)?;
        }
    }
    if let Some(threads) = number_after(&status, "Threads:") {
        gauge(out, "process_threads", None, "Threads of this process", threads as f64)?;
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the list itself.
        gauge(out, "process_open_fds", None, "Open file descriptors", open.count().saturating_sub(1) as f64)?;
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(most) = most {
        gauge(out, "process_max_fds", None, "Most file descriptors that may be open", most as f64)?;
    }
    gauge(out, "process_start_time_seconds", Some("seconds"), "When this process began, since 1970", started)
}

/// User and system time. The name of the program comes before them, in parentheses, and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS)
}

fn number_after(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

fn counter(out: &mut String, name: &str, unit: &str, help: &str, value: f64) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}.\n# TYPE {name} counter\n# UNIT {name} {unit}\n{name}_total {value}")
}

fn gauge(out: &mut String, name: &str, unit: Option<&str>, help: &str, value: f64) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}.\n# TYPE {name} gauge")?;
    if let Some(unit) = unit {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    writeln!(out, "{name} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_that_looks_like_more_fields() {
        let stat = "7 (a ) 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(number_after("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
