//! nginx: with static files, what the machine can do; with `proxy_cache`, what sites without a mirror use.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Program, Secure, command, find, free_address};

pub(crate) struct Nginx {
    program: Program,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) secure_address: Option<SocketAddr>,
}

impl Nginx {
    /// Static files, with nothing to serve yet. With TLS, at another port too.
    pub(crate) async fn files(folder: PathBuf, secure: Option<&Secure>) -> Self {
        fs::create_dir_all(folder.join("files/v2")).expect("nginx's folder is new");
        fs::write(folder.join("files/v2/ready"), "").expect("nginx's folder is writable");
        let location = format!("location / {{ root {}/files; }}", folder.display());
        Self::start(folder, "", &location, secure).await
    }

    /// A cache in front of a registry. Whoever asks for what is being fetched waits until it is there.
    ///
    /// With larger buffers than nginx's own of 4 KiB, as whoever has it fetch layers sets them.
    pub(crate) async fn proxy(folder: PathBuf, upstream: SocketAddr) -> Self {
        fs::create_dir(&folder).expect("nginx's folder is new");
        let cache = format!(
            "proxy_cache_path {}/cache levels=1:2 keys_zone=c:32m max_size=64g inactive=1d use_temp_path=off;\n\
             upstream registry {{ server {upstream}; keepalive 64; }}\n",
            folder.display(),
        );
        let location = "location = /v2/ready { return 200; }\n\
             location / {\n\
             proxy_pass http://registry;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             proxy_cache c;\nproxy_cache_key $uri;\nproxy_cache_valid 200 1h;\n\
             proxy_cache_lock on;\nproxy_cache_lock_timeout 1h;\nproxy_cache_lock_age 1h;\n\
             proxy_buffer_size 64k;\nproxy_buffers 32 64k;\nproxy_busy_buffers_size 256k;\n\
             }";
        Self::start(folder, &cache, location, None).await
    }

    async fn start(folder: PathBuf, http: &str, location: &str, secure: Option<&Secure>) -> Self {
        let (address, secure_address) = (free_address(), secure.map(|_| free_address()));
        let listen = secure_address.zip(secure).map(|(at, secure)| {
            format!(
                "listen {at} ssl;\nssl_certificate {};\nssl_certificate_key {};\nssl_protocols TLSv1.3;\n",
                secure.certificate.display(),
                secure.key.display(),
            )
        });
        let server = format!("listen {address};\n{}{location}", listen.unwrap_or_default());
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&folder, http, &server)).expect("nginx's folder is writable");
        let mut command = command(&find("nginx"));
        command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(&folder);
        let mut program = Program::start("nginx", &folder, &mut command);
        program.ready(address, "/v2/ready").await;
        Self { program, folder, address, secure_address }
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
fn configuration(folder: &Path, http: &str, server: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nuser root;\npid {folder}/nginx.pid;\nworker_processes auto;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         access_log {folder}/access.log;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\n\
         open_file_cache max=1000 inactive=1h;\ndefault_type application/octet-stream;\n\
         client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\nfastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n\
         {http}server {{\n{server}\n}}\n\
         }}\n"
    )
}
