//! What is in `deploy/`: its configurations load, its parts fit together, and nothing in it may do more than it needs.

use std::path::{Path, PathBuf};

use roadstead::config::Config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|err| panic!("deploy/{name}: {err}"))
}

fn load(text: &str) -> Config {
    Config::read(Some(text), Vec::new()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn the_container_listens_on_what_compose_publishes_and_stores_on_its_volume() {
    let compose = file("compose/compose.yaml");
    assert!(!compose.contains('\t'), "YAML is indented by spaces");
    let has = |line: &str| assert!(compose.lines().any(|l| l.trim() == line), "compose.yaml has no line {line}");
    let config = load(&file("compose/roadstead.toml"));
    for port in [config.server.listeners[0].address.port(), config.server.admin_listen.unwrap().port()] {
        has(&format!("- \"127.0.0.1:{port}:{port}\""));
    }
    has(&format!("- storage:{}", config.storage.path.display()));
    has("- ./roadstead.toml:/etc/roadstead/roadstead.toml:ro");
    has("command: [\"serve\", \"--config\", \"/etc/roadstead/roadstead.toml\"]");
    has("dockerfile: deploy/docker/Dockerfile");
    for line in ["read_only: true", "cap_drop: [ALL]", "security_opt: [\"no-new-privileges:true\"]"] {
        has(line);
    }
}

/// A probe reaches no loopback of a container.
#[test]
fn the_image_listens_for_probes_and_checks_its_own_health() {
    let dockerfile = file("docker/Dockerfile");
    let check = "CMD [\"/usr/local/bin/roadstead\", \"healthcheck\"]";
    for part in ["ROADSTEAD__SERVER__ADMIN_LISTEN=0.0.0.0:5001", "EXPOSE 5000 5001", "HEALTHCHECK", check] {
        assert!(dockerfile.contains(part), "{part} in\n{dockerfile}");
    }
}

/// One image, made in two ways.
#[test]
fn the_dockerfile_and_the_script_make_the_same_image() {
    let dockerfile = file("docker/Dockerfile").replace("\\\n", " ");
    let has = |text: &str| assert!(dockerfile.contains(text), "{text} in\n{dockerfile}");
    let image: serde_json::Value = serde_json::from_str(&file("image/config.json")).unwrap();
    let config = &image["config"];
    let texts = |key: &str| -> Vec<&str> {
        config[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    };
    texts("Env").into_iter().for_each(has);
    has(&format!("USER {}", config["User"].as_str().unwrap()));
    has(&format!("ENTRYPOINT [\"{}\"]", texts("Entrypoint").join("\", \"")));
    has(&format!("CMD [\"{}\"]", texts("Cmd").join("\", \"")));
    let ports: Vec<_> =
        config["ExposedPorts"].as_object().unwrap().keys().map(|key| key.trim_end_matches("/tcp")).collect();
    has(&format!("EXPOSE {}", ports.join(" ")));
    has("VOLUME /var/lib/roadstead");
    assert!(config["Volumes"]["/var/lib/roadstead"].is_object());
    let user = config["User"].as_str().unwrap();
    assert!(file("image/passwd").contains(&format!(":{user}:")));
    for part in ["FROM scratch\n", "COPY deploy/image/passwd deploy/image/group /etc/"] {
        has(part);
    }
    let chart = file("helm/roadstead/templates/statefulset.yaml");
    assert!(chart.contains(&format!("runAsUser: {}", user.split(':').next().unwrap())), "the chart has another user");
}

/// The lines of a block in a YAML file, without their indent.
fn block(text: &str, head: &str) -> String {
    let mut lines = text.lines().skip_while(|line| line.trim() != head).skip(1).peekable();
    let indent = lines.peek().map_or(0, |line| line.len() - line.trim_start().len());
    let inside = lines.take_while(|line| line.is_empty() || line.len() - line.trim_start().len() >= indent);
    inside.map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_configuration_of_the_cluster_loads_and_is_smaller_than_its_disk() {
    let manifests = file("kubernetes/roadstead.yaml");
    let config = load(&block(&manifests, "roadstead.toml: |"));
    let disk = manifests.lines().find_map(|line| line.trim().strip_prefix("storage: ")?.strip_suffix("Gi")).unwrap();
    let disk: u64 = disk.parse().unwrap();
    assert!(config.storage.limits.max_size.unwrap() < disk << 30);
    for (probe, path) in [("startupProbe:", "/livez"), ("livenessProbe:", "/livez"), ("readinessProbe:", "/readyz")] {
        let probe = block(&manifests, probe);
        assert!(probe.contains(&format!("path: {path}, port: admin")), "{probe}");
    }
    assert!(block(&manifests, "ports:").len() > 1);
}

#[test]
fn t89_pods_have_no_more_rights_than_they_need() {
    for name in ["kubernetes/roadstead.yaml", "kubernetes/nodes.yaml"] {
        let text = file(name);
        for forbidden in [
            "privileged: true",
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "ClusterRole",
            "SYS_ADMIN",
            "automountServiceAccountToken: true",
        ] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
        for needed in [
            "automountServiceAccountToken: false",
            "readOnlyRootFilesystem: true",
            "allowPrivilegeEscalation: false",
            "drop: [ALL]",
            "type: RuntimeDefault",
        ] {
            assert!(text.contains(needed), "{name} has no {needed}");
        }
    }
    let mirror = file("kubernetes/roadstead.yaml");
    assert!(
        mirror.contains("runAsNonRoot: true") && !mirror.contains("hostPath") && mirror.contains("kind: NetworkPolicy")
    );
    // The admin side is let in from nowhere, until somebody names who may scrape it.
    let policy = mirror.split("---").find(|part| part.contains("kind: NetworkPolicy")).unwrap();
    assert!(policy.contains("port: registry") && !policy.contains("port: admin"), "{policy}");
    // A node's pod sees the client's folder, and where what was there is kept.
    let nodes = file("kubernetes/nodes.yaml");
    let paths: Vec<_> = nodes.lines().filter_map(|line| line.trim().strip_prefix("hostPath: { path: ")).collect();
    assert_eq!(
        paths,
        ["/etc/containerd, type: DirectoryOrCreate }", "/var/lib/roadstead-clients, type: DirectoryOrCreate }"]
    );
}
