//! The files of clients, as `roadstead client-config` lays them out on a machine.

use super::machine::Machine;
use super::mirror::Mirror;
use super::process;

/// Sets up `client` of `machine` for `mirror`: `more` is what a user may add.
pub(crate) fn lay_out(client: &str, machine: &Machine, mirror: &Mirror, more: &[&str]) {
    run(machine, &["client-config", client, "--mirror", &mirror.url(), "--write", &machine.path("")], |command| {
        command.args(more);
        if let Some(authority) = mirror.authority() {
            command.arg("--ca").arg(authority);
        }
    });
}

/// Gives back what was there.
pub(crate) fn undo(client: &str, machine: &Machine) {
    run(machine, &["client-config", client, "--undo", &machine.path("")], |_| {});
}

fn run(machine: &Machine, arguments: &[&str], more: impl FnOnce(&mut std::process::Command)) {
    let mut command = process::command(env!("CARGO_BIN_EXE_roadstead"));
    command.args(arguments).current_dir(machine.folder());
    more(&mut command);
    process::run("client-config", machine.folder(), &mut command);
}
