//! nginx with static files: what the machine can do.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Program, command, find, free_address};

pub(crate) struct Nginx {
    program: Program,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// With nothing to serve yet.
    pub(crate) async fn start(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("files/v2")).expect("nginx's folder is new");
        fs::write(folder.join("files/v2/ready"), "").expect("nginx's folder is writable");
        let address = free_address();
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&folder, address)).expect("nginx's folder is writable");
        let mut command = command(&find("nginx"));
        command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(&folder);
        let mut program = Program::start("nginx", &folder, &mut command);
        program.ready(address, "/v2/ready").await;
        Self { program, folder, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Serves a file under a path: the same file, not a copy, so that both have it in the page cache.
    pub(crate) fn serve(&self, file: &Path, path: &str) {
        let link = self.folder.join("files").join(path.trim_start_matches('/'));
        let parent = link.parent().expect("a file is in a folder");
        fs::create_dir_all(parent).expect("nginx's folder is writable");
        fs::hard_link(file, link).expect("both folders are on one disk");
    }
}

/// As an operator would set it up for speed, with one access-log line per request, as Roadstead writes.
///
/// Roadstead's files are for its user alone, so nginx's workers must be the same user.
fn configuration(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nuser root;\npid {folder}/nginx.pid;\nworker_processes auto;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log {folder}/access.log;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\n\
         open_file_cache max=1000 inactive=1h;\ndefault_type application/octet-stream;\n\
         client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\nfastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n\
         server {{ listen {address}; location / {{ root {folder}/files; }} }}\n\
         }}\n"
    )
}
