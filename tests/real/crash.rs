//! Roadstead dies in the middle of a pull.

use std::time::Duration;

use crate::clients::{Client, Containerd};
use crate::support::image::Image;
use crate::support::mirror::{Mirror, Transport};
use crate::support::process::Process;
use crate::support::registry::{REPOSITORY, Registry};
use crate::support::throttle::Throttle;
use crate::support::upstreams::HUB;
use crate::support::{wait, work_folder};

const LAYER_BYTES: usize = 32 << 20;
/// Fast enough for a short test, slow enough that the layer is under way when the mirror dies.
const BYTES_PER_SECOND: u32 = 8 << 20;

#[test]
fn a_pull_succeeds_after_the_mirror_was_killed_in_the_middle_of_it() {
    let folder = work_folder();
    let folder = folder.path();
    let mut registry = Registry::open(folder);
    let image = Image::big(folder, "big", "crash", LAYER_BYTES);
    registry.push(&image);
    let line = Throttle::start(registry.port, BYTES_PER_SECOND);
    let upstream = format!("[upstreams.\"{HUB}\"]\nurl = \"http://127.0.0.1:{}\"\n", line.port);
    let mut mirror = Mirror::start(folder, Transport::Plain, &upstream);

    let node = Containerd::set_up(folder, "m1", &mirror);
    let reference = format!("{HUB}/{REPOSITORY}:{}", image.tag);
    let mut pull = Process::start("ctr-pull", node.folder(), &mut node.pull_command(&reference));
    let a_quarter = LAYER_BYTES as u64 / 4;
    wait::until("a quarter of the layer to arrive", Duration::from_mins(1), || {
        (line.passed() > a_quarter).then_some(())
    });
    mirror.kill();
    let status = wait::until("the pull to end", Duration::from_mins(2), || pull.exited());
    assert!(!status.success(), "the mirror died too late to matter");
    let before = line.passed();
    assert!(before < LAYER_BYTES as u64, "the mirror died too late to matter");

    line.lift();
    mirror.restart();
    assert_eq!(node.pull(HUB, &image), image.digest());
    println!("of {LAYER_BYTES} bytes, {before} came before the crash and {} after it", line.passed() - before);

    // A blob that was put together over a crash must be stored for good.
    registry.stop();
    let other = Containerd::set_up(folder, "m2", &mirror);
    assert_eq!(other.pull(HUB, &image), image.digest());
}
