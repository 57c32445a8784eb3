//! nginx in front of a registry, as sites have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{self, Process};
use super::registry::Registry;
use super::{curl, port, program};

const READY_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Nginx {
    pub(crate) port: u16,
    _process: Process,
}

impl Nginx {
    /// Passes everything on to the registry, and closes connections that were idle for a second.
    pub(crate) fn in_front_of(registry: &Registry, parent: &Path) -> Self {
        let folder = parent.join("nginx");
        fs::create_dir(&folder).expect("nginx's folder is new");
        let mut started = None;
        port::take("nginx", |port| {
            let file = configuration(&folder, port, registry);
            let mut command = process::command(program::find("nginx"));
            command.arg("-e").arg(folder.join("errors")).arg("-c").arg(&file).current_dir(&folder);
            let mut process = Process::start("nginx", &folder, &mut command);
            let url = format!("http://127.0.0.1:{port}/v2/");
            let ready = process
                .becomes_ready(READY_LIMIT, || curl::ask(&folder, &[&url]).is_some_and(|answer| answer.status == 200));
            started = Some((port, process));
            ready
        });
        let (port, process) = started.expect("nginx was started");
        Self { port, _process: process }
    }
}

fn configuration(folder: &Path, port: u16, registry: &Registry) -> PathBuf {
    let file = folder.join("nginx.conf");
    let (path, upstream) = (folder.display(), registry.url());
    let text = format!(
        "daemon off;\n\
         master_process off;\n\
         pid {path}/pid;\n\
         error_log {path}/errors;\n\
         events {{}}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {path}/body;\n\
           proxy_temp_path {path}/proxy;\n\
           fastcgi_temp_path {path}/fastcgi;\n\
           uwsgi_temp_path {path}/uwsgi;\n\
           scgi_temp_path {path}/scgi;\n\
           keepalive_timeout 1s;\n\
           server {{\n\
             listen 127.0.0.1:{port};\n\
             location / {{ proxy_pass {upstream}; proxy_set_header Host $http_host; }}\n\
           }}\n\
         }}\n"
    );
    fs::write(&file, text).expect("nginx's folder is writable");
    file
}
