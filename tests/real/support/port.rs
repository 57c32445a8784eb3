//! Ports for programs that cannot say which one they got.

use std::net::TcpListener;

/// Between our letting go of a free port and the program's taking it, another process may take it.
const TRIES: usize = 5;

/// Has `start` try free ports until it reports success.
pub(crate) fn take(name: &str, mut start: impl FnMut(u16) -> bool) {
    let started = (0..TRIES).any(|_| start(free()));
    assert!(started, "{name} ended at once, on each of {TRIES} ports");
}

pub(crate) fn free() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
