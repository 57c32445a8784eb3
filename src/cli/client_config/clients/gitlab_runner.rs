//! GitLab Runner with the Docker executor: dockerd in jobs (`docker:dind`) gets a `daemon.json`. The images of jobs are pulled
//! by the runner's own Docker, which is a client of its own.

use super::merge::Merge;
use super::{OPEN, Plan, SECRET, Wanted, certificates, docker, quoted};

const FOLDER: &str = "etc/gitlab-runner/roadstead";

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("Docker's daemon.json")?;
    wanted.refuse_strict("Docker", "keep its runners from Docker Hub by the network")?;
    let mut volumes = vec![format!("/{FOLDER}/daemon.json:/etc/docker/daemon.json:ro")];
    let mut plan = Plan::default();
    plan.file(format!("{FOLDER}/daemon.json"), docker::daemon_json(wanted), OPEN);
    if wanted.ca.is_some() || wanted.identity.is_some() {
        volumes.push(format!("/{FOLDER}/certs.d:/etc/docker/certs.d:ro"));
    }
    let folder = format!("{FOLDER}/certs.d/{}", wanted.mirror.address);
    certificates(
        &mut plan,
        wanted,
        &format!("{folder}/ca.crt"),
        &format!("{folder}/client.cert"),
        &format!("{folder}/client.key"),
    );
    let list: Vec<_> = volumes.iter().map(|volume| quoted(volume)).collect();
    let config = format!(
        "# For each runner that uses Docker.\n[[runners]]\n[runners.docker]\nvolumes = [{}]\n",
        list.join(", ")
    );
    plan.merged("etc/gitlab-runner/config.toml", config, SECRET, Merge::GitlabRunner(volumes));
    plan.then("no restart: the runner reads config.toml again by itself");
    plan.then("images of jobs are pulled by the Docker of the runner's machine: roadstead client-config docker");
    Ok(plan)
}
