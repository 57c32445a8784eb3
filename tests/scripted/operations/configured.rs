//! Where the configuration comes from, and what is told about values that are hardly meant.

use roadstead::config::Config;

use super::program::{Program, run, stderr};
use crate::support::upstream::*;

fn problems(toml: &str) -> Vec<String> {
    let problems = Config::read(Some(toml), Vec::new()).err().unwrap_or_else(|| panic!("{toml}"));
    problems.0.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

fn doubts(toml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::read(Some(toml), environment).unwrap_or_else(|problems| panic!("{problems}"));
    config.doubts.iter().map(|doubt| format!("{}: {}", doubt.key, doubt.message)).collect()
}

#[test]
fn a_name_with_dots_and_without_quotes_is_answered_with_the_quotes() {
    let told = problems("[upstreams.docker.io]\n[upstreams.registry.k8s.io]\nurl = \"https://registry.k8s.io\"\n");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("upstreams.\"docker.io\": must be in quotes"), "{told:?}");
    assert!(told[1].starts_with("upstreams.\"registry.k8s.io\": must be in quotes"), "{told:?}");
    // One without dots needs none.
    assert!(Config::read(Some("[upstreams.localhost]\nurl = \"http://localhost:1\"\n"), Vec::new()).is_ok());
}

#[test]
fn a_variable_with_one_underscore_is_told_and_those_of_kubernetes_are_not() {
    let told = doubts("", &[("ROADSTEAD_SERVER_LISTEN", "x"), ("ROADSTEAD_LOG", "x"), ("OTHER", "x")]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("ROADSTEAD_SERVER_LISTEN: ") && told[0].contains("ROADSTEAD__SERVER__LISTEN"),
        "{told:?}"
    );
    assert!(told[1].starts_with("ROADSTEAD_LOG: "), "{told:?}");
    let of_a_service = ["ROADSTEAD_SERVICE_HOST", "ROADSTEAD_PORT", "ROADSTEAD_PORT_5000_TCP_ADDR"];
    assert_eq!(doubts("", &of_a_service.map(|name| (name, "10.0.0.1"))), Vec::<String>::new());
}

#[test]
fn sizes_that_are_hardly_meant_are_told() {
    let told = doubts("[storage]\nmin_free = 5\nmax_size = \"900PiB\"\n", &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("storage.min_free: is a number of bytes")), "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("storage.max_size: is more than the whole disk")), "{told:?}");
    let told = doubts("[storage]\nmin_free = \"900PiB\"\n", &[]);
    assert!(told.len() == 1 && told[0].contains("nothing is stored"), "{told:?}");
    let meant = "[storage]\nmin_free = \"5B\"\nmax_size = 10000000\n";
    assert_eq!(doubts(meant, &[]), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_hardly_meant_is_told_at_the_start_and_by_check_config() {
    let program = Program::of("[storage]\npath = \"data\"\nmin_free = 5\n").await;
    let told = program.line("has no unit").await;
    assert!(told.contains("WARN") && told.contains("storage.min_free"), "{told}");
    let file = program.directory.path().join("the.toml");
    let checked = run(&["check-config", "-c", file.to_str().unwrap()], &[]);
    assert!(
        checked.status.success() && stderr(&checked).contains("storage.min_free: is a number"),
        "{}",
        stderr(&checked)
    );
}

/// A file that is there, or would be in a directory that is there, is no secret in the wrong place.
#[test]
fn a_problem_with_a_file_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let (absent, empty) = (directory.path().join("absent.pem"), directory.path().join("empty.pem"));
    std::fs::write(&empty, "").unwrap();
    let (absent, empty) = (absent.display(), empty.display());
    for (toml, named) in [
        (format!("[server]\ntls = {{ certificate = \"{absent}\", key = \"{absent}\" }}\n"), &absent),
        (format!("[server]\ntls = {{ certificate = \"{empty}\", key = \"{absent}\" }}\n"), &empty),
        (format!("[upstreams.\"quay.io\"]\nca = \"{empty}\"\n"), &empty),
        (format!("[server]\nadmin_token_file = \"{absent}\"\n"), &absent),
    ] {
        let told = problems(&toml);
        assert!(told.len() == 1 && told[0].contains(&named.to_string()), "{toml}: {told:?}");
    }
}

#[tokio::test]
async fn without_config_a_file_beside_the_server_is_read_and_the_first_line_says_so() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("roadstead.toml"), "[storage]\npath = \"mine\"\n[upstreams.\"quay.io\"]\n")
        .unwrap();
    let program = Program::start_with(directory, &[], &[]).await;
    let log = program.log();
    assert!(log.lines().next().unwrap().contains("configuration=\"./roadstead.toml\""), "{log}");
    assert!(program.line("serving ").await.contains("serving quay.io"));
    assert!(program.directory.path().join("mine").is_dir());
    let nothing = Program::serve(&[]).await;
    assert!(nothing.log().lines().next().unwrap().contains("the environment (there is neither"), "{}", nothing.log());
}

#[tokio::test]
async fn a_trial_needs_no_file() {
    let upstream = Upstream::start().await;
    let digest = upstream.blob("org/app", blob(1000, 1));
    let directory = tempfile::tempdir().unwrap();
    let named = format!("registry.test={}", upstream.url());
    let arguments = ["--listen", "127.0.0.1:0", "--storage", "trial", "--upstream", named.as_str()];
    // The command line stands above the environment.
    let environment = [("ROADSTEAD__STORAGE__PATH", "elsewhere")];
    let program = Program::start_with(directory, &arguments, &environment).await;
    assert_eq!(program.client().get(&format!("/v2/org/app/blobs/{digest}")).await.status, 200);
    assert!(program.line("serving ").await.contains("serving registry.test"));
    assert!(program.directory.path().join("trial").is_dir() && !program.directory.path().join("elsewhere").exists());
}

#[test]
fn a_mistake_on_the_command_line_is_told_by_its_option() {
    let output = run(&["serve", "--listen", "nowhere", "--upstream", "quay.io"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("it is set by --listen"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_health_check_is_the_programs_own() {
    let program = Program::of("[storage]\npath = \"data\"\n").await;
    let admin = program.admin.to_string();
    // Without the socket's file, it asks the admin address.
    for storage in [program.directory.path().join("data"), program.directory.path().join("none")] {
        let environment = [
            ("ROADSTEAD__SERVER__ADMIN_LISTEN", admin.as_str()),
            ("ROADSTEAD__STORAGE__PATH", storage.to_str().unwrap()),
        ];
        let healthy = run(&["healthcheck"], &environment);
        assert!(healthy.status.success(), "{}", stderr(&healthy));
        assert_eq!(String::from_utf8_lossy(&healthy.stdout), "ready\n");
    }
    let environment =
        [("ROADSTEAD__SERVER__ADMIN_LISTEN", "127.0.0.1:9"), ("ROADSTEAD__STORAGE__PATH", "/nonexistent/x")];
    let unhealthy = run(&["healthcheck"], &environment);
    assert_eq!(unhealthy.status.code(), Some(1), "{}", stderr(&unhealthy));
}
