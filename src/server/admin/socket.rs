//! The unix socket that commands use: whoever may open it may do everything.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket};

/// Commands that wait to be let in.
const BACKLOG: u32 = 16;

/// Binds it, for its owner only. A socket that a killed process left is replaced; one that a living process answers is not.
/// Blocking, shortly: the storage is locked already, so that no other server of it is there.
pub(in crate::server) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(err),
    }
    let socket = UnixSocket::new_stream()?;
    // Before it has a name: nobody else can open it in between.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}
