//! Another machine: a network namespace with a wire to this one, which may begin to swallow packets.
//!
//! The namespace has no name: it goes with its last process, and the wire with it, however the bench ends.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{self, Command};
use std::thread;

use super::{LOOK_EVERY, Program, command, find, run};

/// RFC 2544 sets 198.18.0.0/15 aside for benchmarks.
const HERE: &str = "198.18.77.1/30";
const THERE: &str = "198.18.77.2/30";
const LOOKS: usize = 2000;

pub(crate) struct Namespace {
    /// Does nothing, in the namespace.
    holder: Program,
}

impl Namespace {
    pub(crate) fn new(folder: &Path) -> Self {
        let mut sleep = command(&find("unshare"));
        sleep.args(["--net", "--"]).arg(find("sleep")).arg("infinity");
        let namespace = Self { holder: Program::start("namespace", folder, &mut sleep) };
        namespace.is_made();
        let (here, there) = (format!("rsb{}", process::id()), "rsb");
        let holder = namespace.holder.pid().to_string();
        ip(&["link", "add", &here, "type", "veth", "peer", "name", there, "netns", &holder]);
        ip(&["address", "add", HERE, "dev", &here]);
        ip(&["link", "set", &here, "up"]);
        for arguments in [&["address", "add", THERE, "dev", there][..], &["link", "set", there, "up"]] {
            run(namespace.command(&find("ip")).args(arguments));
        }
        namespace
    }

    /// The holder has its namespace a moment after it was started.
    fn is_made(&self) {
        let net_of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let own = net_of("self").expect("Linux has network namespaces");
        let made = (0..LOOKS).any(|_| {
            thread::park_timeout(LOOK_EVERY);
            net_of(&self.holder.pid().to_string()).is_ok_and(|net| net != own)
        });
        assert!(made, "there is no network namespace; making one needs root. It said:\n{}", self.holder.said());
    }

    /// Its address, seen from here.
    pub(crate) const fn ip() -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 18, 77, 2))
    }

    /// A program on the other machine.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = command(&find("nsenter"));
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).arg("--").arg(program);
        command
    }

    /// From now on, what arrives there is dropped: no refusal, no reset, no answer.
    pub(crate) fn swallow(&self) {
        run(self.command(&find("iptables")).args(["-A", "INPUT", "-j", "DROP"]));
    }

    pub(crate) fn heal(&self) {
        run(self.command(&find("iptables")).args(["-D", "INPUT", "-j", "DROP"]));
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new(find("ip")).args(arguments));
}
