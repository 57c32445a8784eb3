use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use roadstead::clock::Clock;
use roadstead::index::{back_up, count_backup};

use crate::cli::output::{failed, print};
use crate::cli::reach::server::Upload;
use crate::cli::reach::{Reach, Site, as_owner, offline_storage};

/// Writes a backup to `to`, or to a new file in it if that is a directory: whole, or not at all. `-` is standard output, which
/// may end early: a complete backup has a last line that says so.
pub(in crate::cli) fn run(reach: &Reach, to: &Path) -> Result<(), ExitCode> {
    let no_backup = |err: io::Error| failed(&format!("no backup was made: {err}"));
    if to == Path::new("-") {
        let out = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(no_backup)?;
        return write(reach, &reach.find()?, out)?.map(drop).map_err(no_backup);
    }
    let to = if to.is_dir() {
        to.join(format!("roadstead-{}.facts", Clock::default().now().as_millis()))
    } else {
        to.into()
    };
    let (part, out) = create(&to).map_err(|err| failed(&format!("no backup was made: {}: {err}", to.display())))?;
    let done = reach.find().and_then(|site| {
        let named = write(reach, &site, out)?.and_then(|out| finish(out, &part, &to));
        named.map_err(no_backup)
    });
    match done {
        Ok(facts) => print(&format!("{facts} facts are in {}; blobs are not in it", to.display())),
        Err(code) => {
            let _left = std::fs::remove_file(&part);
            return Err(code);
        }
    }
    Ok(())
}

/// A new file beside `to`, readable by its owner only: facts name private repositories, and the directory may be shared.
fn create(to: &Path) -> io::Result<(PathBuf, File)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".part-{:016x}", u64::from_le_bytes(random)));
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).custom_flags(no_link).open(&name)?;
    Ok((name.into(), file))
}

fn write(reach: &Reach, site: &Site, out: File) -> Result<io::Result<File>, ExitCode> {
    let config = match site {
        Site::Running(server) => {
            let mut answer = server.ask("GET", "/api/v1/backup", Upload::Nothing)?;
            if !answer.is_success() {
                return Ok(Err(io::Error::other(answer.refusal())));
            }
            return Ok(io::copy(&mut answer.body, &mut &out).map(|_| out));
        }
        Site::Stopped(config) => config,
    };
    if let Some(owner) = as_owner::other_owner(&config.storage.path)? {
        // Into the file that is open here: the owner may not be allowed to make one there.
        let mut command = owner.command_of("backup", reach.file());
        match out.try_clone() {
            Ok(out) => command.arg("-").stdout(out),
            Err(err) => return Ok(Err(err)),
        };
        let code = owner.run(command);
        return if code == ExitCode::SUCCESS { Ok(Ok(out)) } else { Err(code) };
    }
    crate::cli::block_on(async {
        let storage = tokio::task::block_in_place(|| offline_storage::open(config))?;
        let written = match out.try_clone() {
            Ok(clone) => back_up(&storage.index, clone).await.map_err(io::Error::other),
            Err(err) => Err(err),
        };
        storage.close().await;
        Ok(written.map(|_| out))
    })
}

/// Reads the backup again and gives it its name, durably. Returns how many facts are in it.
fn finish(mut out: File, part: &Path, to: &Path) -> io::Result<u64> {
    out.sync_all()?;
    // A truncated backup is found now, and not when it is needed.
    out.rewind()?;
    let facts = count_backup(out).map_err(io::Error::other)?;
    // Replaces a symlink of this name instead of writing to its target.
    std::fs::rename(part, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    Ok(facts)
}
